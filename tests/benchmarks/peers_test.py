"""The benchmark beside two toolkits, without the toolkits."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import grammar
from experiments.benchmarks.peers import (
  environments,
  measurement,
  parts,
  recipe,
  summary,
)
from experiments.benchmarks.peers.inside import child
from experiments.ledger import execute, scales

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def small_task():
  settings = scales.settings('micro', 'transformer')
  return execute.make_task(settings, grammar.corpus(0, 900, 8, 8))


def filled(side, tmp_path):
  settings = recipe.settings('en-de')
  return settings, recipe.configuration(
    side, settings, tmp_path / 'text', tmp_path / side, 1892, 28_992
  )


def setting(text, name):
  """The one value of a setting, whatever its indentation."""
  (value,) = {*re.findall(rf'^ *{name}: ([^#\n]+?) *(?:#.*)?$', text, re.M)}
  return value


@pytest.mark.parametrize('side', environments.PACKAGES)
def test_a_configuration_has_our_values(side, tmp_path):
  ours, text = filled(side, tmp_path)
  assert '$' not in text.split('\n', 1)[1]
  hidden = {'joeynmt': 'ff_size', 'eole': 'transformer_ff'}[side]
  assert int(setting(text, 'hidden_size')) == ours.sizes['size'] == 128
  assert int(setting(text, hidden)) == ours.sizes['hidden'] == 512
  assert float(setting(text, 'label_smoothing')) == ours.smoothing == 0.1
  assert '1892' in re.findall(r'^ *batch_size: (.+)$', text, re.M)
  assert str(tmp_path / 'text') in text


def test_all_sides_have_the_same_peak_of_the_learning_rate(tmp_path):
  ours, joeynmt = filled('joeynmt', tmp_path)
  assert float(setting(joeynmt, 'learning_rate')) == ours.learning_rate
  assert int(setting(joeynmt, 'learning_rate_warmup')) == ours.warmup_updates
  _, eole = filled('eole', tmp_path)
  factor, size = float(setting(eole, 'learning_rate')), 128
  warmup = ours.warmup_updates
  rate = lambda u: factor * size**-0.5 * min(u**-0.5, u * warmup**-1.5)
  schedule = recipe.sa.inverse_sqrt(ours.learning_rate, warmup)
  for update in (1, warmup // 2, warmup, warmup + 1, 4 * warmup):
    assert math.isclose(rate(update), schedule(update - 1), rel_tol=1e-5)
  assert ours.decay_after == warmup


def test_the_text_of_the_toolkits_has_as_many_words_as_ours(
  small_task, tmp_path
):
  tested = small_task.corpus.tests['test']
  count = recipe.write_text(small_task, tested, tmp_path)
  lines = (tmp_path / 'train.target').read_text().splitlines()
  words = sum(len(line.split()) + 1 for line in lines)  # With their ends.
  assert count == len(lines) > 500
  assert words == small_task.units_per_epoch
  names = (tmp_path / 'vocabulary').read_text().split()
  assert {word for line in lines for word in line.split()} <= {*names}
  assert len(names) + 4 == small_task.model.vocabulary.size


def test_translations_of_ids_become_text_again(small_task, tmp_path):
  tested = small_task.corpus.tests['test']
  recipe.write_text(small_task, tested, tmp_path)
  lines = (tmp_path / 'test.target').read_text().splitlines()
  assert recipe.text_of(small_task, lines) == list(tested.target)
  assert recipe.text_of(small_task, ['<unk>', '']) == ['\u2047', '']


def test_a_meter_counts_the_words_of_batches_that_were_used():
  told = []
  meter = child.Meter({'words': 100, 'window': 30}, told.append)
  used = []
  for batch in meter.until_full([20] * 9, lambda words: words):
    assert meter.words == 20 * len(used)  # This one is not yet counted.
    used.append(batch)
  assert len(used) == 5
  assert [words for words, _ in meter.windows] == [40, 40, 20]
  assert told == [40, 80, 100]
  result = meter.result()
  assert (result['words'], result['updates']) == (100, 5)


def test_the_speed_is_that_of_the_median_window_after_the_warm_up():
  windows = [(1, 1.0), (1, 1.0), (300, 1.0), (100, 1.0), (400, 2.0)]
  assert summary.training_speed({'windows': windows}) == 200
  passes = {'translations': ['x'] * 6, 'seconds': [9.0, 1.0, 3.0]}
  assert summary.decoding_speed(passes) == 3


def test_the_table_compares_ours_to_the_better_of_the_others():
  values = {'ours': 30.0, 'joeynmt': 20.0, 'eole': 10.0}
  assert summary.row('speed', values, '.0f') == [
    *('speed', '30', '20', '10', '1.50')
  ]
  assert summary.row('x', {'ours': 30.0}, '.0f') == ['x', '30', '-', '-', '-']
  del values['ours']
  assert summary.row('x', values, '.0f')[-1] == '-'


def test_results_are_kept_for_the_same_question(tmp_path):
  path = tmp_path / 'results.json'
  asked = {'words': 10, 'sizes': (1, 2)}
  kept = parts.Kept(path)
  kept.put('eole training', asked, {'words': 11})
  assert kept.get('eole training', asked) == {'words': 11}
  kept = parts.Kept(path)  # As a second process finds it.
  assert kept.get('eole training', asked) == {'words': 11}
  assert kept.get('eole training', asked | {'words': 20}) is None
  assert kept.get('eole decoding', asked) is None
  kept.drop(['eole training'])
  assert kept.get('eole training', asked) is None
  path.write_text('{')
  with pytest.raises(ValueError, match='results.json is damaged'):
    parts.Kept(path)


def program(tmp_path, text):
  """An executable in place of an environment's interpreter."""
  path = tmp_path / 'python'
  path.write_text(f'#!/bin/sh\n{text}\n')
  path.chmod(0o755)
  return path


def test_a_part_shows_progress_and_returns_its_result(tmp_path):
  python = program(
    tmp_path,
    'echo noise >&2; echo \'{"progress": 7}\'\n'
    'echo \'{"result": {"words": 8}}\'',
  )
  told, job = [], {'out': str(tmp_path), 'cores': 2}
  result = parts.run(python, 'eole', 'train', job, told.append)
  assert result['words'] == 8
  assert result['load'] >= 0
  assert told == [7]
  assert (tmp_path / 'train.log').read_text() == 'noise\n'


@pytest.mark.parametrize('status', [0, 3])
def test_a_part_without_a_result_shows_the_end_of_its_log(tmp_path, status):
  python = program(tmp_path, f'echo no such layer >&2; exit {status}')
  job = {'out': str(tmp_path), 'cores': 2}
  with pytest.raises(parts.Failed, match=f'{status} in.*(?s:.*)no such layer'):
    parts.run(python, 'eole', 'train', job, print)


def test_an_environment_that_cannot_be_made_names_its_log(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(sys, 'executable', str(program(tmp_path, 'exit 4')))
  with pytest.raises(OSError, match='status 4: read .*eole.install.log'):
    environments.python('eole', tmp_path / 'made', print)
  assert not (tmp_path / 'made' / 'eole' / 'installed').exists()


@pytest.fixture
def measured(tmp_path, monkeypatch, small_task):
  """A measurement whose parts are made by `made`, which lists them."""
  one = measurement.Measurement(tmp_path, 'data', 'en-de', 100_000, 2)
  one.__dict__['task'] = small_task
  one.__dict__['tested'] = small_task.corpus.tests['test']
  made = []

  def run(python, side, part, job, progress):
    made.append((side, part, job['words'], job['batch']))
    # Half of a batch is padding.
    words = job['batch'] / 2
    return {'words': words, 'updates': 1, 'windows': [], 'translations': []}

  monkeypatch.setattr(parts, 'run', run)
  monkeypatch.setattr(environments, 'python', lambda *a: Path('none'))
  return one, made


def test_parts_that_are_finished_are_not_measured_again(measured):
  one, made = measured
  first = one.trained('ours')
  one.decoded('ours')
  assert [part for _, part, *_ in made] == ['train', 'decode']
  again = measurement.Measurement(one.out, 'data', 'en-de', 100_000, 2)
  again.__dict__.update(task=one.task, tested=one.tested)
  assert again.trained('ours') == first
  assert len(made) == 2
  again.forget(['eole'])
  again.trained('ours')
  assert len(made) == 2
  again.forget(['ours'])
  again.trained('ours')
  assert len(made) == 3


def test_updates_of_all_sides_have_equally_many_words(measured):
  one, made = measured
  wanted = recipe.words_per_update(one.settings, one.task)
  one.trained('eole')
  *fits, (_, part, words, batch) = made
  assert [words for *_, words, _ in fits] == [round(40 * wanted)] * 2
  assert (part, words) == ('train', 100_000)
  one.decoded('eole')  # The short runs serve it, too.
  assert [part for _, part, *_ in made] == ['train'] * 3 + ['decode']
  assert abs(batch - 2 * wanted) <= 2
  config = (one.out / 'eole' / 'config.yaml').read_text()
  assert setting(config, 'batch_size') == str(batch)


@pytest.mark.slow
def test_the_command_names_the_flag_of_the_text():
  run = subprocess.run(
    [sys.executable, '-m', 'experiments.benchmarks.peers'],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert run.returncode == 1
  assert run.stderr.strip().endswith('name its directory by --data_dir')
  assert 'Traceback' not in run.stderr


def test_the_sides_need_nothing_of_ours_but_their_folder():
  """Their environments have neither JAX nor NumPy of our version."""
  loaded = subprocess.run(
    [
      *(sys.executable, '-c'),
      'import sys; before = {*sys.modules};'
      'from experiments.benchmarks.peers.inside import eole, joeynmt;'
      'print(*(sys.modules.keys() - before))',
    ],
    capture_output=True,
    text=True,
    cwd=ROOT,
    check=True,
  ).stdout.split()
  assert 'experiments.benchmarks.peers.inside.eole' in loaded
  assert not {'jax', 'numpy', 'absl', 'torch', 'stale_adam'} & {*loaded}
