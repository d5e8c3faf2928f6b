"""Trees taken apart into JSON and arrays that NumPy's format can hold."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_STATIC = (bool, int, float, str)
_DEPTH = 100  # Levels of a tree: what JSON and Python read without trouble.


class Encoder:
  """Takes trees apart; see `checkpoint.save` for what a tree may hold.

  Attributes:
    arrays: those of all trees, of NumPy's own types.
    described: for each array what `restored` needs to know, in JSON's types.
  """

  def __init__(self) -> None:
    self.arrays: list[np.ndarray] = []
    self.described: list[dict[str, Any]] = []  # What each array was.
    self._places: dict[int, int] = {}  # In `arrays`, by the leaf's id.

  def encode(self, tree: Any, where: str, depth: int = 0) -> Any:
    """The JSON of a tree.

    Args:
      tree: what to take apart.
      where: name of the tree, for errors.
      depth: levels above it.

    Raises:
      TypeError: naming the place of what cannot be stored.
    """
    if depth > _DEPTH:
      raise TypeError(
        f'{where} is nested more than {_DEPTH} deep, or contains itself'
      )
    if tree is None:
      return None
    kind = type(tree)
    if kind in _STATIC:
      _check_static(tree, where)
      return {'value': tree}
    inside = lambda part, value: self.encode(value, where + part, depth + 1)
    if kind is dict:
      for key in tree:
        if type(key) not in (str, int):
          raise TypeError(f'{where} has the key {key!r}: use str or int')
      return {'dict': [[k, inside(f'[{k!r}]', v)] for k, v in tree.items()]}
    if kind in (list, tuple):
      return {kind.__name__: [inside(f'[{i}]', v) for i, v in enumerate(tree)]}
    if isinstance(tree, list | tuple):
      fields = zip(_fields(kind, where), tree, strict=True)
      name = _class_name(kind)
      return {name: [[field, inside(f'.{field}', v)] for field, v in fields]}
    return {'array': self._array(tree, where)}

  def _array(self, leaf: Any, where: str) -> int:
    """The place of an array; the same for an array that is already there."""
    if id(leaf) not in self._places:
      array, found = _as_numpy(leaf, where)
      self._places[id(leaf)] = len(self.arrays)
      self.arrays.append(array)
      self.described.append(found)
    return self._places[id(leaf)]


def _check_static(value: Any, where: str) -> None:
  try:
    json.loads(json.dumps(value))
  except ValueError as error:  # Python reads no number of 5,000 digits.
    raise TypeError(f'{where} cannot be saved: {error}') from None


def _class_name(kind: type) -> str:
  return f'{kind.__module__}:{kind.__qualname__}'


def _fields(kind: type, where: str) -> Sequence[str]:
  """The fields of a NamedTuple whose class `load` will find."""
  name = _class_name(kind)
  if _find_class(name) is not kind:
    raise TypeError(
      f'{where} is of {name}: only NamedTuples at the top of a module can be '
      'saved, beside dict, list and tuple'
    )
  return kind._fields


def _find_class(name: str) -> Any:
  """The NamedTuple class of that name in a module that is imported, or None.

  Nothing is imported, so that a file cannot run code.
  """
  module, _, names = name.partition(':')
  found: Any = sys.modules.get(module)
  for part in names.split('.'):
    found = getattr(found, part, None)
  known = isinstance(found, type) and issubclass(found, tuple)
  return found if known and hasattr(found, '_fields') else None


def _as_numpy(leaf: Any, where: str) -> tuple[np.ndarray, dict[str, Any]]:
  """An array that NumPy's format can hold, and what the leaf was."""
  if isinstance(leaf, jax.Array) and jnp.issubdtype(
    leaf.dtype, jax.dtypes.prng_key
  ):
    name = str(jax.random.key_impl(leaf))
    data = jax.random.key_data(leaf)
    try:
      same = jax.random.wrap_key_data(data, impl=name).dtype == leaf.dtype
    except ValueError:
      same = False
    if not same:
      raise TypeError(f'{where} is a key of {name}, which JAX does not know')
    return np.asarray(data), {'key': name}
  if not (isinstance(leaf, jax.Array | np.generic) or type(leaf) is np.ndarray):
    raise TypeError(
      f'{where} is of type {type(leaf).__name__}: use arrays, numbers, text, '
      'None, and dicts, lists, tuples and NamedTuples of these'
    )
  try:
    array = np.asarray(leaf)
  except Exception as error:  # It was donated, or lies on other machines.
    raise TypeError(f'{where} cannot be read: {error}') from None
  found: dict[str, Any] = (
    {'scalar': True} if isinstance(leaf, np.generic) else {}
  )
  if array.dtype.kind in 'biufc' and array.dtype.isbuiltin < 2:
    return array, found
  try:  # Types that NumPy's format writes as raw bytes.
    known = np.dtype(array.dtype.name) == array.dtype
  except TypeError:
    known = False
  if not known or array.dtype.isbuiltin != 2:
    raise TypeError(f'{where} has type {array.dtype}: use numbers or Booleans')
  bits = array.view(f'u{array.dtype.itemsize}')
  return bits, {'dtype': array.dtype.name, **found}


def restored(array: np.ndarray, found: dict[str, Any]) -> Any:
  """The leaf that `Encoder` stored as this array, with this description."""
  if 'key' in found:
    return jax.random.wrap_key_data(jnp.asarray(array), impl=found['key'])
  if 'dtype' in found:
    array = array.view(np.dtype(found['dtype']))
  return array[()] if found.get('scalar') else array


def decode(encoded: Any, arrays: Sequence[Any]) -> Any:
  """Puts a tree together.

  Args:
    encoded: as `Encoder.encode` returned it.
    arrays: as `restored` returned them.

  Raises:
    ValueError: naming the class that is not imported, or has other fields.
  """
  if encoded is None:
    return None
  ((kind, content),) = encoded.items()
  if kind == 'value':
    return content
  if kind == 'array':
    return arrays[content]
  if kind == 'dict':
    return {key: decode(value, arrays) for key, value in content}
  if kind in ('list', 'tuple'):
    parts = [decode(part, arrays) for part in content]
    return parts if kind == 'list' else tuple(parts)
  found, fields = _find_class(kind), tuple(field for field, _ in content)
  if found is None or found._fields != fields:
    raise ValueError(
      f'it holds a {kind} with the fields {fields}, which is not that of this '
      'program: import its module, or use the version that wrote the file'
    )
  return found._make(decode(value, arrays) for _, value in content)
