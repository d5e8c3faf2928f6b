"""Corrections of a push for the updates since its pull."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class CompensateState(NamedTuple):
  """Mean square of the pushes, elementwise; () if the strength is constant."""

  mean_square: Any


def compensate_delay(
  strength: float = 0.04, decay: float | None = None
) -> optax.GradientTransformationExtraArgs:
  """Extrapolate a push to the current parameters: DC-ASGD, for `per_push`.

    g <- g + s g g (theta - theta_pulled)

  elementwise: g g approximates the diagonal of the Hessian. The strength s is
  constant (DC-ASGD-c), or adaptive if there is a decay d (DC-ASGD-a):

    ms <- d ms + (1 - d) g g        s = strength / sqrt(ms + 1e-7)

  Args:
    strength: in the source 0.04 if constant, 2.0 with a decay. 0 leaves pushes
      unchanged.
    decay: of the mean square, 0.95 in the source; None for a constant strength.

  Returns:
    A transformation whose update needs `params`, the current parameters, and
    `pulled`, those that the push was computed at; `serve` and `simulate` give
    both. All workers share one mean square.

  Raises:
    ValueError: if the strength is negative or the decay not in [0, 1).

  Source: Zheng et al. (2017), "Asynchronous Stochastic Gradient Descent with
    Delay Compensation".
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
    if params is None:
      raise ValueError(
        'params=None: compensate_delay compares the current parameters with '
        'those pulled; call update(g, state, params, pulled=...)'
      )
    correct = lambda g, s, x, old: g + s * g * g * (x - old)
    if decay is None:
      constant = jax.tree.map(lambda g: strength, updates)
      return jax.tree.map(correct, updates, constant, params, pulled), state
    square = jax.tree.map(
      lambda ms, g: decay * ms + (1 - decay) * g * g, state.mean_square, updates
    )
    adaptive = jax.tree.map(lambda ms: strength / jnp.sqrt(ms + 1e-7), square)
    new = jax.tree.map(correct, updates, adaptive, params, pulled)
    return new, CompensateState(square)

  return optax.GradientTransformationExtraArgs(
    init,
    update,  # type: ignore[arg-type]  # optax's type has no `pulled`.
  )
