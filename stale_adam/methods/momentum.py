"""Optimizers whose momentum takes staleness into account."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import checks
from stale_adam.methods import parts


class BufferState(NamedTuple):
  """A momentum that is renewed on every N-th update.

  Attributes:
    momentum: m.
    buffer: the sum of the gradients since m was renewed.
    count: updates so far, an int32 scalar.
  """

  momentum: Any
  buffer: Any
  count: Any


# (update, renewed momentum) from (g, m, m if it is renewed now, renewed).
Rule = Callable[[Any, Any, Any, Any], Any]


def _buffered(
  every: int, decay: float, rule: Rule
) -> optax.GradientTransformation:
  """m <- decay m + buffer / N on every N-th update; `rule` makes an update."""
  checks.whole('workers', every, 1)
  checks.real('momentum', decay, 0.0, 1.0)

  def init(params: optax.Params) -> BufferState:
    zeros = optax.tree.zeros_like
    return BufferState(zeros(params), zeros(params), jnp.zeros((), jnp.int32))

  def update(
    updates: optax.Updates,
    state: BufferState,
    params: optax.Params | None = None,
  ) -> tuple[optax.Updates, BufferState]:
    del params
    count = state.count + 1
    renew = count % every == 0
    buffer = jax.tree.map(jnp.add, state.buffer, updates)
    new = jax.tree.map(
      lambda m, b: decay * m + (1 / every) * b, state.momentum, buffer
    )
    made = jax.tree.map(
      lambda g, m, n: rule(g, m, n, renew), updates, state.momentum, new
    )
    chosen = lambda x, y: jnp.where(renew, x, y)
    momentum = jax.tree.map(chosen, new, state.momentum)
    buffer = jax.tree.map(lambda b: jnp.where(renew, 0, b), buffer)
    return made, BufferState(momentum, buffer, count)

  return optax.GradientTransformation(
    init,
    update,  # type: ignore[arg-type]  # optax's types have one kind of state.
  )


def delayed_nesterov(
  learning_rate: optax.ScalarOrSchedule,
  workers: int,
  momentum: float = 0.9,
  share: float = 0.0,
) -> optax.GradientTransformation:
  """Nesterov's momentum, renewed by the mean of N pushes.

    every N-th update:  m <- mu m + (1 / N) sum of the last N pushes
                        theta <- theta - eta ((1 - c N + c) mu m + g / N)
    others:             theta <- theta - eta (c mu m + g / N)

  So momentum moves the parameters as often as with synchronous updates.

  Args:
    learning_rate: eta, a number, or a schedule counted in updates.
    workers: N.
    momentum: mu.
    share: c, what other updates have of the momentum, 0 to 1 / N.

  Returns:
    An optimizer; for one push per update.

  Raises:
    ValueError: if N is not a whole number from 1 on, or mu or c N is not in
      [0, 1].

  Source: Liu et al. (2024), "Asynchronous Local-SGD Training for Language
    Modeling". The paper was not at hand, and the code that the authors released
    does without; rule as in HALoS, code of others.
  """
  checks.whole('workers', workers, 1)
  checks.real('share', share, 0.0, 1 / workers)
  last = (1 - share * workers + share) * momentum
  rule = lambda g, m, new, renew: (
    jnp.where(renew, last * new, share * momentum * m) + (1 / workers) * g
  )
  return optax.chain(
    _buffered(workers, momentum, rule),
    optax.scale_by_learning_rate(learning_rate),
  )


def smega2(
  learning_rate: optax.ScalarOrSchedule, workers: int, momentum: float = 0.9
) -> dict[str, Any]:
  """One momentum for all workers, and replies that look ahead by it: SMEGA2.

    theta <- theta - eta (g + mu m)
    every N-th update:  m <- mu m + (1 / N) sum of the last N pushes
    reply:              theta - eta mu ((N + c (mu - 1)) m + (c / N) b)

  c counts the pushes since m was renewed, b is their sum. With c = 0 the reply
  is the naive form of the source.

  Args:
    learning_rate: eta, a number, or a schedule counted in updates.
    workers: N.
    momentum: mu.

  Returns:
    Arguments of `serve` and `simulate`: `optimizer` and `reply`. For one push
    per update.

  Raises:
    ValueError: if N is not a whole number from 1 on, or mu not in [0, 1].

  Source: Cohen, Hakimi and Schuster (2022), "SMEGA2: Distributed Asynchronous
    Deep Neural Network Training With a Single Momentum Buffer", as in the
    authors' code by default. The paper was not at hand.
  """
  schedule = parts.schedule(learning_rate)

  def reply(server: Any, worker: Any) -> Any:
    del worker
    state = parts.state_of(BufferState, server.optimizer_state, 'smega2')
    rate = momentum * schedule(server.version)
    since = (state.count % workers).astype(jnp.float32)
    of_m, of_b = workers + since * (momentum - 1), since * (1 / workers)
    look = lambda x, m, b: x - (rate * (of_m * m + of_b * b)).astype(x.dtype)
    return jax.tree.map(look, server.published, state.momentum, state.buffer)

  rule = lambda g, m, new, renew: g + momentum * m
  optimizer = optax.chain(
    _buffered(workers, momentum, rule),
    optax.scale_by_learning_rate(learning_rate),
  )
  return {'optimizer': optimizer, 'reply': reply}
