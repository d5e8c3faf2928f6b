"""Parameters on disk: whole, or refused."""

import os

import jax
import numpy as np
import pytest

from stale_adam.training import checkpoint

PARAMS = {
  'encoder': {
    0: {'w': np.arange(6, dtype=np.float32).reshape(2, 3)},
    1: {'w': np.ones((2, 0), np.float64)},
    10: {'w': np.array(-0.0, np.float32)},
  },
  'count': np.array([2**31 - 1], np.int32),
  'not_finite': np.array([np.nan, np.inf], np.float32),
}
METADATA = {'model': 'rnn', 'sizes': {'depth': 2}, 'note': 'ä', 'none': None}


def same(found, expected):
  """Whether (params, metadata) agree bit for bit."""
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
  checkpoint.save(path, PARAMS, METADATA)
  return path


def test_parameters_come_back(saved):
  assert same(checkpoint.load(saved), (PARAMS, METADATA))
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
  np.savez(path, __metadata__=np.array('{}'), a=np.array([{}], object))


def _no_json(path):
  np.savez(path, __metadata__=np.array('{'), a=np.ones(3))


@pytest.mark.parametrize(
  'make', [_text, _array, _archive, _objects, _no_json, os.mkdir]
)
def test_a_file_of_something_else(tmp_path, make):
  path = tmp_path / 'other.npz'
  make(path)
  with pytest.raises(ValueError, match='other.npz .*no parameters'):
    checkpoint.load(path)
