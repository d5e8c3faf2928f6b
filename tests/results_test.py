"""What a run leaves on disk: its record and its parameters."""

import json
import math
import os

import jax
import numpy as np
import pytest

from stale_adam import checkpoint, results

# The fields, as the design's section 6 has them.
RECORD = {
  'experiment': 'table1',
  'scale': 'tiny',
  'run': 'transformer-seed0',
  'config': {'pair': 'en→de', 'shape': [8, 48, 48]},
  'curve': [
    {
      'updates': 5 * i,
      'pushes': 20 * i,
      'target_words': 1000 * i,
      'epochs': 0.1 * i,
      'virtual_seconds': 2.5 * i,
      'seconds': 7.5 * i,
      'train_loss': 6.0 - i,
      'validation_loss': 7.0 - i,
      'bleu': bleu,
    }
    for i, bleu in enumerate([0.0, 12.5, 11.0, 20.0], start=1)
  ],
  'best_bleu': 20.0,
  'test_bleu': {'test': 19.5, 'other': 18},
  'sacrebleu_signature': 'nrefs:1|case:mixed',
  'mean_staleness': 2.5,
  'staleness_histogram': {'0': 1, '3': 5},
  'words_per_second': {'virtual': 400.0, 'measured': 133.3},
  'trace_sha256': '0' * 64,
  'provenance': {
    'commit': 'abc',
    'dirty': False,
    'command': 'python -m experiments.train',
    'seed': 0,
    'versions': {'jax': '1'},
    'device': 'cpu',
    'pool': 'virtual',
    'started_utc': '2026-01-01T00:00:00+00:00',
    'seconds': 30.0,
  },
}


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
  assert results.read(path) == found
  assert found['curve'][1]['validation_loss'] is None
  assert found['curve'][2]['train_loss'] is None
  assert found['mean_staleness'] is None
  assert found['config']['nested'] == [1.5, {'deep': [None, 2]}]


def test_keys_that_are_numbers_become_text(tmp_path, record):
  record['staleness_histogram'] = {0: 1, 3: 5}
  results.write(tmp_path / 'record.json', record)
  assert results.read(tmp_path / 'record.json') == RECORD


@pytest.mark.parametrize('name', sorted(RECORD))
def test_a_missing_or_wrong_field_is_named(name, record):
  results.validate(record)
  kept = record.pop(name)
  with pytest.raises(ValueError, match=f'{name!r} is None'):
    results.validate(record)
  record[name] = [kept] if not isinstance(kept, list) else 'x'
  with pytest.raises(ValueError, match=f'{name!r} is .*must be of type'):
    results.validate(record)


@pytest.mark.parametrize('name', sorted(RECORD['curve'][0]))
def test_a_missing_field_of_a_point_is_named(name, record):
  del record['curve'][2][name]
  with pytest.raises(ValueError, match=rf"curve\[2\] lacks \['{name}'\]"):
    results.validate(record)


@pytest.mark.parametrize(
  'part, name',
  [('provenance', name) for name in RECORD['provenance']]
  + [('words_per_second', 'virtual'), ('words_per_second', 'measured')],
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
  [(0, 2.5), (0.1, 5.0), (12.5, 5.0), (12.6, 10.0), (20, 10.0), (20.1, None)],
)
def test_seconds_to_bleu(record, target, seconds):
  assert results.seconds_to_bleu(record, target) == seconds
  assert results.seconds_to_bleu(record | {'curve': []}, target) is None


def test_no_bleu_is_no_bleu(record):
  record['curve'][0]['bleu'] = None  # As `write` leaves what is not finite.
  assert results.seconds_to_bleu(record, 12.5) == 5.0


PARAMS = {
  'encoder': {
    0: {'w': np.arange(6, dtype=np.float32).reshape(2, 3)},
    1: {'w': np.ones((2, 0), np.float64)},
    10: {'w': np.array(-0.0, np.float32)},
  },
  'count': np.array([2**31 - 1], np.int32),
  'not_finite': np.array([np.nan, np.inf], np.float32),
}
ABOUT = {'model': 'rnn', 'sizes': {'depth': 2}, 'note': 'ä', 'none': None}


def same(found, expected):
  """Whether (params, about) agree bit for bit."""
  leaves, tree = jax.tree.flatten(found[0])
  wanted, wanted_tree = jax.tree.flatten(expected[0])
  bits = lambda x: (x.shape, x.dtype, x.tobytes())
  return (
    found[1] == expected[1]
    and tree == wanted_tree
    and list(map(bits, leaves)) == list(map(bits, wanted))
  )


@pytest.fixture
def saved(tmp_path):
  path = tmp_path / 'new' / 'params.npz'
  checkpoint.save(path, PARAMS, ABOUT)
  return path


def test_parameters_come_back(saved):
  assert same(checkpoint.load(saved), (PARAMS, ABOUT))
  assert os.listdir(saved.parent) == ['params.npz']


def test_parameters_of_jax_come_back(saved):
  params = jax.tree.map(jax.numpy.asarray, PARAMS)
  checkpoint.save(saved, params, {})
  found = checkpoint.load(saved)
  assert same(found, (jax.tree.map(np.asarray, params), {}))
  assert os.listdir(saved.parent) == ['params.npz']


def test_what_cannot_be_saved_leaves_the_old_file_whole(saved):
  before = saved.read_bytes()
  with pytest.raises(TypeError):
    checkpoint.save(saved, PARAMS, {'a': object()})
  assert saved.read_bytes() == before
  assert os.listdir(saved.parent) == ['params.npz']


def test_no_flipped_byte_goes_unnoticed(tmp_path):
  small = {'a': {0: np.arange(3.0), 1: np.ones(2, np.int32)}}, {'b': 1}
  checkpoint.save(tmp_path / 'good.npz', *small)
  data = (tmp_path / 'good.npz').read_bytes()
  damaged = tmp_path / 'damaged.npz'
  noticed, wrong = 0, {}
  for at in range(len(data)):
    for mask in (1, 255):
      changed = bytearray(data)
      changed[at] ^= mask
      damaged.write_bytes(changed)
      try:
        found = checkpoint.load(damaged)
      except ValueError as error:
        assert 'damaged.npz is damaged' in str(error)
        noticed += 1
      except Exception as error:
        wrong[at, mask] = repr(error)
      else:
        # A byte that nobody reads, such as the time of writing, may differ.
        if not same(found, small):
          wrong[at, mask] = f'other values: {found}'
  assert noticed > len(data)  # Of twice as many.
  assert not wrong


def test_a_truncated_file(saved):
  data = saved.read_bytes()
  damaged = saved.with_name('damaged.npz')
  for length in [*range(0, len(data), 7), len(data) - 1]:
    damaged.write_bytes(data[:length])
    with pytest.raises(ValueError, match='damaged.npz is damaged'):
      checkpoint.load(damaged)


def test_a_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match='params.npz'):
    checkpoint.load(tmp_path / 'params.npz')


def _text(path):
  path.write_text('The old man reads a book.\n' * 100)


def _array(path):
  with open(path, 'wb') as file:
    np.save(file, np.ones(3))


def _archive(path):
  np.savez(path, a=np.ones(3))


def _objects(path):
  np.savez(path, __about__=np.array('{}'), a=np.array([{}], object))


def _no_json(path):
  np.savez(path, __about__=np.array('{'), a=np.ones(3))


@pytest.mark.parametrize(
  'make', [_text, _array, _archive, _objects, _no_json, os.mkdir]
)
def test_a_file_of_something_else(tmp_path, make):
  path = tmp_path / 'other.npz'
  make(path)
  with pytest.raises(ValueError, match='other.npz .*no parameters'):
    checkpoint.load(path)
