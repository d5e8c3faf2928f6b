"""The server as one compiled program, for an order of arrivals that is known.

Who pulls which version, and what each push does, follows from the order alone:
see decisions.py. One scan over these decisions computes the messages and hands
them to `server.apply`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import policy as policy_lib
from stale_adam import server, trace
from stale_adam import worker as worker_lib
from stale_adam.compiled import decisions
from stale_adam.policy import Decision, Policy
from stale_adam.problem import Params, Problem
from stale_adam.worker import Push, Worker


class Simulation(NamedTuple):
  """What a run leaves; the arrays have an entry a push, in order of arrival.

  Attributes:
    params: after the last push, as `init` returns them.
    staleness: of the push, in updates, int32.
    pulled_version: version that the push was computed at, int32.
    loss: mean over the push's batches.
    used: whether the push went into a sum, bool.
  """

  params: Params
  staleness: Any
  pulled_version: Any
  loss: Any
  used: Any


class _Static(NamedTuple):
  """What a program is compiled for."""

  loss: Callable[..., Any]
  optimizer: optax.GradientTransformation
  per_push: optax.GradientTransformation | None
  worker: Worker | None
  reply: Callable[..., Any] | None
  kept: int  # Versions of the parameters; with a reply, workers.
  cases: tuple[int, ...]
  devices: int


class _Carry(NamedTuple):
  """What goes from push to push: a part of the server.

  Attributes:
    pullable: the versions in a ring; with a reply, what every worker holds.
    held: (params, optimizer state, per-push state, accumulator).
    memory: every worker's, stacked; None if they have none.
  """

  pullable: Any
  held: tuple[Any, Any, Any, Any]
  memory: Any


def simulate(
  problem: Problem,
  optimizer: optax.GradientTransformation,
  policy: Policy,
  order: trace.Trace | Sequence[int] | np.ndarray,
  seed: Any = 0,
  devices: Sequence[jax.Device] | None = None,
  counterfactual: bool = False,
  per_push: optax.GradientTransformation | None = None,
  worker: Worker | None = None,
  reply: Callable[[server.Server, int], Params] | None = None,
) -> Simulation:
  """Trains as `serve` does when the workers arrive in this order.

  One compiled scan; on one CPU device its result is that of `serve`, bit for
  bit, if optimizer and methods work element by element, as Adam does. It keeps
  max(staleness) + 1 versions of the parameters, however many workers there are;
  with a `reply`, one for each worker. It can be vmapped over the learning rate,
  or whatever else the optimizer closes over, and over the seed; vmap rounds
  matrix products in another way, so those results agree to a tolerance.

  With several devices, consecutive pushes whose snapshots all exist are
  computed at once, one on each; then every device applies them all, in order.
  XLA rounds a program of several CPU devices in another way.

  The program is compiled for the length of the order and its largest staleness,
  and kept, with what the loss and the optimizer refer to, until
  `jax.clear_caches()`.

  Args:
    problem: what is minimised.
    optimizer: any optax transformation.
    policy: who is used, when to update, who is answered.
    order: the worker of every arrival, 0 to N - 1; or a trace.
    seed: as of `serve`.
    devices: that compute gradients; if None all local accelerators, or one
      device where there are none or while vmap or jit traces us.
    counterfactual: take a trace's order alone, whatever policy and seed it was
      recorded with; otherwise one that differs is refused.
    per_push: as of `serve`.
    worker: as of `serve`. Its memory, like a reply, takes one device.
    reply: as of `serve`; it is traced, with params, optimizer_state,
      per_push_state and version of the server.

  Raises:
    ValueError: if a worker arrives that has no work, or the trace was recorded
      with another policy or seed.
  """
  order = _checked(order, policy, seed, counterfactual)
  init_key, key = server.keys(seed)
  begin = server.init(
    optimizer,
    problem.init(init_key),
    policy.workers,
    per_push,
    worker or worker_lib.SUM,
  )
  places = _devices(devices, problem, optimizer, per_push, begin, key)
  if reply is not None or begin.memory:
    places = places[:1]
  rows = decisions.record(policy, order, len(places), reply is not None)
  if rows.at_once < len(places):  # More of them would be idle.
    places = places[: rows.at_once]
    rows = decisions.record(policy, order, len(places), reply is not None)
  static = _Static(
    problem.loss,
    optimizer,
    per_push,
    worker,
    reply,
    rows.versions,
    rows.cases,
    len(places),
  )
  carry = _begin(static, begin)
  if len(places) > 1:
    run = _spread(tuple(places), static)
  else:
    run = functools.partial(_alone, static)
    carry, key = jax.device_put((carry, key), places[0])
  losses = []
  for part, own in rows.parts(problem):
    carry, loss = run(carry, key, part, own)
    losses.append(loss.reshape(-1))
  loss, params = jnp.concatenate(losses or [jnp.zeros(0)]), carry.held[0]
  if len(places) > 1:  # The results on one of them.
    params = jax.tree.map(lambda x: x.addressable_data(0), params)
    loss = jax.device_put(loss, places[0])
  loss = loss[rows.place]
  if worker is None:
    # By an array: XLA multiplies by the reciprocal of a constant, which rounds.
    loss = loss / jnp.full_like(loss, policy.local_accumulation)
  return Simulation(
    params, rows.staleness, rows.pulled_version, loss, rows.used
  )


def _checked(order, policy, seed, counterfactual) -> np.ndarray:
  """The worker of every arrival, of an order that may be replayed."""
  if not isinstance(order, trace.Trace):  # Which checks it.
    return trace.Trace(order, np.zeros(len(order))).worker
  if not counterfactual:
    settings = {'policy': policy_lib.settings(policy), 'seed': seed}
    if isinstance(seed, jax.core.Tracer):  # It has no value to compare.
      del settings['seed']
    order.check_replay(settings)
  return order.worker


def _devices(devices, problem, optimizer, per_push, begin, key) -> list[Any]:
  """Where to compute; [None] is jax's default device."""
  if devices is not None:
    if not len(devices):
      raise ValueError('devices=[]: name one or more, or None for the default')
    return list(devices)
  found = [d for d in jax.local_devices() if d.platform != 'cpu']
  if len(found) > 1 and not _traced(problem, optimizer, per_push, begin, key):
    return found
  return [None]


def _begin(static: _Static, begin: server.Server) -> _Carry:
  """What the first push finds."""
  stack = lambda *x: jnp.stack(x)
  pullable = memory = accumulator = None
  if static.reply is not None:
    held = [static.reply(begin, w) for w in begin.waiting]
    pullable = jax.tree.map(stack, *held)
  if begin.memory:
    memory = jax.tree.map(stack, *begin.memory.values())
  sums = [c for c in static.cases if c & decisions.USED]
  if any(not c & decisions.UPDATED for c in sums):
    accumulator = jax.tree.map(jnp.zeros_like, begin.params)
  held = begin.params, begin.optimizer_state, begin.per_push_state, accumulator
  return _Carry(pullable, held, memory)


def _scan(static: _Static, carry: _Carry, key, part, own):
  """Computes and applies group after group.

  Args:
    static: what the program is compiled for.
    carry: `pullable` None at first, if it holds versions.
    key: of all batches.
    part: of all devices' pushes, by name: see decisions.py.
    own: of this device's: ids [groups, L], batches [groups, L, ...].

  Returns:
    (carry, this device's losses, [groups]).
  """
  branches = [functools.partial(_push, static, case) for case in static.cases]
  if carry.pullable is None:
    copies = lambda x: jnp.broadcast_to(x, (static.kept, *x.shape))
    carry = carry._replace(pullable=jax.tree.map(copies, carry.held[0]))

  def group(carry, row):
    columns, (ids, batches) = row
    pullable, held, memory = carry
    mine = 0
    if static.devices > 1:
      mine = jax.lax.axis_index(worker_lib.AXIS)
    where = columns['pulled' if static.reply is None else 'worker']
    at = lambda i: jax.tree.map(lambda x: x[where[i]], pullable)
    loss, message, memory = _message(
      static, at(mine), key, ids, batches, columns, mine, memory
    )
    messages = [message]
    if static.devices > 1:
      gathered = jax.lax.all_gather(message, worker_lib.AXIS)
      messages = [
        jax.tree.map(lambda x, i=i: x[i], gathered)
        for i in range(static.devices)
      ]
    for i, message in enumerate(messages):
      pushed = {name: columns[name][i] for name in _PUSHED}
      pushed['pulled'] = None if static.per_push is None else at(i)
      which = jnp.searchsorted(np.array(static.cases), columns['case'][i])
      held = jax.lax.switch(which, branches, held, message, pushed)
      if static.reply is None:
        pullable = _put(pullable, columns['version'][i], held[0])
    if static.reply is not None:
      pullable = _answer(static, columns, pullable, held)
    return _Carry(pullable, held, memory), loss

  return jax.lax.scan(group, carry, (part, own))


# Programs are kept by what they are made of, as those of the server are.
_alone = jax.jit(_scan, static_argnums=0)
_PUSHED = ('worker', 'staleness', 'summed', 'summed_staleness')


@functools.lru_cache(maxsize=8)
def _spread(devices: tuple[jax.Device, ...], static: _Static):
  """The same on several devices, which split `own` and share all else."""
  return worker_lib.per_device(
    functools.partial(_scan, static),
    devices,
    in_axes=(None, None, None, 1),
    out_axes=(None, 1),
  )


def _message(static, params, key, ids, batches, columns, mine, memory):
  """(loss, message, memory) of a push; the loss of a plain sum is summed."""
  if static.worker is None:
    return *_gradient(static.loss, params, key, ids, batches), memory
  live = columns['batches'][mine] > 0
  sender = columns['worker'][mine]

  def gradient(params, places):
    some = jax.tree.map(lambda x: x[np.array(places)], (ids, batches))
    loss, total = _gradient(static.loss, params, key, *some)
    # Not a constant, else XLA multiplies by its reciprocal, which rounds.
    count = jnp.where(live, len(places), 1)
    # A conditional of its own, so that XLA does not fuse the method with it.
    nothing = lambda found: jax.tree.map(jnp.zeros_like, found)
    return jax.lax.cond(
      live, lambda found: found, nothing, (loss / count, total)
    )

  own = jax.tree.map(lambda x: x[sender], memory)
  run = lambda own: static.worker.compute(
    gradient, params, range(len(ids)), own
  )
  loss, message, _ = jax.eval_shape(run, own)
  nothing = lambda own: (
    *jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (loss, message)),
    own,
  )
  loss, message, own = jax.lax.cond(live, run, nothing, own)
  return loss, message, _put(memory, sender, own)


def _put(stacked, slot, new):
  return jax.tree.map(lambda x, y: x.at[slot].set(y), stacked, new)


def _gradient(loss, params, key, ids, batches):
  """Sums of losses and gradients, as `worker.Gradient`, of stacked batches."""
  if len(ids) == 1:
    batch = jax.tree.map(lambda x: x[0], batches)
    return worker_lib.add(loss, None, params, batch, key, ids[0])

  def another(total, row):
    batch_id, batch = row
    return worker_lib.add(loss, total, params, batch, key, batch_id), None

  # From zero: one-iteration scans are unrolled and round differently.
  alone = jax.eval_shape(
    another, None, jax.tree.map(lambda x: x[0], (ids, batches))
  )
  zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), alone[0])
  return jax.lax.scan(another, zero, (ids, batches))[0]


def _server(held, **known) -> server.Server:
  """A server of which only this is known."""
  params, optimizer_state, per_push_state, accumulator = held
  known |= {'params': params, 'optimizer_state': optimizer_state}
  known |= {'per_push_state': per_push_state, 'accumulator': accumulator}
  return server.Server(**(dict.fromkeys(server.Server._fields) | known))


def _push(static, case, held, message, pushed):
  """`server.apply`, as one of the cases that a push may be."""
  if case == decisions.IDLE:
    return held
  known = {'summed': pushed['summed'], 'staleness': pushed['summed_staleness']}
  before = _server(held, version=0, **known)
  if not case & decisions.SUMMED:
    before = before._replace(accumulator=None)
  use, update = bool(case & decisions.USED), bool(case & decisions.UPDATED)
  push = Push(pushed['worker'], 0, (), 0.0, None, message)
  push = push._replace(staleness=pushed['staleness'])
  after = server.apply(
    *(before, push, Decision(use, update), static.optimizer),
    *(static.per_push, pushed['pulled']),
  )
  accumulator = held[3] if after.accumulator is None else after.accumulator
  return (
    after.params,
    after.optimizer_state,
    after.per_push_state,
    accumulator,
  )


def _answer(static, columns, pullable, held):
  """Gives the workers that are answered what `reply` returns for them."""
  now = _server(held, version=columns['version'][0])

  def one(i, pullable):
    worker = columns['replies'][0, i]
    params = static.reply(now, worker)
    return _put(pullable, worker, params)

  return jax.lax.fori_loop(0, columns['answered'][0], one, pullable)


def _traced(problem, optimizer, per_push, begin, key) -> bool:
  """Whether vmap or jit traces us: a program of several devices cannot be."""
  params = begin.params
  loss = jax.make_jaxpr(problem.loss)(params, problem.batch(0), key)
  found = [*jax.tree.leaves((begin, key)), *loss.consts]
  run = lambda: server.apply(
    begin,
    Push(0, 0, (), 0.0, None, params),
    *(Decision(True, True), optimizer, per_push, params),
  )
  found += jax.make_jaxpr(lambda: jax.tree.leaves(run().params))().consts
  return any(isinstance(leaf, jax.core.Tracer) for leaf in found)
