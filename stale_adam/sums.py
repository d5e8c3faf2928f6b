"""Sums of many gradients: in float32 where their own type is narrower.

In bfloat16 256 + 1 is 256: a sum of a thousand ones stops there. Sums are
rounded to the parameters' types once, when they are complete.
"""

from typing import Any

import jax
import jax.numpy as jnp

Tree = Any


def widened(tree: Tree) -> Tree:
  """The tree with leaves narrower than float32 in float32, others as is."""
  return jax.tree.map(lambda x: _cast(x, _wide(x)), tree)


def add(total: Tree, new: Tree) -> Tree:
  """total + new, in the types of `widened`."""
  return jax.tree.map(jnp.add, widened(total), widened(new))


def narrowed(total: Tree, like: Tree) -> Tree:
  """A complete sum in the types of another tree, such as the parameters."""
  return jax.tree.map(lambda x, y: _cast(x, jnp.result_type(y)), total, like)


def _wide(leaf: Any) -> Any:
  dtype = jnp.result_type(leaf)
  if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
    return jnp.dtype('float32')
  return dtype


def _cast(leaf: Any, dtype: Any) -> Any:
  if jnp.result_type(leaf) == dtype:
    return leaf
  # XLA keeps more digits than a narrow type has, where a conversion to it is
  # followed by one back. How it rounds would depend on what is compiled
  # together.
  barrier = jax.lax.optimization_barrier
  return barrier(jnp.asarray(barrier(leaf), dtype))
