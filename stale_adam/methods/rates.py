"""Learning rates that depend on staleness."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def scale_by_staleness() -> optax.GradientTransformationExtraArgs:
  """Divide by the staleness: g <- g / max(1, tau).

  As `per_push` it scales every push by its own staleness before the sum. After
  an optimizer, `optax.chain(sa.adam(rate), scale_by_staleness())`, it divides
  the learning rate by the mean staleness of the sum. These differ: Adam cancels
  a constant factor, so before Adam only differences in staleness count.

  Returns:
    A transformation without state; its update needs `staleness`, a scalar in
    updates, which `serve`, `simulate` and `delay` give.

  Source: Zhang, Gupta, Lian and Liu (2016), "Staleness-aware Async-SGD for
    Distributed Deep Learning".
  """

  def update(
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    staleness: Any,
    **extra_args: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    del params, extra_args
    divisor = jnp.maximum(1, staleness)
    scaled = jax.tree.map(lambda g: g / divisor.astype(g.dtype), updates)
    return scaled, state

  init = lambda params: optax.EmptyState()
  return optax.GradientTransformationExtraArgs(
    init,
    update,  # type: ignore[arg-type]  # optax's type has no `staleness`.
  )
