"""Trees on disk: as they were, or refused."""

import collections
import hashlib
import json
import os
import sys
import zipfile
from typing import NamedTuple

import hypothesis
import hypothesis.extra.numpy as arrays_lib
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import strategies as st

import stale_adam as sa
from stale_adam import server as server_lib
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


class Pair(NamedTuple):
  """A NamedTuple that can be found by its name."""

  first: object
  second: object


def same(found, expected):
  """Whether two trees are the same: containers, keys, types and bits."""
  if isinstance(expected, jax.Array):
    expected = np.asarray(expected)
  if type(found) is not type(expected):
    return False
  if isinstance(found, dict):
    keys = [(type(k), k) for k in found]
    return keys == [(type(k), k) for k in expected] and all(
      same(found[k], expected[k]) for k in found
    )
  if isinstance(found, list | tuple):
    return len(found) == len(expected) and all(map(same, found, expected))
  if isinstance(found, np.ndarray | np.generic):
    bits = lambda x: (x.shape, x.dtype, x.tobytes())
    return bits(found) == bits(expected)
  return repr(found) == repr(expected)  # Not a number, too; -0.0 is not 0.0.


def returned(path, tree, metadata=None):
  checkpoint.save(path, tree, {} if metadata is None else metadata)
  return checkpoint.load(path)


DTYPES = st.one_of(
  arrays_lib.boolean_dtypes(),
  arrays_lib.integer_dtypes(endianness='?'),
  arrays_lib.floating_dtypes(endianness='?'),
  arrays_lib.complex_number_dtypes(),
)
ARRAYS = arrays_lib.arrays(
  DTYPES, arrays_lib.array_shapes(min_dims=0, min_side=0, max_side=3)
)
NARROW = st.tuples(
  st.sampled_from(['bfloat16', 'float8_e4m3fn', 'float8_e5m2', 'int4']),
  st.lists(st.integers(-8, 7), max_size=4),
).map(lambda x: np.array(x[1], np.int8).astype(getattr(ml_dtypes, x[0])))
STATIC = st.one_of(
  st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)
)
SCALARS = arrays_lib.from_dtype(np.dtype('float32')).map(np.float32)
KEYS = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.just('a/b'))
TREES = st.recursive(
  st.one_of(ARRAYS, NARROW, STATIC, SCALARS),
  lambda inner: st.one_of(
    st.lists(inner, max_size=3),
    st.lists(inner, max_size=3).map(tuple),
    st.dictionaries(KEYS, inner, max_size=3),
    st.builds(Pair, inner, inner),
    st.just(optax.EmptyState()),
  ),
  max_leaves=6,
)


@hypothesis.given(tree=TREES, metadata=st.dictionaries(KEYS, TREES, max_size=2))
def test_any_tree_comes_back_as_it_was(tmp_path_factory, tree, metadata):
  path = tmp_path_factory.mktemp('any') / 'tree.npz'
  assert same(returned(path, tree, metadata), (tree, metadata))


def test_what_is_compared_can_differ():
  """Of what an earlier format merged or lost."""
  x = np.ones(2, np.float32)
  for one, other in [
    ({'0': x}, {0: x}),
    ({'a/b': x}, {'a': {'b': x}}),
    ({'a': None}, {}),
    ({'a': {}}, {}),
    ([x], (x,)),
    (x, x.astype('float64')),
    (x, x.astype('>f4')),
    (x[0], x[:1].reshape(())),
    (1, True),
    (0.0, -0.0),
    (optax.EmptyState(), ()),
  ]:
    assert not same(one, other)


def test_the_order_of_memory_is_kept(tmp_path):
  array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
  found, _ = returned(tmp_path / 'x.npz', array)
  assert found.flags.f_contiguous and not found.flags.c_contiguous
  assert same(found, array)


def test_keys_come_back(tmp_path):
  keys = {
    'split': jax.random.split(jax.random.key(3), 2),
    'other': jax.random.key(1, impl='rbg'),
    'old': jax.random.PRNGKey(2),
  }
  found, _ = returned(tmp_path / 'x.npz', keys)
  assert found['old'].dtype == np.uint32
  for name in ('split', 'other'):
    assert found[name].dtype == keys[name].dtype
    draw = (
      jax.vmap(jax.random.uniform) if name == 'split' else jax.random.normal
    )
    np.testing.assert_array_equal(draw(found[name]), draw(keys[name]))


def test_an_array_that_occurs_twice_is_one(tmp_path):
  x, path = np.zeros(1000), tmp_path / 'x.npz'
  (one, other), _ = returned(path, [x, x])
  assert one is other
  shared = path.stat().st_size
  (one, other), _ = returned(path, [x, x.copy()])
  assert one is not other
  assert path.stat().st_size > shared + 4000


def test_a_server_comes_back(tmp_path, toy, served):
  """Everything that a run is, with gradients in flight and a half sum."""
  pool = sa.pools.Virtual(threads=1)
  numbers = sa.Communication(3, 2, global_accumulation=2)
  _, servers = served(toy, sa.adam(0.01), numbers, pool, 7)
  server = servers[-1]
  assert server.summed and server.held
  found, _ = returned(tmp_path / 'server.npz', server)
  assert type(found) is server_lib.Server
  assert same(found, server)
  leaf = lambda tree: jax.tree.leaves(tree)[0]
  assert leaf(found.params) is leaf(found.published.params)


def _cycle():
  tree = []
  tree.append(tree)
  return tree


def _local():
  class Inner(NamedTuple):
    x: int

  return Inner(1)


REFUSED = {
  'order': (collections.OrderedDict(a=1), r"tree\['x'\] .*OrderedDict"),
  'set': ({1}, r"tree\['x'\] .*set"),
  'bytes': (b'a', r"tree\['x'\] .*bytes"),
  'complex': (1j, r"tree\['x'\] .*complex"),
  'objects': (np.array([{}], object), r"tree\['x'\] has type object"),
  'text': (np.array(['a']), r"tree\['x'\] has type <U1"),
  'record': (np.zeros(2, 'i4,f4'), r"tree\['x'\] has type"),
  'masked': (np.ma.zeros(2), r"tree\['x'\] .*MaskedArray"),
  'key': ({(1, 2): 1}, r"tree\['x'\] has the key \(1, 2\)"),
  'bool key': ({True: 1}, r"tree\['x'\] has the key True"),
  'local': (_local(), r"tree\['x'\] is of .*Inner"),
  'list': (type('L', (list,), {})(), r"tree\['x'\] is of .*L"),
  'cycle': (_cycle(), r'nested more than'),
  'digits': (10**5000, r"tree\['x'\] cannot be saved"),
  'shape': (jax.ShapeDtypeStruct((), 'float32'), r"tree\['x'\] .*ShapeDtype"),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_is_refused_is_named(tmp_path, name):
  value, message = REFUSED[name]
  with pytest.raises(TypeError, match=message):
    checkpoint.save(tmp_path / 'x.npz', {'x': value}, {})
  with pytest.raises(TypeError, match=message.replace('tree', 'metadata')):
    checkpoint.save(tmp_path / 'x.npz', {}, {'x': value})
  assert not os.listdir(tmp_path)


def test_a_donated_array_is_refused(tmp_path):
  gone = jnp.ones(3)
  gone.delete()
  with pytest.raises(TypeError, match=r'tree\[0\] cannot be read: .*deleted'):
    checkpoint.save(tmp_path / 'x.npz', [gone], {})


def test_a_class_that_has_other_fields_is_refused(tmp_path, monkeypatch):
  path = tmp_path / 'x.npz'
  checkpoint.save(path, Pair(1, 2), {})
  fields = dict(first=object, third=object)
  monkeypatch.setattr('sys.modules', {**sys.modules, Pair.__module__: Other})
  monkeypatch.setattr(Other, 'Pair', NamedTuple('Pair', [*fields.items()]))
  with pytest.raises(ValueError, match='x.npz: it holds a .*Pair'):
    checkpoint.load(path)


class Other:
  """Stands for a module."""

  Pair = None


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


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """(path of a file to damage, the bytes of a good one)."""
  path = tmp_path_factory.mktemp('small') / 'good.npz'
  checkpoint.save(path, {'a': {0: np.arange(3.0)}, 'b': [1, None]}, {'c': 1})
  return path.with_name('damaged.npz'), path.read_bytes()


def refuse(path, data):
  path.write_bytes(data)
  with pytest.raises(ValueError, match='damaged.npz is damaged'):
    checkpoint.load(path)


def test_every_flipped_byte_is_noticed(small):
  path, data = small
  for at in range(len(data)):
    changed = bytearray(data)
    changed[at] ^= 1 << at % 8
    refuse(path, changed)


def test_every_truncation_is_noticed(small):
  path, data = small
  for length in range(len(data)):
    refuse(path, data[:length])


@hypothesis.given(data=st.data())
def test_any_damage_is_noticed(small, data):
  """Bytes changed, cut out or inserted anywhere."""
  path, good = small
  start = data.draw(st.integers(0, len(good)))
  end = data.draw(st.integers(start, min(len(good), start + 40)))
  damaged = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
  hypothesis.assume(damaged != good)
  refuse(path, damaged)


def rewritten(path, change):
  """The file with `change` made to its members, and a digest that fits."""
  with zipfile.ZipFile(path) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  change(members)
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)
    archive.comment = b'0' * 64
  data = path.read_bytes()[:-64]
  path.write_bytes(data + hashlib.sha256(data).hexdigest().encode())


def test_arrays_that_were_exchanged(tmp_path):
  path = tmp_path / 'x.npz'

  def exchange(members):
    members['0.npy'], members['1.npy'] = members['1.npy'], members['0.npy']

  checkpoint.save(path, [np.zeros(2), np.ones(2)], {})
  rewritten(path, lambda members: None)
  assert same(checkpoint.load(path)[0], [np.zeros(2), np.ones(2)])
  rewritten(path, exchange)
  with pytest.raises(ValueError, match='array 0 does not have its digest'):
    checkpoint.load(path)


def test_a_newer_format_is_called_that(saved):
  def newer(members):
    header = json.loads(members['tree.json'])
    members['tree.json'] = json.dumps({'format': 9, 'new': header}).encode()

  rewritten(saved, newer)
  with pytest.raises(ValueError, match='params.npz has format 9, and this'):
    checkpoint.load(saved)


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
