"""Tables and figures: what they declare, resume and render."""

import dataclasses
import math
import re

import jax
import pytest
from invented import ALL, RECORD, RESULTS, Invented, record

from experiments.ledger import execute, plan, runs, scales, texts, work
from experiments.ledger.records import spread
from experiments.ledger.store import Stored
from experiments.paper import headline, reproduce
from experiments.paper import printed as paper
from experiments.render import report
from stale_adam.training import resume

NAMES = [module.__name__.split('.')[-1] for module in reproduce.EXPERIMENTS]


def test_tables_declare_the_papers_cells():
  count = lambda name: len(set(reproduce.EXPERIMENTS[NAMES.index(name)].RUNS))
  assert count('table1') == 8 * 2 * 2 + 2  # Two seeds more at the highest rate.
  assert count('table3') == 5 * 2 * 3 + 2 * 2 * 3
  assert count('table4') == 3 * 2 * 3
  assert count('table5') == 2 * 3 * 3 + 2 * 3 + 7
  assert count('figure1') == 4 * 2
  assert count('figure2') == 5 * 3 + 4 + 2 * 7
  assert count('figure3') == 5 * 3 + 4 + 2 * 7
  rates = {run.learning_rate for run in ALL if run.optimizer == 'adam'}
  assert {0.0002, 0.0003, 0.0006, 0.00375} <= rates


@pytest.mark.parametrize('scale', scales.SCALES)
def test_names_tell_all_runs_apart(scale):
  own = [r for r in dict.fromkeys(ALL) if r.pair in scales.SCALES[scale].pairs]
  names = {runs.name(scale, run) for run in own}
  # Where nothing is smoothed, a run without smoothing is the usual one.
  assert len(names) == len({runs.at(scale, run) for run in own})
  assert all(re.fullmatch(r'[\w.=-]+', name) for name in names)


@pytest.mark.parametrize('scale', scales.SCALES)
def test_learning_rates_keep_the_papers_ratios(scale):
  size, factor = scales.SCALES[scale], scales.rate_factor(scale)
  for model, rate in paper.LEARNING_RATE.items():
    ours = size.models[model].learning_rate
    assert ours == pytest.approx(factor * rate)


@pytest.fixture
def made(monkeypatch):
  """Names of the runs made, in no time; the third is killed once (None)."""
  names = []

  def run(settings, task, out, kind, scale, name, **more):
    del task, out, more
    if len(names) == 2:
      names.append(None)
      raise resume.Interrupted(2, 'interrupted')
    names.append(name)
    digest = texts.sha256(scale, settings.pair, None)
    text = {'name': 'the grammar', 'sha256': digest}
    fields = {'experiment': kind, 'scale': scale, 'run': name, 'text': text}
    return RECORD | fields | {'config': settings.config()}

  monkeypatch.setattr(execute, 'execute', run)
  monkeypatch.setattr(work, 'task_of', lambda *_: None)
  return names


def test_a_kill_loses_one_run_and_none_is_repeated(made, tmp_path, capsys):
  wanted = runs.seeds([runs.base('rnn', paper.SYNC)])
  twice = [*wanted, wanted[0]]  # As when two tables share a run.
  with pytest.raises(resume.Interrupted):
    work.complete(twice, Stored('micro', tmp_path), None, tmp_path)
  work.complete(twice, Stored('micro', tmp_path), None, tmp_path)
  names = [runs.name('micro', run) for run in wanted]
  assert made == [*names[:2], None, names[2]]
  assert 'minutes left' in capsys.readouterr().out


def test_no_run_is_begun_that_would_end_too_late(made, tmp_path, capsys):
  wanted = runs.seeds([runs.base('rnn', paper.SYNC)])
  records = Stored('micro', tmp_path)
  # Each record says that it took 30 s for 0.4 epochs; these have 0.05.
  soon, late = 3.7 / 60, 30 / 60
  work.complete(wanted, records, None, tmp_path, minutes=0)
  assert not made
  assert 'after 0 minutes' in capsys.readouterr().out
  work.complete(wanted[:1], records, None, tmp_path, minutes=1)
  work.complete(wanted, records, None, tmp_path, minutes=soon)
  assert made == [runs.name('micro', wanted[0])]
  printed = capsys.readouterr().out
  assert f'after {soon:g} minutes' in printed
  assert printed.endswith(
    '\n'.join(['', *(runs.name('micro', run) for run in wanted[1:]), ''])
  )
  work.complete(wanted[:2], records, None, tmp_path, minutes=late)
  assert made == [runs.name('micro', run) for run in wanted[:2]]


def test_what_a_directory_holds_stops_no_other_run(made, tmp_path, monkeypatch):
  wanted = runs.seeds([runs.base('rnn', paper.SYNC)])[:2]
  records, make = Stored('micro', tmp_path), execute.execute

  def refuse(settings, *args, **more):
    if settings.seed == 0:
      raise FileExistsError('the directory holds another run')
    return make(settings, *args, **more)

  monkeypatch.setattr(execute, 'execute', refuse)
  with pytest.raises(FileExistsError, match='not made, 1:\n.*another'):
    work.complete(wanted, records, None, tmp_path)
  assert made == [runs.name('micro', wanted[1])]
  assert records.get(wanted[0]) is None and records.get(wanted[1])


def test_only_chooses_runs_by_name():
  wanted = runs.seeds([runs.base(m, paper.SYNC) for m in paper.LEARNING_RATE])
  assert plan.only(wanted, 'micro', None) == wanted
  assert plan.only(wanted, 'micro', '^rnn.*seed[02]') == wanted[3::2]
  with pytest.raises(ValueError, match='matches none of 6 runs'):
    plan.only(wanted, 'micro', 'transformers')
  with pytest.raises(ValueError, match='not a regular expression'):
    plan.only(wanted, 'micro', '(')


def test_every_table_renders_without_records(tmp_path):
  for module in reproduce.EXPERIMENTS:
    text = module.report(Stored('small', tmp_path))
    assert text and 'nan' not in text


@pytest.mark.slow
def test_every_table_renders_where_nothing_is_learnt(tmp_path):
  same = record(0.0, 5.0, [(10.0, 0.0), (20.0, 0.0)])
  same |= {'mean_staleness': 0.0, 'test_bleu': {'test': 0.0}}
  said = {'source': 'A dog.', 'reference': 'Ein Hund.', 'translation': ''}
  same |= {'examples': [said]}
  dead = {dataclasses.replace(run, seed=0): same for run in ALL}
  for module in reproduce.EXPERIMENTS:
    assert 'nan' not in module.report(Invented(dead))
    if hasattr(module, 'draw'):
      module.draw(tmp_path / 'figure.png', Invented(dead))


def test_translations_are_shown_where_there_are_any():
  said = {'source': 'A *dog*.', 'reference': 'Ein Hund.', 'translation': ''}
  of = lambda run, **more: {run: record(1.0) | more}
  first, second, third = headline.LINES['transformer'].values()
  found = of(first, examples=[said]) | of(second) | of(third, examples=[said])
  text = headline.translations(Invented(found))
  names = (paper.SYNC, paper.GLOBAL)
  assert text == [
    r'**A \*dog\*.**',
    '\n'.join(
      ['- *reference*: Ein Hund.', *(f'- *{n}*: (nothing)' for n in names)]
    ),
  ]
  assert headline.translations(Invented(of(second))) == []


@pytest.mark.slow
def test_a_real_run_is_kept_and_rendered(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  table = reproduce.EXPERIMENTS[NAMES.index('table5')]
  records = Stored('micro', tmp_path)
  work.complete(table.RUNS[:1], records, None, tmp_path)
  found = records.get(table.RUNS[0])
  assert found['run'] == runs.name('micro', table.RUNS[0])
  text = report.render(table, tmp_path, [records])
  assert f'{found["best_bleu"]:.1f} |' in text and 'not run yet' in text
  assert text == (tmp_path / 'table5.md').read_text('utf-8')


@pytest.mark.slow
def test_a_dry_run_says_what_it_would_take(tmp_path):
  wanted = [runs.base('transformer', paper.GLOBAL)]
  text = plan.dry_run(wanted, Stored('micro', tmp_path), None)
  assert runs.name('micro', wanted[0]) in text and '1 runs to make' in text
  task = work.task_of('micro', scales.settings('micro', 'transformer'), None)
  sizes = jax.tree.leaves(task.problem.init(jax.random.key(0)))
  assert f'{sum(x.size for x in sizes):,} parameters' in text
  assert f'{task.units_per_epoch:,} target words an epoch' in text


@pytest.mark.slow
@pytest.mark.parametrize('module', reproduce.EXPERIMENTS, ids=NAMES)
def test_the_committed_markdown_is_what_the_records_give(module, tmp_path):
  name = module.__name__.split('.')[-1]
  every = [Stored(scale, RESULTS) for scale in scales.SCALES]
  text = report.render(module, tmp_path, every)
  assert text == (RESULTS / f'{name}.md').read_text('utf-8'), (
    'run python -m experiments.paper.reproduce --plot_only'
  )
  for picture in re.findall(r'\]\((.+\.png)\)', text):
    assert (tmp_path / picture).exists() and (RESULTS / picture).exists()


def test_spread():
  assert spread([]) == 'not run yet'
  assert spread([None, None]) == 'never'
  assert spread([1.0]) == '1.0'
  assert spread([1.0, 3.0]) == '2.0 ± 1.4'  # Of a sample: sqrt(2).
  assert spread([1.0, 3.0], errors=2.0) == '2.0 ± 2.0'  # 2 sqrt(2) / sqrt(2).
  assert spread([1000.0, None, 3000.0], 0) == '2,000 ± 1,414; 1 of 3 never'


@pytest.mark.parametrize(
  'numbers, said',
  [
    ([math.nan], 'diverged'),
    ([1.0, math.nan, 2.0], 'diverged in 1 of 3'),
    ([None, math.nan], 'diverged in 1 of 2'),
    ([1.0, 2.0], '1.5 ± 0.7'),
  ],
)
def test_a_seed_that_diverged_is_said(numbers, said):
  assert spread(numbers) == said
