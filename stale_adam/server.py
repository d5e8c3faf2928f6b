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

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import worker as worker_lib
from stale_adam.policy import Communication
from stale_adam.problem import Params, Problem


class Snapshot(NamedTuple):
  """Parameters as of some version: what a pull returns."""

  version: int
  params: Params


class Times(NamedTuple):
  """A push's way, in seconds of the pool's clock.

  Attributes:
    pulled: the server handed out the work.
    started: the worker has its snapshot and begins to compute.
    computed: the gradient is there.
    arrived: it is at the server, which gets to it at the push's `seconds`.
  """

  pulled: float
  started: float
  computed: float
  arrived: float


class Push(NamedTuple):
  """A worker's contribution; below `gradient`, what is measured about it.

  Attributes:
    worker: who pushed.
    pulled_version: version of the snapshot that the gradient was computed at.
    ids: the L batches it was computed on.
    seconds: when the server got to it, by the pool's clock.
    loss: mean over the L batches, a scalar array.
    gradient: sum over the L batches. None if the pool has added it to another
      push of the same update, an all-reduce; and once the server has used it.
    times: its way, as the pool has seen it.
    staleness: version in force on arrival - pulled_version, in updates.
    staleness_pushes: pushes that the server received since the pull.
    age_seconds: since the arrival that the pull was the reply to.
    measured: what `measure` returned, by name; None if nobody asked.
  """

  worker: int
  pulled_version: int
  ids: Sequence[int]
  seconds: float
  loss: Any
  gradient: Any
  times: Times | None = None
  staleness: int | None = None
  staleness_pushes: int | None = None
  age_seconds: float | None = None
  measured: Mapping[str, Any] | None = None


class Work(NamedTuple):
  """What the server hands a worker in reply to its push.

  Attributes:
    compute: `compute(params, ids) -> (loss, gradient)`.
    snapshot: where to compute it.
    ids: the L batches to compute it on.
    version: updates applied when this was handed out. It exceeds
      snapshot.version only under artificial staleness.
    together: workers that hold the same snapshot and wait for each other; a
      pool may add up their gradients before they arrive.
  """

  compute: worker_lib.Gradient
  snapshot: Snapshot
  ids: Sequence[int]
  version: int
  together: int


class Handed(NamedTuple):
  """What the server remembers of the work that a worker has.

  Attributes:
    version: of the snapshot.
    params: of the snapshot, if they are to be measured.
    pushes: received by then.
    seconds: when the arrival came that this was the reply to.
  """

  version: int
  params: Params | None
  pushes: int
  seconds: float


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


def keys(seed: Any) -> tuple[jax.Array, jax.Array]:
  """A run's two keys: of the initial parameters, and of all batches."""
  init_key, batch_key = jax.random.split(jax.random.key(seed))
  return init_key, batch_key


def init(
  optimizer: optax.GradientTransformation,
  params: Params,
  device: jax.Device | None = None,
) -> State:
  """A server that has received nothing yet.

  With a device its arrays are bound to it, as gradients from other devices
  are: a mixture would be compiled once more.
  """
  # The type of all later parameters, lest the first gradient be compiled twice:
  # not NumPy's, and not one that yields to others, as a Python number's does.
  params = jax.tree.map(lambda x: jnp.array(x, jnp.asarray(x).dtype), params)
  # Some optimizers keep the parameters in their state. The state's memory is
  # reused at every update, the parameters' is not: they must not be the same.
  state = jax.tree.map(jnp.copy, optimizer.init(params))
  # Some let dtypes grow, from bfloat16 to float32 say: at once, not later.
  types = lambda state: [x.dtype for x in jax.tree.leaves(state)]
  while True:
    after = jax.eval_shape(optimizer.update, params, state, params)[1]
    if types(after) == types(state):
      break
    state = jax.tree.map(lambda x, y: x.astype(y.dtype), state, after)
  params, state = jax.device_put((params, state), device)
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
      the next parameters. None if it is part of another push of the update.

  Returns:
    The state after the push.

  Source: the paper's section 5.1, global accumulation.
  """
  pushes = state.pushes + 1
  accumulator = state.accumulator
  if gradient is None:
    gradient, accumulator = accumulator, None
  if pushes % communication.pushes_per_update:
    if accumulator is not None:
      gradient = _accumulate(accumulator, gradient)
    return state._replace(accumulator=gradient, pushes=pushes)
  optimizer_state, params = _update(
    optimizer, state.optimizer_state, gradient, accumulator, state.params
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
  measure: Callable[..., Mapping[str, Any]] | None = None,
  device: jax.Device | None = None,
) -> Iterator[tuple[Push, State]]:
  """Runs the server: receives, pushes, and replies to the pushers.

  An asynchronous worker gets at once the snapshot after any update that its
  push triggered. Synchronous workers wait for the update that uses all their
  pushes, and are then replied to in the order of worker id. Batch ids are
  handed out in the order of the replies.

  Args:
    problem: what is minimised.
    optimizer: any optax transformation.
    communication: how.
    pool: `send(worker, work)` and `receive() -> Push`, or None when nobody
      will arrive any more.
    seed: of the initial parameters and of every batch's key.
    measure: `measure(pulled, last, state, gradient)`, called before every push
      with the parameters pulled, those before the last update, the state and
      the gradient; see `measure.Measure`. It costs.
    device: the server's; jax's default if None.

  Yields:
    (push, state) for every arrival, for ever or until the pool's order ends:
    the push with its staleness, without its gradient, and the state after it.
    `state.params` may be kept; the rest of the state is consumed by the next
    arrival.
  """
  init_key, batch_key = keys(seed)
  device = device or next(iter(init_key.devices()))
  state = init(optimizer, problem.init(init_key), device)
  last = state.params if measure else None  # Before the last update.
  compute = worker_lib.Gradient(problem, batch_key)
  ids = itertools.count()
  together = communication.workers if communication.synchronous else 1
  handed: dict[int, Handed] = {}

  def reply(workers, seconds):
    for worker in workers:
      batches = [next(ids) for _ in range(communication.local_accumulation)]
      snapshot = pull(state)
      params = snapshot.params if measure else None
      handed[worker] = Handed(snapshot.version, params, state.pushes, seconds)
      work = Work(compute, snapshot, batches, state.version, together)
      pool.send(worker, work)

  reply(range(communication.workers), 0.0)
  waiting = []
  while (arrival := pool.receive()) is not None:
    work = handed.pop(arrival.worker)
    gradient = arrival.gradient
    arrival = arrival._replace(
      gradient=None,
      staleness=state.version - work.version,
      staleness_pushes=state.pushes - work.pushes,
      age_seconds=arrival.seconds - work.seconds,
      measured=measure and measure(work.params, last, state, gradient),
    )
    before, state = state, push(optimizer, communication, state, gradient)
    if measure and state.version > before.version:
      last = before.params
    waiting.append(arrival.worker)
    if len(waiting) == together:
      reply(sorted(waiting), arrival.seconds)
      waiting = []
    del gradient, work, before  # Their memory is not held while we yield.
    yield arrival, state
