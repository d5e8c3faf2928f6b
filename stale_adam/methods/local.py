"""Workers that update parameters of their own before they push.

`local_updates` is the worker; most others combine it with a server's optimizer
and return both as arguments of `serve` and `simulate`. H, the local updates of
a push, is the policy's local_accumulation.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stale_adam import checks
from stale_adam.methods import rates
from stale_adam.problem import Params
from stale_adam.worker import Worker

PUSHED = ('change', 'gradients')


def local_updates(
  optimizer: optax.GradientTransformation, push: str = 'change'
) -> Worker:
  """Run an optimizer on every batch, from the parameters pulled.

    x <- theta_pulled;   for each of H batches:  x <- x + optimizer(grad(x))

  Args:
    optimizer: of the worker, any optax transformation. Its state is the
      worker's memory; a schedule counts local updates.
    push: what is sent, 'change', theta_pulled - x, or 'gradients', their sum.

  Returns:
    A worker for `serve` and `simulate`.

  Raises:
    ValueError: if `push` is neither of the two.

  Source: McMahan et al. (2017), "Communication-Efficient Learning of Deep
    Networks from Decentralized Data", for the change, as in the paper; Dean et
    al. (2012), "Large Scale Distributed Deep Networks", for the gradients. That
    paper was not at hand; checked against mpiT, see `elastic_average`.
  """
  if push not in PUSHED:
    raise ValueError(f'push={push!r}: use one of {PUSHED}')

  def init(params: Params, worker: int) -> Any:
    del worker
    return optimizer.init(params)

  def compute(
    gradient: Callable[..., Any], params: Params, batches: Any, memory: Any
  ) -> tuple[Any, Any, Any]:
    local, total, loss = params, None, None
    # A state without arrays, as SGD's, is no memory.
    state = optimizer.init(params) if memory is None else memory
    for i in batches:
      found = gradient(local, batches[i : i + 1])
      if i + 1 < len(batches):
        local, state, total, loss = _between(
          optimizer, found, local, state, total, loss
        )
    loss, message, state = _last(
      *(optimizer, push == 'change', len(batches)),
      *(found, params, local, state, total, loss),
    )
    return loss, message, None if memory is None else state

  return Worker(init, compute)


@functools.partial(jax.jit, static_argnums=0)
def _between(
  optimizer: optax.GradientTransformation,
  found: Any,
  local: Any,
  state: Any,
  total: Any,
  loss: Any,
) -> tuple[Any, Any, Any, Any]:
  """A local update: (parameters, state, sum of gradients, sum of losses)."""
  new, gradient = found
  if total is not None:
    loss, total = loss + new, jax.tree.map(jnp.add, total, gradient)
  else:
    loss, total = found
  updates, state = optimizer.update(gradient, state, local)
  return optax.apply_updates(local, updates), state, total, loss


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _last(
  optimizer: optax.GradientTransformation,
  change: bool,
  batches: int,
  found: Any,
  params: Any,
  *known: Any,
) -> tuple[Any, Any, Any]:
  """The last local update of a push: (loss, message, state)."""
  local, state, total, loss = _between(optimizer, found, *known)
  if change:
    total = jax.tree.map(jnp.subtract, params, local)
  return loss * (1 / batches), total, state


def average_models(inner: optax.GradientTransformation) -> dict[str, Any]:
  """Local SGD, FedAvg: the mean of the workers' parameters.

    x_w: H local updates;   theta <- theta - mean_w (theta_pulled - x_w)

  Args:
    inner: the workers' optimizer, SGD in the source.

  Returns:
    `worker` and `optimizer`; for a synchronous policy.

  Source: McMahan et al. (2017), "Communication-Efficient Learning of Deep
    Networks from Decentralized Data", as in the paper, with equally many
    sentences per worker, and all workers in every round.
  """
  return {
    'worker': local_updates(inner),
    'optimizer': optax.chain(rates.average_pushes(), optax.sgd(1.0)),
  }


def diloco(
  inner: optax.GradientTransformation,
  outer_rate: float = 0.7,
  momentum: float = 0.9,
) -> dict[str, Any]:
  """Local AdamW, and Nesterov's momentum on the mean change: DiLoCo.

    x_w: H local updates;   d = mean_w (theta_pulled - x_w)
    m <- mu m + d;          theta <- theta - eta (d + mu m)

  Args:
    inner: the workers' optimizer, AdamW in the source; workers keep its state.
    outer_rate: eta.
    momentum: mu.

  Returns:
    `worker` and `optimizer`; for a synchronous policy.

  Source: Douillard et al. (2023), "DiLoCo: Distributed Low-Communication
    Training of Language Models". The paper was not at hand; rule, constants and
    an H of 500 as in OpenDiLoCo, code of others.
  """
  outer = optax.sgd(outer_rate, momentum, nesterov=True)
  return {
    'worker': local_updates(inner),
    'optimizer': optax.chain(rates.average_pushes(), outer),
  }


def buffered_averaging(
  inner: optax.GradientTransformation, server_rate: float = 1.0
) -> dict[str, Any]:
  """Asynchronous local SGD with a buffer of K changes: FedBuff.

    push:    (1 + tau)^-0.5 (theta_pulled - x_w)
    update:  theta <- theta - eta mean of K pushes

  Args:
    inner: the workers' optimizer, SGD in the source.
    server_rate: eta.

  Returns:
    `worker`, `per_push` and `optimizer`; for `Communication` with
    global_accumulation = K.

  Source: Nguyen et al. (2022), "Federated Learning with Buffered Asynchronous
    Aggregation". The paper was not at hand. The weight is that of FLSim, their
    code, which by default sums the buffer; the mean is that of Plato, code of
    others. It is over K, not over the sum of the weights.
  """
  return {
    'worker': local_updates(inner),
    'per_push': rates.weight_by_staleness('polynomial', 0.5),
    'optimizer': optax.chain(rates.average_pushes(), optax.sgd(server_rate)),
  }


def mix_models(
  inner: optax.GradientTransformation,
  share: float = 0.6,
  kind: str = 'polynomial',
) -> dict[str, Any]:
  """Asynchronous local SGD whose result is mixed into the parameters: FedAsync.

    theta <- (1 - a s) theta + a s x_w

  with the weight s of the push's staleness.

  Args:
    inner: the workers' optimizer, SGD in the source.
    share: a.
    kind: of the weight, as of `weight_by_staleness`.

  Returns:
    `worker`, `per_push` and `optimizer`; for one push per update.

  Raises:
    ValueError: if a is not in [0, 1], or the kind is unknown.

  Source: Xie, Koyejo and Gupta (2019), "Asynchronous Federated Optimization",
    without the term of the local loss that holds x_w near theta_pulled. The
    paper was not at hand; checked against APPFL and Plato, code of others, but
    for the default a.
  """
  a = checks.real('share', share, 0.0, 1.0)

  def update(
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    pulled: optax.Params,
    **extra_args: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    del extra_args
    apart = lambda g, x, old: a * ((x - old) + g)  # x_w is old - g.
    return jax.tree.map(apart, updates, params, pulled), state

  whole = optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(),
    update,  # type: ignore[arg-type]  # optax's type has no `pulled`.
  )
  return {
    'worker': local_updates(inner),
    'per_push': optax.chain(whole, rates.weight_by_staleness(kind)),
    'optimizer': optax.sgd(1.0),
  }


def downpour(
  inner: optax.GradientTransformation, server_rate: float
) -> dict[str, Any]:
  """Local updates that push their gradients, and Adagrad: Downpour.

    x_w: H local updates;   g = sum of their gradients
    z <- z + g^2;           theta <- theta - eta g / sqrt(z)

  Args:
    inner: the workers' optimizer, SGD in the source.
    server_rate: eta; z is optax's, 0.1 at first.

  Returns:
    `worker` and `optimizer`.

  Source: Dean et al. (2012), "Large Scale Distributed Deep Networks", with a
    pull and a push of every H batches. The paper was not at hand: Adagrad as
    commonly stated, the worker as in mpiT, see `elastic_average`.
  """
  return {
    'worker': local_updates(inner, 'gradients'),
    'optimizer': optax.adagrad(server_rate),
  }


def worker_adam(inner: optax.GradientTransformation) -> dict[str, Any]:
  """Every worker has its own Adam and pushes its change, which is added.

    x_w: H local updates;   theta <- theta - (theta_pulled - x_w)

  Args:
    inner: the workers' optimizer; workers keep its state.

  Returns:
    `worker` and `optimizer`.

  Source: the asynchronous mode of BytePS, as in its code, where H is 1. The
    source is code, not a paper.
  """
  return {'worker': local_updates(inner), 'optimizer': optax.sgd(1.0)}


def apply_own_push(optimizer: optax.GradientTransformation) -> Worker:
  """Go on from the parameters pulled, with the last push already applied.

    x <- theta_pulled + optimizer(last push);   push <- sum of gradients at x

  So a worker does not wait to see its own contribution. The server applies it,
  too: if a pull has it already, it counts twice. For policies whose pulls lag
  behind by one push of each worker, as those of `OneRoundLate`.

  Args:
    optimizer: of the worker, which keeps its state.

  Returns:
    A worker for `serve` and `simulate`.

  Source: Marian's former asynchronous training on several nodes, as in its
    code, where a pull overlaps the next gradients. The local optimizers of
    Bogoychev, Heafield, Aji and Junczys-Dowmunt (2018), "Accelerating
    Asynchronous Stochastic Gradient Descent for Neural Machine Translation",
    are another rule in the first author's code: early in the run, a worker
    applies each of its gradients at once, and writes its shard of the result to
    the server; `local_updates` comes closest. That paper was not at hand.
  """

  def init(params: Params, worker: int) -> Any:
    del worker
    zeros = optax.tree.zeros_like(params)
    return optimizer.init(params), zeros, jnp.zeros((), bool)

  def compute(
    gradient: Callable[..., Any], params: Params, batches: Any, memory: Any
  ) -> tuple[Any, Any, Any]:
    local, state = _apply(optimizer, params, *memory)
    loss, found = gradient(local, batches)
    return loss, found, (state, found, jnp.ones((), bool))

  return Worker(init, compute)


@functools.partial(jax.jit, static_argnums=0)
def _apply(
  optimizer: optax.GradientTransformation,
  params: Params,
  state: Any,
  push: Any,
  pushed: Any,
) -> tuple[Params, Any]:
  """The parameters after the last push, and the optimizer's state."""
  updates, after = optimizer.update(push, state, params)
  new = optax.apply_updates(params, updates), after
  choose = lambda x, y: jnp.where(pushed, x, y)
  return jax.tree.map(choose, new, (params, state))


# Compiled for the optimizer of one run.
PROGRAMS = (_between, _last, _apply)
