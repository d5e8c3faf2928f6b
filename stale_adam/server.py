"""The parameter server: what a pull and a push do, and who gets the reply.

A worker pulls a snapshot, computes at it, and pushes. The server asks its
policy what to do about the push, and does it in this order: add the push to
the sum (`use`), run the optimizer once on the sum and clear it (`update`), let
pulls return the version in force (`publish`), answer waiting workers (`reply`)
and some that still compute (`restart`). The staleness of a push is the version
in force when it arrives minus the version that its worker had pulled.

Everything that the project says about staleness follows from `apply`, `pull`
and `serve` in this file. Where the workers run, and in which order they
arrive, is the pool's business; who is used and answered is the policy's; what
is sent, and what is done to it before the sum, is a method's.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import checks, sums, update
from stale_adam import policy as policy_lib
from stale_adam import worker as worker_lib
from stale_adam.policy import Arrival, Decision, Policy
from stale_adam.pools import contract
from stale_adam.problem import Params, Problem
from stale_adam.worker import Push, Snapshot, Work, Worker


class Held(NamedTuple):
  """What a worker has in flight: enough to compute its push again.

  Attributes:
    snapshot: where it computes.
    ids: the L batches it computes on.
    version: updates applied when this was sent.
    pushes: received by then.
    seconds: of the arrival that this was sent in reply to.
  """

  snapshot: Snapshot
  ids: Sequence[int]
  version: int
  pushes: int
  seconds: float


class Server(NamedTuple):
  """All that a run is: nothing else is needed to continue it.

  Attributes:
    params: parameters in force.
    optimizer_state: the optimizer's.
    per_push_state: that of the transformation of pushes; () without one.
    accumulator: sum of the pushes since the last update, in float32 where
      parameters are narrower; None if there are none.
    summed: how many pushes it sums.
    staleness: of these pushes, summed.
    stalest: the largest staleness of these pushes.
    loss: of these pushes, summed; None if the optimizer does without it.
    version: updates applied so far.
    published: the snapshot that pulls return.
    held: what is in flight, by worker, in the order in which it was sent.
    memory: every worker's memory between two pushes; empty if they have none.
    waiting: workers without an answer, in ascending order.
    pushes: received so far, of every worker.
    next_id: the next batch to send out.
    last: parameters before the last update; None if nothing is measured.
  """

  params: Params
  optimizer_state: Any
  per_push_state: Any
  accumulator: Any
  summed: int
  staleness: int
  stalest: int
  loss: Any
  version: int
  published: Snapshot
  held: Mapping[int, Held]
  memory: Mapping[int, Any]
  waiting: tuple[int, ...]
  pushes: tuple[int, ...]
  next_id: int
  last: Params | None


class Visible(NamedTuple):
  """What a reply may know of the server: arrays only.

  Attributes:
    published: parameters that pulls return without a reply.
    params: parameters in force.
    optimizer_state: the optimizer's.
    per_push_state: that of the transformation of pushes.
    version: updates applied so far, an int32 scalar.
  """

  published: Params
  params: Params
  optimizer_state: Any
  per_push_state: Any
  version: Any


# What a pull returns, from what is visible and the worker, an int32 scalar. It
# is compiled, so that a run and its compiled simulation round alike.
Reply = Callable[[Visible, Any], Params]


@functools.partial(jax.jit, static_argnums=0)
def replied(reply: Reply, visible: Visible, worker: Any) -> Params:
  """Runs a reply, as one compiled function."""
  params = reply(visible, worker)
  worker_lib.check_message('reply', params, visible.published)
  return params


def keys(seed: Any) -> tuple[jax.Array, jax.Array]:
  """Split a seed into two keys: of the initial parameters, and of batches.

  Raises:
    ValueError: if the seed is not a whole number from 0 to 2**32 - 1.
  """
  if not isinstance(seed, jax.core.Tracer):
    array = isinstance(seed, jax.Array | np.ndarray) and seed.ndim == 0
    checks.seed(seed.item() if array else seed)
  init_key, batch_key = jax.random.split(jax.random.key(seed))
  return init_key, batch_key


def init(
  optimizer: optax.GradientTransformation,
  params: Params,
  workers: int = 1,
  per_push: optax.GradientTransformation | None = None,
  worker: Worker = worker_lib.SUM,
  device: jax.Device | None = None,
) -> Server:
  """Make a server that has received nothing, with all workers waiting.

  With a device its arrays are bound to it, as gradients from other devices
  are: a mixture would be compiled once more.

  Raises:
    ValueError: if the optimizer needs more than a server can give it.
  """
  # The type of all later parameters, else the gradient compiles twice: not
  # NumPy's, and not one that yields to others, as a Python number's does.
  params = jax.tree.map(lambda x: jnp.array(x, jnp.asarray(x).dtype), params)
  extra = update.about_sum(0, 1, 0)
  values = update.values(optimizer, params, extra)
  state, _ = update.init(optimizer, params, **extra, **values)
  per_push_state: Any = ()
  if per_push is not None:
    more = update.about_push(params, 0, 0)
    per_push_state, pushed = update.init(per_push, params, **more)
    worker_lib.check_message('transformation of pushes', pushed, params)
  memory = [worker.init(params, i) for i in range(workers)]
  placed = (params, state, per_push_state, memory, values.get('value'))
  placed = jax.device_put(placed, device)
  params, state, per_push_state, memory, loss = placed
  return Server(
    params=params,
    optimizer_state=state,
    per_push_state=per_push_state,
    accumulator=None,
    summed=0,
    staleness=0,
    stalest=0,
    loss=loss,
    version=0,
    published=Snapshot(0, params),
    held={},
    memory=dict(enumerate(memory)) if jax.tree.leaves(memory) else {},
    waiting=tuple(range(workers)),
    pushes=(0,) * workers,
    next_id=0,
    last=None,
  )


def apply(
  server: Server,
  push: Push,
  decision: Decision,
  optimizer: optax.GradientTransformation,
  per_push: optax.GradientTransformation | None = None,
  pulled: Params | None = None,
) -> Server:
  """Do with a push what was decided: use it, update, publish.

    use:      a <- a + per_push(g)
    update:   (delta, o) <- optimizer(a, o, theta);  theta <- theta + delta;
              a <- 0
    publish:  pulls return theta

  Sums, not means, as in the paper: Adam hides the factor, clipping and epsilon
  do not.

  Args:
    server: its optimizer state, per-push state and accumulator are consumed:
      their memory is that of the result. Parameters are never touched, workers
      hold them.
    push: its message is consumed, too: it becomes the accumulator, or the next
      parameters. A message of None is part of another push of the update.
    decision: what to do.
    optimizer: any optax transformation. If it takes extra arguments, it gets
      `pushes`, their number in the sum, `staleness`, their mean staleness, and
      `stalest`, the largest, float32 scalars. If it needs `value`, it gets the
      mean loss of these pushes, too.
    per_push: runs on every push that is used, before the sum. If it takes extra
      arguments, it gets `pulled`, and `staleness` and `worker` of the push,
      int32 scalars.
    pulled: the parameters that the push was computed at; only for `per_push`.

  Returns:
    The server after the push.

  Raises:
    ValueError: if an update has nothing to use.

  Source: the paper's section 5.1, global accumulation.
  """
  message = push.message if decision.use else None
  accumulator, more = server.accumulator, None
  if per_push is not None and message is not None:
    more = update.about_push(pulled, push.staleness, push.worker)
  summed, staleness, loss = server.summed, server.staleness, server.loss
  stalest = server.stalest
  if decision.use:
    summed, staleness = summed + 1, staleness + push.staleness
    stalest = update.larger(stalest, push.staleness)
    if loss is not None:
      loss = update.add_loss(loss, push.loss)
  if message is None:
    message, accumulator = accumulator, None
    if decision.update and message is not None:
      message = sums.narrowed(message, server.params)
  if not decision.update:
    state = server.per_push_state
    # Without a method, the first push is the sum, and no parameters are needed.
    rest = (None, None) if more is None else (server.params, more)
    if accumulator is not None:
      state, message = update.add(per_push, state, accumulator, message, *rest)
    elif more is not None:
      state, message = update.start(per_push, state, message, *rest)
    server = server._replace(
      per_push_state=state,
      accumulator=sums.widened(message),
      summed=summed,
      staleness=staleness,
      stalest=stalest,
      loss=loss,
    )
    return publish(server) if decision.publish else server
  if message is None:
    raise ValueError(
      'the policy asks for an update before any push was used: update only if '
      'arrival.summed > 0 or the push is used'
    )
  known = None
  if update.takes_more(optimizer):
    numbers = map(update.whole, (staleness, summed, stalest))
    known = *numbers, loss
  optimizer_state, per_push_state, params = update.update(
    optimizer,
    per_push,
    server.optimizer_state,
    server.per_push_state,
    message,
    accumulator,
    server.params,
    more,
    known,
  )
  server = server._replace(
    params=params,
    optimizer_state=optimizer_state,
    per_push_state=per_push_state,
    accumulator=None,
    summed=0,
    staleness=0,
    stalest=0,
    loss=None if loss is None else jnp.zeros_like(loss),
    version=server.version + 1,
  )
  return publish(server) if decision.publish else server


def publish(server: Server) -> Server:
  """Let pulls return the version in force."""
  return server._replace(published=Snapshot(server.version, server.params))


def pull(
  server: Server,
  worker: int,
  local_accumulation: int,
  seconds: float = 0.0,
  reply: Reply | None = None,
) -> Server:
  """Give a waiting worker the published snapshot and its next batches.

  Args:
    server: with the worker among those waiting, or in flight: then it abandons
      its work.
    worker: who pulls.
    local_accumulation: L, batches that it gets.
    seconds: of the arrival that this replies to.
    reply: `reply(visible, worker) -> params`: what the worker gets instead of
      the published parameters; the snapshot's version is the published one.

  Returns:
    The server; what the worker got is `held[worker]`.
  """
  snapshot = server.published
  if reply is not None:
    visible = Visible(
      snapshot.params,
      server.params,
      server.optimizer_state,
      server.per_push_state,
      np.int32(server.version),
    )
    params = replied(reply, visible, np.int32(worker))
    snapshot = snapshot._replace(params=params)
  after = server.next_id + local_accumulation
  ids = [*range(server.next_id, after)]
  pushes = sum(server.pushes)
  sent = Held(snapshot, ids, server.version, pushes, seconds)
  waiting = tuple(w for w in server.waiting if w != worker)
  held = {w: h for w, h in server.held.items() if w != worker}
  held[worker] = sent
  return server._replace(held=held, waiting=waiting, next_id=after)


def receive(server: Server, push: Push) -> tuple[Server, Push]:
  """Take a push out of what is in flight, and record how stale it is."""
  worker, held = push.worker, dict(server.held)
  sent = held.pop(worker)
  push = push._replace(
    staleness=server.version - sent.snapshot.version,
    staleness_pushes=sum(server.pushes) - sent.pushes,
    age_seconds=push.seconds - sent.seconds,
  )
  memory, pushes = server.memory, list(server.pushes)
  if memory:
    memory = {**memory, worker: push.memory}
  pushes[worker] += 1
  waiting = tuple(sorted([*server.waiting, worker]))
  server = server._replace(
    held=held, memory=memory, waiting=waiting, pushes=tuple(pushes)
  )
  return server, push


def serve(
  problem: Problem,
  optimizer: optax.GradientTransformation,
  policy: Policy,
  pool: contract.Pool,
  seed: int = 0,
  per_push: optax.GradientTransformation | None = None,
  worker: Worker | None = None,
  reply: Reply | None = None,
  resume: Server | None = None,
  measure: Callable[..., Mapping[str, Any]] | None = None,
  device: jax.Device | None = None,
) -> Iterator[tuple[Push, Server]]:
  """Run the server: receive pushes, apply them, and reply.

  Batch ids are handed out in the order of the replies, at the start to workers
  0 to N - 1 in turn.

  Args:
    problem: what is minimised.
    optimizer: any optax transformation; see `apply` for its extra argument.
    policy: who is used, when to update, who is answered: `Communication`, or
      one of `methods`.
    pool: where the workers run; see `pools.contract.Pool`.
    seed: of the initial parameters and of every batch's key.
    per_push: optax transformation of every push before the sum; see `apply`.
    worker: what a worker sends and remembers; the default sends the sum of its
      L gradients and remembers nothing.
    reply: what a pull returns instead of the published parameters; see `pull`.
    resume: a server to continue; it is consumed. Pushes in flight are computed
      again from snapshot, ids and memory. The pool's order and seconds begin
      anew.
    measure: `measure(pulled, last, server, message)`, called before every push
      is applied, with the parameters pulled, those before the last update, the
      server and the message; see `measure.Measure`. This takes time.
    device: where the server's arrays are; JAX's default device if None.

  Yields:
    (push, server) for every arrival: the push with its staleness, without its
    message, and the server after it. Ends if the pool's order ends.
    `server.params` may be kept; the rest is consumed by the next arrival.

  Raises:
    TypeError: if the pool lacks a verb of `pools.contract.Pool`.
    PoolClosed: if the pool is closed, by whatever thread.
    ValueError: if the policy answers a worker that does not wait, restarts one
      that does, or leaves all workers waiting; if `resume` is of another run,
      or cannot be continued; if the seed is not from 0 to 2**32 - 1; if the
      optimizer needs more than a server has.
  """
  contract.check(pool)
  init_key, batch_key = keys(seed)
  device = device or next(iter(init_key.devices()))
  run = _Run(problem, policy, seed, batch_key, worker, per_push, reply)
  if resume is None:
    params = problem.init(init_key)
    start = (optimizer, params, policy.workers, per_push, run.worker, device)
    server = init(*start)
    server = run.answer(server, pool, server.waiting, 0.0)
  else:
    server = resume
    run.send_again(server, pool)
  if measure and server.last is None:
    server = server._replace(last=server.params)
  while (arrived := pool.receive()) is not None:
    pulled = None
    if per_push is not None or measure:
      pulled = server.held[arrived.worker].snapshot.params
    nbytes = run.nbytes(server, arrived.worker)
    server, push = receive(server, arrived._replace(nbytes=nbytes))
    if measure:
      found = measure(pulled, server.last, server, push.message)
      push = push._replace(measured=found)
    decision = policy.decide(_arrival(server, push))
    before = server
    server = apply(server, push, decision, optimizer, per_push, pulled)
    if measure and server.version > before.version:
      server = server._replace(last=before.params)
    server = run.answer(
      server, pool, decision.reply, push.seconds, decision.restart
    )
    push = push._replace(
      message=None,
      memory=None,
      used=decision.use,
      restarted=len(decision.restart),
      settings=run.settings,
    )
    del arrived, pulled, before  # Their memory is not held while we yield.
    yield push, server


def _arrival(server: Server, push: Push) -> Arrival:
  return Arrival(
    push.worker,
    push.staleness,
    server.summed,
    server.version,
    server.waiting,
    server.pushes,
  )


class _Run:
  """What stays the same through a run: how its work is made and sent."""

  def __init__(
    self,
    problem: Problem,
    policy: Policy,
    seed: int,
    key: jax.Array,
    worker: Worker | None,
    per_push: optax.GradientTransformation | None,
    reply: Reply | None,
  ):
    plain = worker is None
    self.worker = worker_lib.SUM if worker is None else worker
    self.settings = {'policy': policy_lib.settings(policy), 'seed': seed}
    self._policy, self._reply = policy, reply
    gradient = worker_lib.Gradient(problem, key)
    self._gradient = gradient if plain else None
    self._compute = functools.partial(worker_lib.compute, self.worker, gradient)
    if plain:  # Nothing to check.
      self._compute = functools.partial(self.worker.compute, gradient)
    # Pushes that are only ever summed may be summed on their way.
    summed = plain and per_push is None and reply is None
    group = summed and getattr(policy, 'all_reduce', False)
    self._group = policy.workers if group else 1

  def nbytes(self, server: Server, worker: int) -> int:
    """Bytes of the push that a worker has in flight, as it is sent."""
    if self.worker.nbytes is None:
      return worker_lib.size(server.params)
    return self.worker.nbytes(server.params, server.pushes[worker])

  def work(
    self,
    server: Server,
    worker: int,
    alone: bool = False,
    restart: bool = False,
  ) -> Work:
    """The work that a worker has in flight; `alone`, without its group."""
    held, share = server.held[worker], 1.0
    if self.worker.nbytes is not None:
      share = self.nbytes(server, worker) / worker_lib.size(server.params)
    return Work(
      self._compute,
      held.snapshot,
      held.ids,
      server.memory.get(worker),
      held.version,
      self._gradient,
      1 if alone else self._group,
      self.settings,
      restart,
      share,
    )

  def send_again(self, server: Server, pool: contract.Pool) -> None:
    """Sends what a server that is resumed has in flight.

    Raises:
      ValueError: if the server is of another run, or cannot be continued.
    """
    workers, leaves = len(server.pushes), jax.tree.leaves
    if workers != self._policy.workers:
      raise ValueError(
        f'the server to resume has {workers} workers, the policy '
        f'{self._policy.workers}: use the policy that it ran with'
      )
    if any(getattr(x, 'is_deleted', bool)() for x in leaves(server)):
      raise ValueError(
        'the server to resume was consumed by its next arrival: keep the last '
        'one that a run yielded, or a copy of its arrays'
      )
    if server.summed and server.accumulator is None:
      raise ValueError(
        f'the server to resume lacks the gradients of {server.summed} pushes, '
        'which the pool had yet to sum: resume where an update was made'
      )
    alone = len(server.held) < workers  # Its group cannot be complete.
    for worker in server.held:
      pool.send(worker, self.work(server, worker, alone))

  def answer(
    self,
    server: Server,
    pool: contract.Pool,
    workers: Sequence[int],
    seconds: float,
    restart: Sequence[int] = (),
  ) -> Server:
    """Every one of them pulls and gets its next work."""
    batches, busy = self._policy.local_accumulation, {*server.held}
    for worker in workers:
      if worker not in server.waiting:
        raise ValueError(
          f'the policy answers worker {worker}, who does not wait; waiting: '
          f'{server.waiting}. Answer workers of arrival.waiting, once each'
        )
      server = pull(server, worker, batches, seconds, self._reply)
      pool.send(worker, self.work(server, worker))
    for worker in restart:
      if worker not in busy:
        raise ValueError(
          f'the policy restarts worker {worker}, who does not compute; those '
          f'who do: {sorted(busy)}. Restart these, once each'
        )
      busy.remove(worker)
      server = pull(server, worker, batches, seconds, self._reply)
      pool.send(worker, self.work(server, worker, restart=True))
    if not server.held:
      raise ValueError(
        f'the policy leaves all {len(server.waiting)} workers waiting: nobody '
        'will arrive; answer at least one'
      )
    return server
