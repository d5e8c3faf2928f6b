"""Records on disk: found by settings and text, and skipped where damaged."""

import dataclasses
import json
import shutil

import pytest
from invented import RECORD, RESULTS

from experiments import grammar
from experiments.ledger import plan, runs, scales, store, texts
from experiments.ledger.settings import Settings
from experiments.ledger.store import Stored
from experiments.paper import printed as paper
from experiments.paper import reproduce
from experiments.render import report
from stale_adam.nmt import identity
from stale_adam.nmt.data.corpus import Corpus, Pairs
from stale_adam.training import record as record_lib

RUN = runs.base('transformer', paper.SYNC)
OTHERS = {'name': 'others en-de', 'sha256': 'c0ffee' + '0' * 58}


def made(scale, run, text, **changes):
  """An invented record of a run."""
  fields = {'scale': scale, 'run': runs.name(scale, run), 'text': text}
  config = runs.at(scale, run).config()
  return RECORD | fields | {'config': config} | changes


def corpus(**changes):
  parts = {
    'train': Pairs(['a b', 'c'], ['d', 'e f']),
    'validation': Pairs(['g'], ['h']),
    'tests': {'x': Pairs(['i'], ['j']), 'y': Pairs(['k'], ['l'])},
  }
  return Corpus('name', skipped={}, **(parts | changes))


@pytest.mark.parametrize(
  'changes',
  [
    {'train': Pairs(['a b', 'c'], ['d', 'e  f'])},
    {'train': Pairs(['a', 'b c'], ['d', 'e f'])},  # A word moves on.
    {'train': Pairs(['a b', 'c', ''], ['d', 'e f', ''])},
    {'train': Pairs(['d', 'e f'], ['a b', 'c'])},  # The other direction.
    {'train': Pairs(['c', 'a b'], ['e f', 'd'])},  # Another order.
    {  # A sentence moves from one part to the next.
      'train': Pairs(['a b'], ['d']),
      'validation': Pairs(['c', 'g'], ['e f', 'h']),
    },
    {'tests': {'x': Pairs(['i'], ['j'])}},
    {'tests': {'x': Pairs(['i'], ['j']), 'z': Pairs(['k'], ['l'])}},
    {'tests': {'x': Pairs(['i', 'k'], ['j', 'l']), 'y': Pairs([], [])}},
  ],
)
def test_a_digest_changes_with_any_boundary(changes):
  assert identity.sha256(corpus(**changes)) != identity.sha256(corpus())


def test_a_digest_is_of_the_sentences_alone():
  same = dataclasses.replace(corpus(), name='renamed', skipped={'a': 1})
  assert identity.sha256(same) == identity.sha256(corpus())


@pytest.mark.slow
@pytest.mark.parametrize('pair', ['en-de', 'de-en'])
def test_committed_records_of_tiny_are_of_the_present_grammar(pair):
  found = Stored('tiny', RESULTS).text(pair)
  assert found == identity.sha256(grammar.corpus(pair=pair))
  assert found == texts.sha256('tiny', pair, None)


def asked_for(records):
  """Every declared run, and those that follow from the records there are."""
  found = [run for module in reproduce.EXPERIMENTS for run in module.RUNS]
  for module in reproduce.EXPERIMENTS:
    found += module.then(records) if hasattr(module, 'then') else []
  return dict.fromkeys(found)


@pytest.mark.parametrize('scale', ['tiny', 'small'])
def test_every_committed_record_is_found(scale, capsys):
  records = Stored(scale, RESULTS)
  asked = asked_for(records)
  kept = {
    records.path(run, record['text']['sha256'])
    for run in asked
    if (record := records.get(run))
  }
  assert kept == set(records.directory.glob('*.json')), 'remove or make again'
  assert not capsys.readouterr().err


@pytest.mark.slow
def test_a_setting_that_is_added_later_voids_no_record(monkeypatch):
  """`settings_test` has the rule; here, every record on disk is found."""
  later = dataclasses.make_dataclass(
    'Later',
    [('clip', float, 0.0)],
    bases=(Settings,),
    frozen=True,
    kw_only=True,
  )
  at = runs.at
  clip = [0.0]

  def lifted(scale, run):
    settings = at(scale, run)
    own = {f.name: getattr(settings, f.name) for f in dataclasses.fields(run)}
    return later(**own, clip=clip[0])

  asked = asked_for(Stored('tiny', RESULTS))
  names = {run: runs.name('tiny', run) for run in asked if run.pair != 'en-ru'}
  monkeypatch.setattr(store.runs, 'at', lifted)
  monkeypatch.setattr(store.runs, 'name', lambda _, run: names[run])
  count = lambda: sum(
    Stored('tiny', RESULTS).get(run) is not None for run in names
  )
  assert count() == len([*Stored('tiny', RESULTS).directory.glob('*.json')]) > 0
  clip[0] = 1.0
  assert count() == 0


@pytest.fixture
def two(tmp_path):
  """Records of one run on two texts, and a directory with a third text."""
  first = {'name': 'first en-de', 'sha256': 'f' * 64}
  records = Stored('small', tmp_path)
  for text, bleu in ((first, 11.0), (OTHERS, 22.0)):
    records.add(RUN, made('small', RUN, text, best_bleu=bleu))
  return tmp_path


def write(folder, text):
  folder.mkdir()
  parts = {'train': text.train, 'val': text.validation}
  for name, pairs in (parts | {'test_x': text.tests['test']}).items():
    for language, side in zip(('en', 'de'), pairs, strict=True):
      (folder / f'{name}.{language}').write_text('\n'.join(side) + '\n')


def test_texts_lie_side_by_side_and_are_not_confused(two):
  assert len(list((two / 'records/small').glob('*.json'))) == 2
  with pytest.raises(ValueError, match='several texts for en-de') as error:
    Stored('small', two).get(RUN)
  for part in (
    'first en-de (ffffffff)',
    'others en-de (c0ffee00)',
    '--data_dir',
  ):
    assert part in str(error.value)


def test_a_named_text_has_its_own_records_only(two):
  write(two / 'mine', grammar.corpus(train=20, validation=3, test=3))
  records = Stored('small', two, two / 'mine')
  assert records.get(RUN) is None and not records.exists(RUN)
  assert plan.todo([RUN], records) == [RUN]
  text = identity.of(texts.load('small', 'en-de', two / 'mine'))
  records.add(RUN, made('small', RUN, text, best_bleu=33.0))
  assert Stored('small', two, two / 'mine').get(RUN)['best_bleu'] == 33.0
  # One letter more, and it is another text.
  path = two / 'mine' / 'val.de'
  path.write_text('X' + path.read_text())
  texts.load.cache_clear()
  texts.sha256.cache_clear()
  assert Stored('small', two, two / 'mine').get(RUN) is None


def test_the_grammar_is_the_text_of_tiny_unless_another_is_named(tmp_path):
  own = {'name': 'tiny en-de', 'sha256': texts.sha256('tiny', 'en-de', None)}
  records = Stored('tiny', tmp_path)
  records.add(RUN, made('tiny', RUN, OTHERS, best_bleu=22.0))
  assert Stored('tiny', tmp_path).get(RUN)['best_bleu'] == 22.0
  # To train is to train on the grammar.
  assert Stored('tiny', tmp_path, training=True).get(RUN) is None
  records.add(RUN, made('tiny', RUN, own, best_bleu=11.0))
  assert Stored('tiny', tmp_path).get(RUN)['best_bleu'] == 11.0


def test_a_report_names_its_text(two):
  records = Stored('small', two)
  for path in records.directory.glob('*.ffffffff.json'):
    path.unlink()
  table = next(m for m in reproduce.EXPERIMENTS if RUN in m.RUNS)
  text = report.render(table, two, [records])
  assert 'others en-de (`c0ffee00`)' in text and '22.0' in text


def test_a_record_of_other_settings_does_not_count(two):
  records = Stored('micro', two)
  records.add(RUN, made('micro', RUN, OTHERS))
  assert Stored('micro', two).get(RUN) is not None
  path = records.path(RUN, OTHERS['sha256'])
  changed = json.loads(path.read_text())
  changed['config']['budget']['epochs'] = 99
  path.write_text(json.dumps(changed))
  assert Stored('micro', two).get(RUN) is None
  assert Stored('micro', two).exists(RUN)


@pytest.mark.parametrize(
  ('patience', 'epochs', 'counts'),
  [
    (4, 0.05, True),  # It did not end for lack of patience.
    (4, 0.049, False),  # It might have gone on.
    (6, 0.05, False),  # With the patience asked for, it might have ended.
    (5, 0.049, True),  # The patience asked for.
  ],
)
def test_less_patience_counts_if_the_epochs_were_spent(
  patience, epochs, counts, tmp_path
):
  assert scales.SCALES['micro'].models['transformer'].budget.patience == 5
  record = made('micro', RUN, OTHERS)
  record['config']['budget'] |= {'patience': patience}
  last = record['curve'][-1] | {'epochs': epochs}
  record['curve'] = [*record['curve'][:-1], last]
  records = Stored('micro', tmp_path)
  records.add(RUN, record)
  assert (Stored('micro', tmp_path).get(RUN) is not None) is counts


def test_a_record_under_another_name_does_not_count(tmp_path):
  records = Stored('micro', tmp_path)
  other = runs.base('transformer', paper.GLOBAL)
  records.add(RUN, made('micro', RUN, OTHERS))
  digest = OTHERS['sha256']
  shutil.copy(records.path(RUN, digest), records.path(other, digest))
  assert Stored('micro', tmp_path).get(other) is None


DAMAGES = {
  'empty': lambda text: '',
  'cut': lambda text: text[: len(text) // 2],
  'no object': lambda text: '[1, 2]',
  'no text': lambda text: json.dumps(
    {k: v for k, v in json.loads(text).items() if k != 'text'}
  ),
  'no curve': lambda text: text.replace('"curve"', '"curved"'),
  'a curve of numbers': lambda text: json.dumps(
    json.loads(text) | {'curve': [1, 2]}
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', DAMAGES)
def test_a_damaged_record_is_skipped_and_stops_no_table(name, tmp_path, capsys):
  other = runs.base('transformer', paper.GLOBAL)
  records = Stored('small', tmp_path)
  for run in (RUN, other):
    records.add(run, made('small', run, OTHERS, best_bleu=12.25))
  path = records.path(RUN, OTHERS['sha256'])
  path.write_text(DAMAGES[name](path.read_text('utf-8')))
  again = Stored('small', tmp_path)
  assert plan.todo([RUN, other], again) == [RUN]
  assert again.durations('transformer') == [30.0 / 0.4]
  for module in reproduce.EXPERIMENTS:
    if other in module.RUNS:
      assert report.render(module, tmp_path, [again])
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1
  assert str(path) in lines[0] and 'Delete' in lines[0]


def test_records_read_what_they_wrote(tmp_path):
  records = Stored('micro', tmp_path)
  record = made('micro', RUN, OTHERS)
  records.add(RUN, record)
  assert records.get(RUN) == Stored('micro', tmp_path).get(RUN) == record
  assert record_lib.read(records.path(RUN, OTHERS['sha256'])) == record


@pytest.mark.parametrize('scale', scales.SCALES)
def test_a_pair_that_a_scale_lacks_has_no_record(scale, tmp_path):
  for pair in paper.TEST:
    run = runs.base('rnn', paper.SYNC, pair=pair)
    assert Stored(scale, tmp_path).get(run) is None


def test_a_resumed_run_took_as_long_as_all_its_processes(tmp_path):
  records = Stored('small', tmp_path)
  point = RECORD['curve'][-1] | {'seconds': 200.0}  # The last one took 30 s.
  curve = [*RECORD['curve'][:-1], point]
  records.add(RUN, made('small', RUN, OTHERS, curve=curve))
  assert records.durations('transformer') == [200.0 / 0.4]
  records.add(RUN, made('small', RUN, OTHERS))
  assert records.durations('transformer') == [30.0 / 0.4]
