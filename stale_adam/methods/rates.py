"""Learning rates and weights that depend on staleness.

All but `average_pushes` and `fadas` multiply by a factor s. As `per_push` they
weight every push by its own staleness before the sum. After an optimizer,
`optax.chain(sa.adam(rate), scale_by_staleness())`, they multiply the learning
rate, by the s of the mean staleness of the sum. These differ: Adam cancels a
constant factor, so before Adam only differences in staleness count.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import checks
from stale_adam.methods import parts


def scale_by_staleness() -> optax.GradientTransformationExtraArgs:
  """Divide by the staleness: s = 1 / max(1, tau).

  Returns:
    A transformation without state; its update needs `staleness`, a scalar in
    updates, which `serve`, `simulate` and `delay` give.

  Source: Zhang, Gupta, Lian and Liu (2016), "Staleness-aware Async-SGD for
    Distributed Deep Learning", as in a copy of the paper that lacks its
    equations. That staleness 0 counts as 1 is not in its text.
  """
  return _scaled(lambda tau: 1 / jnp.maximum(1.0, tau))


def weight_by_staleness(
  kind: str = 'polynomial', a: float | None = None, b: float = 4.0
) -> optax.GradientTransformationExtraArgs:
  """Weight by a function of the staleness.

    polynomial:   s = (1 + tau)^-a
    hinge:        s = 1 if tau <= b, else 1 / (a (tau - b) + 1)
    exponential:  s = exp(-a tau)

  Args:
    kind: one of these three.
    a: how steep. By default 0.5, 10 and 0.5.
    b: the staleness that a hinge tolerates.

  Returns:
    A transformation without state; its update needs `staleness`.

  Raises:
    ValueError: if the kind is none of the three, or a number is negative.

  Source: Xie, Koyejo and Gupta (2019), "Asynchronous Federated Optimization",
    for the first two. The paper was not at hand; checked against APPFL and
    Plato, code of others. The hinge's constants are Plato's, the polynomial's
    0.5 is as commonly stated. The third is common, its constant ours.
  """
  usual = {'polynomial': 0.5, 'hinge': 10.0, 'exponential': 0.5}
  if kind not in usual:
    raise ValueError(f'kind={kind!r}: use one of {tuple(usual)}')
  a = checks.real('a', usual[kind] if a is None else a)
  b = checks.real('b', b)
  weights: dict[str, Callable[[Any], Any]] = {
    'polynomial': lambda tau: (1.0 + tau) ** -a,
    'hinge': lambda tau: 1 / (a * jnp.maximum(0.0, tau - b) + 1.0),
    'exponential': lambda tau: jnp.exp(-a * tau),
  }
  return _scaled(weights[kind])


def adapt_to_delay(workers: int) -> optax.GradientTransformationExtraArgs:
  """Lower the rate where staleness exceeds its usual size.

    s = N / max(N, tau)

  Args:
    workers: N. With N equal workers tau is N - 1, and nothing changes.

  Returns:
    A transformation without state; its update needs `staleness`.

  Raises:
    ValueError: if N is not a whole number from 1 on.

  Source: Mishchenko, Bach, Even and Woodworth (2022), "Asynchronous SGD Beats
    Minibatch SGD Under Arbitrary Delays", as in their code, for one push per
    update. With G pushes the usual staleness is (N - 1) / G: use N / G.
    Koloskova, Stich and Jaggi (2022) have a similar rule. No paper was at hand.
  """
  number = float(checks.whole('workers', workers, 1))
  return _scaled(lambda tau: number / jnp.maximum(number, tau))


class CorrectState(NamedTuple):
  """Updates so far, an int32 scalar."""

  count: Any


def correct_rate(length: int) -> optax.GradientTransformationExtraArgs:
  """Divide the rate by the staleness early on; fade this out over T updates.

    s = max(1, tau)^-(1 - min(t / T, 1))

  after t updates: PipeMare's first technique. For use after an optimizer.

  Args:
    length: T, updates after which nothing is corrected; a quarter of a run.

  Returns:
    A transformation whose update needs `staleness`.

  Raises:
    ValueError: if T is not a whole number from 1 on.

  Source: Yang, Zhang, Li, Re, Aberger and De Sa (2021), "PipeMare:
    Asynchronous Pipeline Parallel DNN Training". The paper was not at hand;
    checked against AsyncPP, code of others, where tau is that of a stage and t
    counts from 1. That staleness below 1 counts as 1 is ours.
  """
  share = 1 / checks.whole('length', length, 1)

  def init(params: optax.Params) -> CorrectState:
    del params
    return CorrectState(jnp.zeros((), jnp.int32))

  def update(
    updates: optax.Updates,
    state: CorrectState,
    params: optax.Params | None = None,
    *,
    staleness: Any,
    **extra_args: Any,
  ) -> tuple[optax.Updates, CorrectState]:
    del params, extra_args
    power = jnp.minimum(state.count * share, 1.0) - 1.0
    s = jnp.maximum(1.0, staleness) ** power
    return _times(s, updates), CorrectState(state.count + 1)

  return optax.GradientTransformationExtraArgs(
    init,
    update,  # type: ignore[arg-type]  # optax's type has no `staleness`.
  )


def scale_by_distance(
  limit: float = 0.005,
) -> optax.GradientTransformationExtraArgs:
  """Weight a push by how far the parameters have moved since its pull.

    s = min(1, C / |theta - theta_pulled|^2)

  over all parameters together; for `per_push`.

  Args:
    limit: C, the squared distance from which a push counts less; the source
      has 0.005 for CIFAR-10 under SGD.

  Returns:
    A transformation whose update needs `params` and `pulled`, as that of
    `compensate_delay`.

  Raises:
    ValueError: if C is not a positive number.

  Source: Dutta et al. (2018), "Slow and Stale Gradients Can Win the Race", as
    in the paper, equation 13. Its rate is min(c / |theta - theta_pulled|^2,
    eta), so that c is C eta. With one push per update that is the same.
  """
  checks.real('limit', limit, above=True)

  def update(
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    pulled: optax.Params,
    **extra_args: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    del extra_args
    now = parts.needed(params, 'scale_by_distance')
    apart = jax.tree.map(jnp.subtract, now, pulled)
    square = optax.tree.norm(apart, squared=True)
    return _times(limit / jnp.maximum(limit, square), updates), state

  return optax.GradientTransformationExtraArgs(
    parts.stateless,
    update,  # type: ignore[arg-type]  # optax's type has no `pulled`.
  )


def average_pushes() -> optax.GradientTransformationExtraArgs:
  """Divide the sum of an update by its number of pushes, before an optimizer.

  Adam cancels this factor, except for epsilon; SGD does not.

  Returns:
    A transformation without state; its update needs `pushes`, a scalar, which
    `serve` and `simulate` give.

  Source: none of its own. Most sources average where this library sums.
  """

  def update(
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    pushes: Any,
    **extra_args: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    del params, extra_args
    return jax.tree.map(lambda g: g / pushes.astype(g.dtype), updates), state

  return optax.GradientTransformationExtraArgs(
    parts.stateless,
    update,  # type: ignore[arg-type]  # optax's type has no `pushes`.
  )


def fadas(
  learning_rate: optax.ScalarOrSchedule,
  tolerated: int = 1,
  b1: float = 0.9,
  b2: float = 0.99,
  eps: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
  """AMSGrad on the mean of the pushes, at a rate that the stalest lowers.

    s = min(1, 1 / tau_max) if tau_max > tau_c, else 1

  tau_max is the largest staleness in the sum.

  Args:
    learning_rate: a number, or a schedule counted in updates.
    tolerated: tau_c.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: added to the root of the second moment.

  Returns:
    An optimizer whose update needs `pushes` and `stalest`, which `serve` and
    `simulate` give.

  Raises:
    ValueError: if tau_c is not a whole number from 0 on.

  Source: Wang et al. (2024), "FADAS: Towards Federated Adaptive Asynchronous
    Optimization". We follow their code, not their equation, which has
    min(rate, 1 / tau_max). One difference remains: optax takes the largest
    second moment after the correction of its bias, their code before.
  """
  checks.whole('tolerated', tolerated, 0)
  lower = lambda tau: jnp.where(tau > tolerated, 1 / jnp.maximum(1.0, tau), 1.0)
  return optax.chain(
    average_pushes(),
    optax.amsgrad(learning_rate, b1=b1, b2=b2, eps=eps),
    _scaled(lower, 'stalest'),
  )


def _times(factor: Any, updates: optax.Updates) -> optax.Updates:
  return jax.tree.map(lambda g: factor.astype(g.dtype) * g, updates)


def _scaled(
  weight: Callable[[Any], Any], told: str = 'staleness'
) -> optax.GradientTransformationExtraArgs:
  """Multiplies by a function of an extra argument."""

  def update(
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    del params
    if told not in extra_args:
      raise TypeError(f'update() needs {told}=, a scalar')
    number = jnp.asarray(extra_args[told], jnp.float32)
    return _times(weight(number), updates), state

  return optax.GradientTransformationExtraArgs(parts.stateless, update)
