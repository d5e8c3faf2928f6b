"""The parameter server: what a pull and a push do, and who gets the reply.

A worker pulls a snapshot, computes L gradients at it and pushes their sum. The
server adds pushes up; every G-th runs the optimizer once on the sum and clears
it. The reply to a push is the newest snapshot given out, a new one every U
updates. A push's staleness is the version in force when it arrives minus the
version that its worker had pulled.

Everything that the project says about staleness follows from `pull`, `push`
and `serve` in this file. Where the workers run, and in which order they
arrive, is the pool's business.
"""

import dataclasses
import functools
import itertools
import numbers
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import worker as worker_lib
from stale_adam.problem import Params, Problem


@dataclasses.dataclass(frozen=True)
class Communication:
  """How workers and server talk: five numbers.

  Attributes:
    workers: N, the number of workers.
    local_accumulation: L, gradients that a worker sums at one snapshot before
      it pushes.
    global_accumulation: G, pushes that the server sums before it updates. A
      synchronous update always uses all N pushes; there 1 (the default) and N
      mean the same.
    synchronous: nobody pulls until the update that uses all N pushes is done.
    pull_every: U, updates between two snapshots given out: artificial
      staleness.

  Raises:
    ValueError: if a number is not whole or below 1, or G is neither 1 nor N
      while synchronous.

  Source: the paper's sections 4.3 (U) and 5.1 (L, G); Table 3.
  """

  workers: int
  local_accumulation: int = 1
  global_accumulation: int = 1
  synchronous: bool = False
  pull_every: int = 1

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name == 'synchronous':
        if not isinstance(value, bool):
          raise ValueError(f'synchronous={value!r}: use True or False')
        continue
      if not (isinstance(value, numbers.Integral) and value >= 1):
        raise ValueError(f'{field.name}={value}: use a whole number, 1 or more')
    if self.synchronous and self.global_accumulation not in (1, self.workers):
      raise ValueError(
        f'global_accumulation={self.global_accumulation}: a synchronous update '
        f'uses the pushes of all {self.workers} workers; leave it at 1, or use '
        f'{self.workers}, which means the same'
      )

  @property
  def pushes_per_update(self) -> int:
    """Pushes that one update sums: N if synchronous, else G."""
    return self.workers if self.synchronous else self.global_accumulation

  @property
  def batches_per_update(self) -> int:
    """Batches whose gradients one update sums."""
    return self.pushes_per_update * self.local_accumulation


class Snapshot(NamedTuple):
  """Parameters as of some version: what a pull returns."""

  version: int
  params: Params


class Push(NamedTuple):
  """A worker's contribution.

  Attributes:
    worker: who pushed.
    pulled_version: version of the snapshot that the gradient was computed at.
    ids: the L batches it was computed on.
    seconds: when the server got to it, by the pool's clock.
    loss: mean over the L batches, a scalar array.
    gradient: sum over the L batches; None once the server has used it.
    staleness: version in force on arrival - pulled_version, in updates; None
      until the server has measured it.
  """

  worker: int
  pulled_version: int
  ids: Sequence[int]
  seconds: float
  loss: Any
  gradient: Any
  staleness: int | None = None


class Work(NamedTuple):
  """What the server hands a worker in reply to its push.

  Attributes:
    gradient: `gradient(params, ids) -> (loss, gradient)`.
    snapshot: where to compute it.
    ids: the L batches to compute it on.
    version: updates applied when this was handed out. It exceeds
      snapshot.version only under artificial staleness.
  """

  gradient: worker_lib.Gradient
  snapshot: Snapshot
  ids: Sequence[int]
  version: int


class State(NamedTuple):
  """Everything the server holds.

  Attributes:
    params: parameters in force.
    optimizer_state: the optimizer's.
    accumulator: sum of the pushes since the last update; None if there are
      none.
    published: the snapshot that pulls return.
    pushes: pushes received so far.
    version: updates applied so far.
  """

  params: Params
  optimizer_state: Any
  accumulator: Any
  published: Snapshot
  pushes: int
  version: int


def init(optimizer: optax.GradientTransformation, params: Params) -> State:
  """A server that has received nothing yet."""
  # The type of all later parameters, lest the first gradient be compiled twice:
  # not NumPy's, and not one that yields to others, as a Python number's does.
  params = jax.tree.map(lambda x: jnp.array(x, jnp.asarray(x).dtype), params)
  # Some optimizers keep the parameters in their state. The state's memory is
  # reused at every update, the parameters' is not: they must not be the same.
  state = jax.tree.map(jnp.copy, optimizer.init(params))
  return State(params, state, None, Snapshot(0, params), 0, 0)


def pull(state: State) -> Snapshot:
  """The newest snapshot given out: version - version mod U."""
  return state.published


def push(
  optimizer: optax.GradientTransformation,
  communication: Communication,
  state: State,
  gradient: Any,
) -> State:
  """Adds a gradient to the sum; every G-th push updates once and clears it.

    a <- a + g;  on every G-th push:
    (delta, o) <- optimizer(a, o, theta);  theta <- theta + delta;  a <- 0

  Sums, not means, as in the paper: Adam hides the factor, clipping and epsilon
  do not.

  Args:
    optimizer: any optax transformation.
    communication: G is its `pushes_per_update`, U its `pull_every`.
    state: its optimizer state and accumulator are consumed: their memory is
      that of the result. Parameters are never touched, workers hold them.
    gradient: as the parameters; consumed, too: it becomes the accumulator, or
      the next parameters.

  Returns:
    The state after the push.

  Source: the paper's section 5.1, global accumulation.
  """
  pushes = state.pushes + 1
  if pushes % communication.pushes_per_update:
    accumulator = (
      gradient
      if state.accumulator is None
      else _accumulate(state.accumulator, gradient)
    )
    return state._replace(accumulator=accumulator, pushes=pushes)
  optimizer_state, params = _update(
    optimizer, state.optimizer_state, gradient, state.accumulator, state.params
  )
  version = state.version + 1
  published = state.published
  if version % communication.pull_every == 0:
    published = Snapshot(version, params)
  return State(params, optimizer_state, None, published, pushes, version)


@functools.partial(jax.jit, donate_argnums=0)
def _accumulate(accumulator, gradient):
  return jax.tree.map(jnp.add, accumulator, gradient)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def _update(optimizer, optimizer_state, gradient, accumulator, params):
  """One update in place: the hot path.

  XLA pairs donated arguments with results of the same shape in order. With the
  results in the order of the donated arguments each moment is overwritten
  where it lies, and the new parameters take the gradient's memory, which has
  just been read. In the usual order, parameters first, XLA copies instead.
  """
  if accumulator is not None:
    gradient = jax.tree.map(jnp.add, accumulator, gradient)
  updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
  return optimizer_state, optax.apply_updates(params, updates)


def serve(
  problem: Problem,
  optimizer: optax.GradientTransformation,
  communication: Communication,
  pool: Any,
  seed: int = 0,
) -> Iterator[tuple[Push, State]]:
  """Runs the server for ever: receives, pushes, and replies to the pushers.

  An asynchronous worker gets at once the snapshot after any update that its
  push triggered. Synchronous workers wait for the update that uses all their
  pushes, and are then replied to in the order of worker id. Batch ids are
  handed out in the order of the replies.

  Args:
    problem: what is minimised.
    optimizer: any optax transformation.
    communication: how.
    pool: `send(worker, work)` and `receive() -> Push`.
    seed: of the initial parameters and of every batch's key.

  Yields:
    (push, state) for every arrival: the push with its staleness, without its
    gradient, and the state after it. `state.params` may be kept; the rest of
    the state is consumed by the next arrival.
  """
  init_key, batch_key = jax.random.split(jax.random.key(seed))
  state = init(optimizer, problem.init(init_key))
  gradient = worker_lib.gradient(problem, batch_key)
  numbers = itertools.count()

  def reply(workers):
    for worker in workers:
      ids = [next(numbers) for _ in range(communication.local_accumulation)]
      pool.send(worker, Work(gradient, pull(state), ids, state.version))

  reply(range(communication.workers))
  waiting = []
  while True:
    arrival = pool.receive()
    staleness = state.version - arrival.pulled_version
    state = push(optimizer, communication, state, arrival.gradient)
    waiting.append(arrival.worker)
    if not communication.synchronous or len(waiting) == communication.workers:
      reply(sorted(waiting))
      waiting = []
    yield arrival._replace(gradient=None, staleness=staleness), state
