"""Measures of a push that need a pass over the parameters."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stale_adam.problem import Params
from stale_adam.server import Server


@dataclasses.dataclass(frozen=True)
class Measure:
  """Measure every push, as `measure` of `serve`.

    distance = |theta - theta_pulled|
    cosine = <g, theta - theta_last> / (|g| |theta - theta_last|)
    noise/<group> = sum (v_hat - m_hat^2) / sum m_hat^2

  Distance is the paper's second reading of staleness. The cosine is that of the
  pushed gradient and the last update: -1 if the update moved straight down
  this gradient. The noise is Var g / (E g)^2 estimated from Adam's moments,
  summed over the elements of a group; Adam's pace is 1 / sqrt(noise + 1). The
  moments average few gradients, so even pure noise seems to have a mean: with
  b1 = 0.9 its measured noise is (1 + b1) / (1 - b1) - 1 = 18.

  Args:
    b1: Adam's.
    b2: Adam's.
    depth: number of keys in a parameter's path that name its group: 2 for
      'encoder/0'.

  Source: the paper's sections 2.3 and 3.
  """

  b1: float = 0.9
  b2: float = 0.98
  depth: int = 2

  def __call__(
    self, pulled: Params, last: Params, server: Server, message: Any
  ) -> dict[str, jax.Array]:
    """Return scalars by name; NaN where there is nothing to measure.

    Args:
      pulled: parameters that the gradient was computed at.
      last: parameters before the last update.
      server: before the push is applied.
      message: the push's; None if another push carries it.
    """
    adam = lambda x: isinstance(x, optax.ScaleByAdamState)
    states = jax.tree.leaves(server.optimizer_state, is_leaf=adam)
    moments = [x for x in states if adam(x)]
    return _measured(self, pulled, last, server.params, message, moments)


@functools.partial(jax.jit, static_argnums=0)
def _measured(
  measure: Measure,
  pulled: Params,
  last: Params,
  params: Params,
  gradient: Any,
  moments: list[Any],
) -> dict[str, jax.Array]:
  norm = optax.tree.norm
  moved = optax.tree.sub(params, last)
  found: dict[str, Any] = {'distance': norm(optax.tree.sub(params, pulled))}
  if gradient is None:
    found['cosine'] = jnp.float32(jnp.nan)
  else:
    lengths = norm(gradient) * norm(moved)
    found['cosine'] = optax.tree.vdot(gradient, moved) / lengths
  for name, value in _noise(measure, moments).items():
    found[f'noise/{name}'] = value
  return found


def _noise(measure: Measure, moments: list[Any]) -> dict[str, jax.Array]:
  """Var g / (E g)^2 of every group of parameters."""
  sums: dict[str, Any] = {}
  for adam in moments:
    unbias = lambda moment, b, adam=adam: moment / (1 - b**adam.count)
    paths = jax.tree_util.tree_flatten_with_path(adam.mu)[0]
    for (path, m), v in zip(paths, jax.tree.leaves(adam.nu), strict=True):
      name = jax.tree_util.keystr(
        path[: measure.depth], simple=True, separator='/'
      )
      mean = jnp.sum(jnp.square(unbias(m, measure.b1)))
      square = jnp.sum(unbias(v, measure.b2))
      total = sums.get(name or 'all', (0.0, 0.0))
      sums[name or 'all'] = total[0] + mean, total[1] + square
  return {name: square / mean - 1 for name, (mean, square) in sums.items()}
