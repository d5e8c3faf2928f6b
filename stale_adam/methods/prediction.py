"""Replies that predict the parameters at the arrival of the push."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stale_adam.methods import parts
from stale_adam.problem import Params
from stale_adam.server import Reply, Visible


def predict_weights(
  learning_rate: optax.ScalarOrSchedule,
  staleness: float,
  b1: float = 0.9,
  b2: float = 0.98,
  eps: float = 1e-9,
) -> Reply:
  """Reply with the parameters that Adam would reach in `staleness` updates.

    theta - sum_{s = 1..tau} rate(t + s) b1^s m_hat / (sqrt(v_hat) + eps)

  from the published parameters, with the moments after t updates, as if all
  later gradients were 0. If tau is fractional, the last term counts in part.
  Before the first update, and with tau = 0, it is theta itself.

  Args:
    learning_rate: the optimizer's: a number, or a schedule counted in updates.
    staleness: tau, the expected staleness of the push: (N - 1) / G for equal
      workers, see `theory.mean_staleness`.
    b1: Adam's.
    b2: Adam's.
    eps: Adam's.

  Returns:
    A reply for `serve` and `simulate`, whose optimizer has one
    optax.ScaleByAdamState.

  Raises:
    ValueError: if the staleness is negative; from the reply if the optimizer
      has no or several states of Adam.

  Source: Eliad et al. (2021), "Fine-tuning giant neural networks on commodity
    hardware with automatic pipeline model parallelism", as in their code,
    FTPipe, which also corrects the bias of the moments for t + s updates. Chen,
    Yang and Cheng (2018), SpecTrain, do not let the momentum decay in theirs,
    nor do Guan et al. (2019), XPipe, as far as we know: their repository has no
    code. No paper was at hand. The fractional last term is ours.
  """
  if not (staleness >= 0 and math.isfinite(staleness)):
    raise ValueError(f'staleness={staleness} counts updates: use 0 or more')
  schedule = parts.schedule(learning_rate)
  terms = [
    (s, min(1.0, staleness - s + 1) * b1**s)
    for s in range(1, math.ceil(staleness) + 1)
  ]
  predict = functools.partial(_predict, schedule, tuple(terms), b1, b2, eps)

  def reply(server: Visible, worker: Any) -> Params:
    del worker
    adam = parts.state_of(
      optax.ScaleByAdamState, server.optimizer_state, 'predict_weights'
    )
    return predict(server.published, adam)

  return reply


def _predict(
  schedule: optax.Schedule,
  terms: tuple[tuple[int, float], ...],
  b1: float,
  b2: float,
  eps: float,
  params: Params,
  adam: Any,
) -> Params:
  count = adam.count
  # An update's rate is the schedule at the count of updates before it.
  rates = [weight * schedule(count + s - 1) for s, weight in terms]
  total = sum(rates, jnp.float32(0))
  started = jnp.maximum(count, 1)  # Before that the moments are 0.
  m_scale, v_scale = 1 - b1**started, 1 - b2**started

  def move(x: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
    m_hat, v_hat = m / m_scale, v / v_scale
    return x - (total * m_hat / (jnp.sqrt(v_hat) + eps)).astype(x.dtype)

  return jax.tree.map(move, params, adam.mu, adam.nu)
