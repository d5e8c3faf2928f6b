"""Corrections of a push for the updates since its pull, for `per_push`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import sums
from stale_adam.methods import parts


class GapState(NamedTuple):
  """What the size of an update is estimated from.

  Attributes:
    last: the parameters at the last push.
    square: mean square of the updates so far, elementwise; both in float32
      where parameters are narrower.
    count: updates in it, an int32 scalar.
  """

  last: Any
  square: Any
  count: Any


class CompensateState(NamedTuple):
  """Mean square of the pushes, elementwise; () if the strength is constant."""

  mean_square: Any


def compensate_delay(
  strength: float = 0.04, decay: float | None = None
) -> optax.GradientTransformationExtraArgs:
  """Extrapolate a push to the current parameters: DC-ASGD, for `per_push`.

    g <- g + s g g (theta - theta_pulled)

  elementwise: g g approximates the diagonal of the Hessian. The strength s is
  constant (DC-ASGD-c), or adaptive if there is a decay d (DC-ASGD-a). It is
  that of one gradient: with L summed in a push, g g grows as L^2.

    ms <- d ms + (1 - d) g g        s = strength / sqrt(ms + 1e-7)

  Args:
    strength: usually 0.04 if constant, 2.0 with a decay. 0 leaves pushes
      unchanged.
    decay: of the mean square, usually 0.95; None for a constant strength.

  Returns:
    A transformation whose update needs `params`, the current parameters, and
    `pulled`, those that the push was computed at; `serve` and `simulate` give
    both. All workers share one mean square.

  Raises:
    ValueError: if the strength is negative or the decay not in [0, 1).

  Source: Zheng et al. (2017), "Asynchronous Stochastic Gradient Descent with
    Delay Compensation". Rule as in Microsoft's code of it for Multiverso, which
    has a mean square for every worker; that all share one is ours. The paper
    was not at hand: the usual numbers are those of MXNet and other code.
  """
  if isinstance(strength, float | int) and not strength >= 0:
    raise ValueError(f'strength={strength}: use 0 or more')
  if decay is not None and not 0 <= decay < 1:
    raise ValueError(f'decay={decay}: use a number in [0, 1), or None')

  def init(params: optax.Params) -> CompensateState:
    return CompensateState(
      () if decay is None else jax.tree.map(jnp.zeros_like, params)
    )

  def update(
    updates: optax.Updates,
    state: CompensateState,
    params: optax.Params | None = None,
    *,
    pulled: optax.Params,
    **extra_args: Any,
  ) -> tuple[optax.Updates, CompensateState]:
    del extra_args
    now = parts.needed(params, 'compensate_delay')
    correct = lambda g, s, x, old: g + s * g * g * (x - old)
    if decay is None:
      constant = jax.tree.map(lambda g: strength, updates)
      return jax.tree.map(correct, updates, constant, now, pulled), state
    square = jax.tree.map(
      lambda ms, g: decay * ms + (1 - decay) * g * g, state.mean_square, updates
    )
    adaptive = jax.tree.map(lambda ms: strength / jnp.sqrt(ms + 1e-7), square)
    new = jax.tree.map(correct, updates, adaptive, now, pulled)
    return new, CompensateState(square)

  return optax.GradientTransformationExtraArgs(
    init,
    update,  # type: ignore[arg-type]  # optax's type has no `pulled`.
  )


def reduce_by_gap(
  decay: float = 0.999,
) -> optax.GradientTransformationExtraArgs:
  """Divide a push by how many updates the parameters are away: gap-aware.

    g <- g / (1 + abs(theta - theta_pulled) / C)
    C = sqrt(ms / (1 - d^t)) + 1e-8        ms <- d ms + (1 - d) update^2

  elementwise, with the mean square ms of the t updates so far. Staleness that
  has not moved an element does not reduce its gradient.

  Args:
    decay: d; FTPipe has 0.999 for SGD, and Adam's b2 for Adam.

  Returns:
    A transformation whose update needs `params` and `pulled`, as that of
    `compensate_delay`. It sees an update as the difference between the
    parameters at two pushes.

  Raises:
    ValueError: if the decay is not in [0, 1).

  Source: Barkai, Hakimi and Schuster (2020), "Gap-Aware Mitigation of Gradient
    Staleness". The paper was not at hand; checked against FTPipe, code of the
    same group. There C is the largest rate so far times the root of the mean
    square momentum with SGD, and has no bias correction with Adam; ours is of
    the updates themselves, for any optimizer.
  """
  if not 0 <= decay < 1:
    raise ValueError(f'decay={decay}: use a number in [0, 1)')

  def init(params: optax.Params) -> GapState:
    last = sums.widened(jax.tree.map(jnp.array, params))
    return GapState(last, optax.tree.zeros_like(last), jnp.zeros((), jnp.int32))

  def update(
    updates: optax.Updates,
    state: GapState,
    params: optax.Params | None = None,
    *,
    pulled: optax.Params,
    **extra_args: Any,
  ) -> tuple[optax.Updates, GapState]:
    del extra_args
    now = sums.widened(parts.needed(params, 'reduce_by_gap'))
    moved = jax.tree.map(jnp.subtract, now, state.last)
    # With several pushes per update, most find the parameters as they were.
    updated = jnp.stack([jnp.any(x != 0) for x in jax.tree.leaves(moved)]).any()
    count = state.count + updated
    renew = lambda ms, x: jnp.where(
      updated, decay * ms + (1 - decay) * x * x, ms
    )
    square = jax.tree.map(renew, state.square, moved)
    known = 1 - decay ** jnp.maximum(count, 1).astype(jnp.float32)

    def reduce(g: Any, ms: Any, x: Any, old: Any) -> Any:
      size = jnp.sqrt(ms / known) + 1e-8
      return (g / (1 + jnp.abs(x - old) / size)).astype(g.dtype)

    reduced = jax.tree.map(reduce, updates, square, now, pulled)
    return reduced, GapState(now, square, count)

  return optax.GradientTransformationExtraArgs(
    init,
    update,  # type: ignore[arg-type]  # optax's type has no `pulled`.
  )
