"""What several methods share."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stale_adam.problem import Params


def schedule(rate: optax.ScalarOrSchedule) -> Callable[[Any], Any]:
  """A learning rate as a function of the updates before."""
  if callable(rate):
    return rate
  return lambda count: jnp.asarray(rate, jnp.float32)


def needed(params: Params | None, method: str) -> Params:
  """The parameters, which a method compares with those pulled.

  Raises:
    ValueError: if there are none.
  """
  if params is None:
    raise ValueError(
      f'params=None: {method} compares the current parameters with those '
      'pulled; call update(g, state, params, pulled=...)'
    )
  return params


def state_of(kind: type, optimizer_state: Any, method: str) -> Any:
  """The one state of a kind in an optimizer's, whatever is around it.

  Raises:
    ValueError: if there is none, or several.
  """
  is_one = lambda x: isinstance(x, kind)
  found = jax.tree.leaves(optimizer_state, is_leaf=is_one)
  found = [x for x in found if is_one(x)]
  if len(found) != 1:
    raise ValueError(
      f'the optimizer has {len(found)} states of the kind {kind.__name__}: '
      f'{method} needs exactly one'
    )
  return found[0]


def stateless(params: Params) -> optax.OptState:
  """The state of a transformation that has none."""
  del params
  return optax.EmptyState()


def over_workers(entries: jax.Array) -> jax.Array:
  """The sum over the first axis, the workers', in float32 at least.

  Worker after worker: on a CPU, XLA's own sum over a first axis takes many
  times as long, for it strides over a whole entry from number to number.
  """
  wide = jnp.promote_types(entries.dtype, jnp.float32)
  return functools.reduce(operator.add, entries.astype(wide))
