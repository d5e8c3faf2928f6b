"""The paper's optimizer: Adam, warm-up, inverse square root decay."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib


def adam(
  learning_rate: optax.ScalarOrSchedule,
  b1: float = 0.9,
  b2: float = 0.98,
  eps: float = 1e-9,
) -> optax.GradientTransformation:
  """Adam with the constants of the paper's Transformers.

    m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
    theta <- theta - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

  Args:
    learning_rate: a number, or a schedule counted in updates.
    b1: decay of the first moment.
    b2: decay of the second moment; Table 2 of the paper fixes 0.98.
    eps: added to the root of the second moment.

  Returns:
    `optax.adam` with these constants.

  Source: Kingma and Ba (2014); the paper's section 3; Vaswani et al. (2017),
    section 5.3, for the constants.
  """
  return optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)


def inverse_sqrt(
  peak: float, warmup_updates: int, decay_after: int | None = None
) -> optax.Schedule:
  """A learning rate with linear warm-up, then inverse square root decay.

  It is counted in updates. The u-th, u = 1, 2, ..., has the rate

    peak min(1, u / warmup_updates) min(1, sqrt(decay_after / u)).

  Args:
    peak: the largest rate, reached at u = warmup_updates.
    warmup_updates: length of the warm-up; 0 for none.
    decay_after: the update after which the rate decays. The default is
      warmup_updates, as for the paper's Transformer, or 1 if there is no
      warm-up. The paper's RNN has no warm-up and the same decay:
      warmup_updates=0, decay_after=16000.

  Returns:
    A schedule from the number of updates already applied, u - 1.

  Raises:
    ValueError: if warmup_updates is negative, or decay_after is below it, so
      that the rate would never reach its peak.

  Source: the paper's section 4.1; Vaswani et al. (2017), equation 3. The
    authors' code gives the first update a rate of 0; here it counts.
  """
  decay_after = warmup_updates if decay_after is None else decay_after
  if warmup_updates < 0:
    raise ValueError(
      f'warmup_updates={warmup_updates}: it counts updates, use 0 or more'
    )
  if decay_after < warmup_updates:
    raise ValueError(
      f'decay_after={decay_after} is before the end of the warm-up: use '
      f'{warmup_updates} or more'
    )

  def schedule(count: Any) -> jax.Array:
    update = count + 1.0
    warm = jnp.minimum(1.0, update / max(warmup_updates, 1))
    return (
      peak * warm * jnp.sqrt(jnp.minimum(1.0, max(decay_after, 1) / update))
    )

  return schedule


def ticking(schedule: optax.Schedule, ticks_per_update: int) -> optax.Schedule:
  """A schedule whose count grows by more than one per update.

    rate(u) = schedule(u ticks_per_update)

  In the authors' code the count grows by one for G batches, but under local
  accumulation an update uses G L of them: ticks_per_update = L. Our own
  schedules count updates.

  Args:
    schedule: from the number of updates already applied.
    ticks_per_update: how much the count grows per update.

  Returns:
    A schedule from the number of updates already applied.

  Raises:
    ValueError: if ticks_per_update is below 1.

  Source: the authors' released code; the paper's text does not say.
  """
  if ticks_per_update < 1:
    raise ValueError(
      f'ticks_per_update={ticks_per_update}: use 1, which counts updates, or '
      'more'
    )
  return lambda count: schedule(count * ticks_per_update)


def start_on_zero(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Start from the state that one zero gradient leaves, as an ablation.

    (_, o) <- inner(0, inner.init(theta), theta)

  Adam's moments stay 0, but its bias correction and its schedule are one
  update ahead: the first update is sqrt(1 + b2) / (1 + b1) of what it was,
  0.74 for the paper's constants, times the schedule's ratio.

  Args:
    inner: the optimizer.

  Returns:
    A transformation that differs in `init` only; the update that the zero
    gradient makes is not applied.

  Source: the authors' released code, asynchronous initialisation; the paper's
    text does not mention it.
  """
  inner = optax.with_extra_args_support(inner)

  def init(params: Any) -> Any:
    zero = optax.tree.zeros_like(params)
    return inner.update(zero, inner.init(params), params)[1]

  return optax.GradientTransformationExtraArgs(init, inner.update)


# Optimizers to compare Adam with, each made from a schedule. Those with Adam's
# moments use the paper's constants. Everything else is optax's default, except
# that there is no weight decay, and that Adafactor factors smaller matrices, so
# that it factors some in small models.
_MOMENTS: dict[str, Any] = {'b1': 0.9, 'b2': 0.98, 'eps': 1e-9}
NAMED: Mapping[
  str, Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]
] = {
  'adam': adam,
  'adam b1=0.99': functools.partial(adam, b1=0.99),
  'nadam': functools.partial(optax.nadam, **_MOMENTS),
  'amsgrad': functools.partial(optax.amsgrad, **_MOMENTS),
  'lion': functools.partial(optax.lion, weight_decay=0.0),
  'momentum': functools.partial(optax.sgd, momentum=0.9),
  'adafactor': functools.partial(optax.adafactor, min_dim_size_to_factor=32),
  'muon': functools.partial(contrib.muon, adam_b2=0.98),
}
