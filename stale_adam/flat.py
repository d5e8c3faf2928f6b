"""Parameters as one vector: a tree of arrays joined, and taken apart again."""

import functools
from collections.abc import Callable

import jax
from jax.flatten_util import ravel_pytree

from stale_adam.problem import Params


class Structure:
  """What a program on vectors depends on: equal if all shapes and types are.

  Args:
    params: arrays, or their shapes and dtypes.

  Attributes:
    unravel: `unravel(vector) -> params`, to be called in a jitted function.
    dtype: of the vector, which holds the values of all leaves.
  """

  def __init__(self, params: Params):
    leaves, tree = jax.tree.flatten(params)
    self._key = tree, tuple((x.shape, x.dtype) for x in leaves)
    vector, self.unravel = ravel_pytree(params)
    self.dtype = vector.dtype

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Structure) and self._key == other._key

  def __hash__(self) -> int:
    return hash(self._key)


@jax.jit
def ravel(params: Params) -> jax.Array:
  """All leaves, one after the other, as a vector of their common type."""
  return ravel_pytree(params)[0]


def unravel(params: Params) -> Callable[[jax.Array], Params]:
  """The inverse of `ravel` for such parameters, compiled once."""
  return _unravel(Structure(params))


@functools.lru_cache(maxsize=64)
def _unravel(structure: Structure) -> Callable[[jax.Array], Params]:
  return jax.jit(structure.unravel)
