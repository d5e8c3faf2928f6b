"""The result record on disk."""

import json
import math
import os
import subprocess

import numpy as np
import pytest
from invented import RECORD

from stale_adam.training import record as results


@pytest.fixture
def record():
  return json.loads(json.dumps(RECORD))


def strict(path):
  """The JSON of a file, in which NaN is no number."""

  def refuse(name):
    raise ValueError(f'{name} is not JSON')

  return json.loads(path.read_text('utf-8'), parse_constant=refuse)


def test_a_record_comes_back(tmp_path, record):
  path = tmp_path / 'a' / 'b' / 'rate0.001.json'
  results.write(path, record)
  assert results.read(path) == record == RECORD
  assert [p.name for p in path.parent.iterdir()] == ['rate0.001.json']


def test_a_number_that_is_not_finite_becomes_null(tmp_path, record):
  path = tmp_path / 'record.json'
  record['curve'][1]['validation_loss'] = math.nan
  record['curve'][2]['train_loss'] = math.inf
  record['mean_staleness'] = np.float64('nan')
  record['config']['nested'] = [1.5, {'deep': (-math.inf, 2)}]
  results.write(path, record)
  found = strict(path)
  again = results.read(path)
  assert math.isnan(again['curve'][1]['validation_loss'])
  assert math.isnan(again['curve'][2]['train_loss'])
  assert math.isnan(again['mean_staleness'])
  results.write(path, again)  # Which changes nothing.
  assert strict(path) == found
  assert found['curve'][1]['validation_loss'] is None
  assert found['curve'][2]['train_loss'] is None
  assert found['mean_staleness'] is None
  assert found['config']['nested'] == [1.5, {'deep': [None, 2]}]


def test_keys_that_are_numbers_become_text(tmp_path, record):
  record['staleness_histogram'] = {0: 1, 3: 5}
  results.write(tmp_path / 'record.json', record)
  assert results.read(tmp_path / 'record.json') == RECORD


# Fields that only some tasks have.
OPTIONAL = {'text', 'sacrebleu_signature'}
NAMED = {'best_bleu', 'words_per_second'}  # They name metric and speed.


@pytest.mark.parametrize('name', sorted(RECORD.keys() - OPTIONAL - NAMED))
def test_a_missing_or_wrong_field_is_named(name, record):
  results.validate(record)
  kept = record.pop(name)
  with pytest.raises(ValueError, match=f'{name!r} is missing'):
    results.validate(record)
  record[name] = [kept] if not isinstance(kept, list) else 'x'
  with pytest.raises(ValueError, match=f'{name!r} is .*must be of type'):
    results.validate(record)


@pytest.mark.parametrize('name', sorted(NAMED))
def test_a_record_names_its_metric_and_speed(name, record):
  kept = record.pop(name)
  with pytest.raises(ValueError, match='this one has none'):
    results.validate(record)
  record[name] = [kept]
  with pytest.raises(ValueError, match=f'{name!r} is .*must be of type'):
    results.validate(record)
  other = {'best_bleu': 'best_chrf', 'words_per_second': 'lines_per_second'}
  record |= {name: kept, other[name]: kept}
  with pytest.raises(ValueError, match=f'this one has .*{name}'):
    results.validate(record)


def test_points_of_two_units_are_refused(record):
  record['curve'][1]['sentences'] = 4
  with pytest.raises(ValueError, match=r"\['sentences', 'target_words'\]"):
    results.validate(record)


@pytest.mark.parametrize('name', sorted(RECORD['curve'][0]))
def test_a_missing_field_of_a_point_is_named(name, record):
  del record['curve'][2][name]
  with pytest.raises(ValueError, match=rf"curve\[2\] lacks \['{name}'\]"):
    results.validate(record)


@pytest.mark.parametrize(
  'part, name',
  [('provenance', name) for name in RECORD['provenance']]
  + [('words_per_second', 'virtual'), ('words_per_second', 'measured')]
  + [('text', 'name'), ('text', 'sha256')],
)
def test_a_missing_field_of_a_part_is_named(part, name, record):
  del record[part][name]
  with pytest.raises(ValueError, match=rf"{part} lacks \['{name}'\]"):
    results.validate(record)


def test_what_is_not_written_leaves_the_old_record_whole(tmp_path, record):
  path = tmp_path / 'record.json'
  results.write(path, record)
  before = path.read_bytes()
  with pytest.raises(ValueError, match='run'):
    results.write(path, {k: v for k, v in record.items() if k != 'run'})
  with pytest.raises(TypeError):
    results.write(path, record | {'config': {'a': object()}})
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ['record.json']


def test_a_curve_has_a_point(record):
  with pytest.raises(ValueError, match="'curve' has no points"):
    results.validate(record | {'curve': []})


WRONG = [
  (('curve', 0), 'x'),
  (('curve', 0, 'updates'), '5'),
  (('curve', 1, 'updates'), None),
  (('curve', 1, 'bleu'), '12.5'),
  (('curve', 1, 'train_loss'), True),
  (('curve', 2, 'virtual_seconds'), [1.0]),
  (('curve', 2, 'pushes'), 10**30),
  (('best_bleu',), '20.0'),
  (('best_bleu',), False),
  (('test_bleu', 'test'), {}),
  (('words_per_second', 'virtual'), '400'),
  (('staleness_histogram', '3'), 'five'),
  (('text',), ['a', 'b']),
  (('text', 'sha256'), 5),
  (('provenance', 'seconds'), '30'),
]


@pytest.mark.parametrize('place, value', WRONG, ids=str)
def test_a_value_of_another_type_is_named(place, value, record):
  part = record
  for key in place[:-1]:
    part = part[key]
  part[place[-1]] = value
  with pytest.raises(ValueError, match=rf'{place[-1]}.* is .*must be of type'):
    results.validate(record)


@pytest.mark.parametrize(
  'text', ['[1]', '5', 'null', '{', '[' * 100_000, '{"best_bleu": NaN}', '\xff']
)
def test_a_file_of_something_else_is_named(text, tmp_path):
  path = tmp_path / 'record.json'
  path.write_bytes(text.encode('latin-1'))
  with pytest.raises(ValueError, match='record.json: ') as error:
    results.read(path)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('number', ['NaN', 'Infinity', '-Infinity', '1e999'])
def test_a_number_that_is_not_json(number, tmp_path, record):
  path = tmp_path / 'record.json'
  record['best_bleu'] = 'here'
  path.write_text(json.dumps(record).replace('"here"', number))
  with pytest.raises(ValueError, match=f'record.json: {number} is'):
    results.read(path)


def test_an_invalid_file_is_named(tmp_path, record):
  path = tmp_path / 'record.json'
  path.write_text(json.dumps(record | {'curve': None}))
  with pytest.raises(ValueError, match='record.json: .*curve'):
    results.read(path)


def test_provenance_has_what_a_record_needs(record):
  origin = results.provenance(7, 'virtual', 'cpu')
  assert origin.keys() == RECORD['provenance'].keys()
  assert (origin['seed'], origin['pool'], origin['device']) == (
    7,
    'virtual',
    'cpu',
  )
  assert origin['versions']['numpy'] == np.__version__
  results.validate(record | {'provenance': origin})
  json.dumps(origin)


@pytest.mark.parametrize(
  'target, seconds',
  [
    (0, 0.0),
    (2.5, 3.0),
    (12.5, 5.0),
    (14.0, 7.5 + 2.5 * 3 / 9),  # On the way from 11 to 20.
    (20, 10.0),
    (20.1, None),
  ],
)
def test_seconds_to_a_score(record, target, seconds):
  assert results.seconds_to(record, target) == pytest.approx(seconds)
  assert results.seconds_to(record | {'curve': []}, target) is None
  # 400 words a second.
  words = results.reached(record, target, 'target_words')
  assert words == (seconds and pytest.approx(400 * seconds))


def test_no_score_is_zero(record):
  record['curve'][0]['bleu'] = None  # As `write` leaves what is not finite.
  assert results.seconds_to(record, 12.5) == 5.0
  assert results.seconds_to(record, 2.5) == 3.0


def test_provenance_without_git(monkeypatch):
  """Without git, or outside a repository of ours, a run is not lost for it."""
  monkeypatch.setenv('PATH', '')
  found = results.provenance(0, 'virtual', 'cpu')
  assert found['commit'] is None and found['dirty'] is None


def test_rendered_results_do_not_make_a_program_dirty(tmp_path, monkeypatch):
  package = tmp_path / 'stale_adam' / 'training'
  kept = [package / 'record.py', tmp_path / 'results' / 'table.md']
  for path in kept:
    path.parent.mkdir(parents=True)
    path.write_text('old\n')
  git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', '-C', tmp_path]
  for words in (['init', '-q'], ['add', '.'], ['commit', '-qm', 'first']):
    subprocess.run([*git, *words], check=True)
  monkeypatch.setattr(results, '__file__', str(kept[0]))
  dirty = lambda: results.provenance(0, 'virtual', 'cpu')['dirty']
  assert dirty() is False
  kept[1].write_text('new\n')
  assert dirty() is False
  kept[0].write_text('new\n')
  assert dirty() is True
