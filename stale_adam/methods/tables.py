"""Per-push methods that remember something of every worker: a table."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import checks, sums
from stale_adam.methods import parts


class Table(NamedTuple):
  """An entry for every worker: the parameters' form, each leaf with an axis N.

  Attributes:
    entries: the table.
    shared: what all workers share, such as sums; () if nothing.
  """

  entries: Any
  shared: Any = ()


# (message, entry, shared) from (push, entry, shared, params, pulled).
Rule = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]


def transformation(
  workers: int,
  rule: Rule,
  entry: Callable[[Any], Any] = optax.tree.zeros_like,
  shared: Callable[[Any], Any] = lambda params: (),
  after: Callable[[Any, Any], Any] = lambda message, entries: message,
) -> optax.GradientTransformationExtraArgs:
  """A transformation of pushes that reads and writes the pusher's entry.

  Args:
    workers: N.
    rule: what to do with a push.
    entry: of every worker, from the initial parameters.
    shared: likewise, what all share.
    after: the message, from that of the rule and all entries.

  Returns:
    A transformation whose state is a `Table`, N times as large as the
    parameters; its update needs `params`, `pulled` and `worker`.

  Raises:
    ValueError: if N is not a whole number from 1 on.
  """
  checks.whole('workers', workers, 1)

  def init(params: optax.Params) -> Table:
    stack = lambda x: jnp.broadcast_to(x, (workers, *x.shape))
    return Table(jax.tree.map(stack, entry(params)), shared(params))

  def update(
    updates: optax.Updates,
    state: Table,
    params: optax.Params | None = None,
    *,
    pulled: optax.Params,
    worker: Any,
    **extra_args: Any,
  ) -> tuple[optax.Updates, Table]:
    del extra_args
    own = jax.tree.map(lambda x: x[worker], state.entries)
    message, own, rest = rule(updates, own, state.shared, params, pulled)
    put = lambda x, y: x.at[worker].set(y)
    entries = jax.tree.map(put, state.entries, own)
    return after(message, entries), Table(entries, rest)

  return optax.GradientTransformationExtraArgs(
    init,
    update,  # type: ignore[arg-type]  # optax's type has no `pulled`.
  )


def average_workers(workers: int) -> optax.GradientTransformationExtraArgs:
  """Replace a push by the mean of every worker's last push: IA2SGD.

    table[w] <- g;   g <- (1 / N) sum_i table[i]

  So slow workers count as much as fast ones. Entries are 0 at first.

  Args:
    workers: N.

  Returns:
    A transformation for `per_push`.

  Raises:
    ValueError: if N is not a whole number from 1 on.

  Source: incremental aggregated asynchronous SGD, as Maranjyan and Richtarik
    (2025), "Ringleader ASGD", compare with, as in code of theirs. They make no
    update until every worker has pushed. Their own method, which serves workers
    in rounds, is another one. The paper was not at hand.
  """
  share = 1 / checks.whole('workers', workers, 1)

  def rule(g: Any, own: Any, shared: Any, params: Any, pulled: Any) -> Any:
    del own, params, pulled
    return g, g, shared

  def mean(entries: Any, like: Any) -> Any:
    return (share * parts.over_workers(entries)).astype(like.dtype)

  return transformation(
    workers,
    rule,
    after=lambda message, entries: jax.tree.map(mean, entries, message),
  )


def dana(
  learning_rate: optax.ScalarOrSchedule, workers: int, momentum: float = 0.9
) -> dict[str, Any]:
  """Momentum of every worker's own, and a look ahead by all of it: DANA-Zero.

    push of w:   v_w <- mu v_w + g;    theta <- theta - eta v_w
    reply:       theta - eta mu sum_i v_i

  Args:
    learning_rate: eta, a number, or a schedule counted in updates.
    workers: N.
    momentum: mu.

  Returns:
    Arguments of `serve` and `simulate`: `per_push`, `optimizer` and `reply`.

  Raises:
    ValueError: if N is not a whole number from 1 on, or mu not in [0, 1].

  Source: Hakimi, Barkai, Gabel and Schuster (2019), "Taming Momentum in a
    Distributed Asynchronous Environment". The paper was not at hand; checked
    against code of its variant DANA-DC, theirs to all appearance.
  """
  checks.real('momentum', momentum, 0.0, 1.0)

  def rule(g: Any, v: Any, shared: Any, params: Any, pulled: Any) -> Any:
    del params, pulled
    v = jax.tree.map(lambda v, g: momentum * v + g, v, g)
    return v, v, shared

  schedule = parts.schedule(learning_rate)

  def reply(server: Any, worker: Any) -> Any:
    del worker
    ahead = momentum * schedule(server.version)
    look = lambda x, v: x - (ahead * parts.over_workers(v)).astype(x.dtype)
    return jax.tree.map(look, server.published, server.per_push_state.entries)

  return {
    'per_push': transformation(workers, rule),
    'optimizer': optax.sgd(learning_rate),
    'reply': reply,
  }


def elastic_average(
  workers: int, moving: float | None = None
) -> dict[str, Any]:
  """Workers with parameters of their own, drawn to the server's: EASGD.

    push of w:   d = a (x_w - theta);   theta <- theta + d;   x_w <- x_w - d
    reply:       x_w

  x_w are the parameters that the worker has come to, theta_pulled - push: use a
  worker that pushes its change, such as local_updates(optax.sgd(rate)).

  Args:
    workers: N.
    moving: a; by default 0.9 / N.

  Returns:
    Arguments of `serve` and `simulate`: `per_push`, `optimizer` and `reply`.

  Raises:
    ValueError: if N is not a whole number from 1 on, or a not in [0, 1].

  Source: Zhang, Choromanska and LeCun (2015), "Deep Learning with Elastic
    Averaging SGD", the asynchronous form, as in mpiT, the first author's code,
    whose a is 0.9 / N, too. There a worker computes d from what it pulls, and
    its next gradient before it subtracts d. The paper was not at hand.
  """
  checks.whole('workers', workers, 1)
  a = checks.real('moving', 0.9 / workers if moving is None else moving, 0, 1)

  def rule(g: Any, own: Any, shared: Any, params: Any, pulled: Any) -> Any:
    del own
    there = jax.tree.map(jnp.subtract, pulled, g)
    drawn = jax.tree.map(lambda y, x: a * (x - y), there, params)
    return drawn, jax.tree.map(jnp.add, there, drawn), shared

  def reply(server: Any, worker: Any) -> Any:
    return jax.tree.map(lambda x: x[worker], server.per_push_state.entries)

  return {
    'per_push': transformation(workers, rule, entry=lambda params: params),
    'optimizer': optax.sgd(1.0),
    'reply': reply,
  }


def adaptive_revision(learning_rate: float, workers: int) -> dict[str, Any]:
  """Adagrad that revises earlier updates once it knows what they missed.

  With the sum b of all gradients since the pull of a push g, elementwise,

    e' = a / sqrt(z');   z <- z + g^2 + 2 g b;   z' <- max(z', z)
    e = a / sqrt(z');    theta <- theta - e g + (e' - e) b

  z and z' are 1 at first.

  Args:
    learning_rate: a.
    workers: N.

  Returns:
    Arguments of `serve` and `simulate`: `per_push` and `optimizer`. For
    policies that update on every push and answer it at once.

  Raises:
    ValueError: if N is not a whole number from 1 on, or a is not positive.

  Source: McMahan and Streeter (2014), "Delay-Tolerant Algorithms for
    Asynchronous Distributed Online Learning". The paper was not at hand;
    checked against Petuum, code of others, which also begins with 1.
  """
  a = checks.real('learning_rate', learning_rate, above=True)

  def rule(g: Any, read: Any, shared: Any, params: Any, pulled: Any) -> Any:
    del params, pulled
    total, z, z_max = shared
    missed = jax.tree.map(jnp.subtract, total, read)
    z = jax.tree.map(lambda z, g, b: z + g * g + 2 * g * b, z, g, missed)
    new = jax.tree.map(jnp.maximum, z_max, z)

    def change(g: Any, b: Any, before: Any, after: Any) -> Any:
      old, rate = a / jnp.sqrt(before), a / jnp.sqrt(after)
      return (rate * g - (old - rate) * b).astype(g.dtype)

    message = jax.tree.map(change, g, missed, z_max, new)
    total = jax.tree.map(jnp.add, total, g)
    return message, total, (total, z, new)

  zeros = lambda x: sums.widened(optax.tree.zeros_like(x))
  ones = lambda x: sums.widened(optax.tree.ones_like(x))
  shared = lambda x: (zeros(x), ones(x), ones(x))
  return {
    'per_push': transformation(workers, rule, zeros, shared),
    'optimizer': optax.sgd(1.0),
  }
