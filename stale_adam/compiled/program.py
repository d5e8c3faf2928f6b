"""One scan over recorded decisions: gradients, and `server.apply`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import server as server_lib
from stale_adam import sums
from stale_adam import worker as worker_lib
from stale_adam.compiled import decisions
from stale_adam.policy import Decision
from stale_adam.problem import Params
from stale_adam.worker import Push, Worker


class Static(NamedTuple):
  """What a program is compiled for."""

  loss: Callable[..., Any]
  optimizer: optax.GradientTransformation
  per_push: optax.GradientTransformation | None
  worker: Worker | None
  reply: Callable[..., Any] | None
  kept: int  # Versions of the parameters, in a ring.
  cases: tuple[int, ...]
  devices: int


Held = tuple[Any, Any, Any, Any, Any]


class Carry(NamedTuple):
  """What goes from push to push: a part of the server.

  Attributes:
    pullable: the versions in a ring; with a reply, what every worker holds.
    published: parameters that pulls return; None without a reply.
    held: (params, optimizer state, per-push state, accumulator, loss).
    memory: every worker's, stacked; None if they have none.
  """

  pullable: Any
  published: Any
  held: Held
  memory: Any


def begin(static: Static, server: server_lib.Server) -> Carry:
  """What the first push finds."""
  stack = lambda *x: jnp.stack(x)
  pullable = published = memory = accumulator = None
  if static.reply is not None:
    published = server.params
    known = server.params, server.optimizer_state, server.per_push_state
    visible = server_lib.Visible(published, *known, jnp.int32(0))
    reply = functools.partial(server_lib.replied, static.reply, visible)
    replies = [reply(np.int32(w)) for w in server.waiting]
    pullable = jax.tree.map(stack, *replies)
  if server.memory:
    memory = jax.tree.map(stack, *server.memory.values())
  used = [c for c in static.cases if c & decisions.USED]
  if server.accumulator is not None:
    accumulator = server.accumulator
  elif any(not c & decisions.UPDATED for c in used):
    accumulator = sums.widened(jax.tree.map(jnp.zeros_like, server.params))
  held = (
    server.params,
    server.optimizer_state,
    server.per_push_state,
    accumulator,
    server.loss,
  )
  return Carry(pullable, published, held, memory)


def scan(
  static: Static, carry: Carry, key: jax.Array, part: Any, own: Any
) -> tuple[Carry, Any]:
  """Computes and applies group after group.

  Args:
    static: what the program is compiled for.
    carry: `pullable` None at first, if it holds versions.
    key: of all batches.
    part: of all devices' pushes, by name: see decisions.py. With a column
      `live`, a push changes nothing where it is False: see legs.py.
    own: of this device's: ids [groups, L], batches [groups, L, ...].

  Returns:
    (carry, this device's losses, [groups]).
  """
  branches = [functools.partial(_push, static, case) for case in static.cases]
  if carry.pullable is None:
    copies = lambda x: jnp.broadcast_to(x, (static.kept, *x.shape))
    carry = carry._replace(pullable=jax.tree.map(copies, carry.held[0]))

  mine: Any = 0
  if static.devices > 1:
    mine = jax.lax.axis_index(worker_lib.AXIS)
  where = part['pulled' if static.reply is None else 'worker']

  def taken(pullable: Any, where: jax.Array) -> list[Params]:
    """What is read of the versions for a group: this device's snapshot, first.

    A method needs that of every push.
    """
    pushes = [mine, *(range(static.devices) if static.per_push else ())]
    at = lambda i: jax.tree.map(lambda x: x[where[i]], pullable)
    return [at(i) for i in pushes]

  def group(before: Any, row: Any) -> tuple[Any, Any]:
    (pullable, published, held, memory), (params, *pulled) = before
    columns, after, (ids, batches) = row
    loss, message, memory = _message(
      static, params, key, ids, batches, columns, mine, memory
    )
    sent = [(message, _mean(static, loss, columns['batches'][mine], held))]
    if static.devices > 1:
      gathered = jax.lax.all_gather(sent[0], worker_lib.AXIS)
      sent = [
        jax.tree.map(lambda x, i=i: x[i], gathered)
        for i in range(static.devices)
      ]
    for i, (message, own_loss) in enumerate(sent):
      pushed = {name: columns[name][i] for name in _PUSHED if name in columns}
      pushed['pulled'] = pulled[i] if pulled else None
      pushed['loss'] = own_loss
      which = jnp.searchsorted(np.array(static.cases), columns['case'][i])
      held = jax.lax.switch(which, branches, held, message, pushed)
      if static.reply is None:
        pullable = _put(pullable, columns['version'][i], held[0])
    if static.reply is not None:
      new = lambda x, y: jnp.where(columns['published'][0], x, y)
      published = jax.tree.map(new, held[0], published)
      pullable = _answer(static.reply, columns, pullable, published, held)
    # Read after the last write. If they were read in the next iteration, before
    # its write, XLA would copy all versions at every push.
    return (
      Carry(pullable, published, held, memory),
      taken(pullable, after),
    ), loss

  begin = carry, taken(carry.pullable, where[0])
  rows = part, jnp.roll(where, -1, axis=0), own
  (carry, _), losses = jax.lax.scan(group, begin, rows)
  return carry, losses


# Programs are kept by what they are made of, as those of the server are.
alone = jax.jit(scan, static_argnums=0)
# Of the sum before a push, by their names in the server.
_SUM = {
  'summed': 'summed',
  'staleness': 'summed_staleness',
  'stalest': 'stalest',
}
_PUSHED = ('worker', 'staleness', 'live', *_SUM.values())


@functools.lru_cache(maxsize=8)
def spread(
  devices: tuple[jax.Device, ...], static: Static
) -> Callable[..., tuple[Carry, Any]]:
  """The same on several devices, which split `own` and share all else."""
  return worker_lib.per_device(
    functools.partial(scan, static),
    devices,
    in_axes=(None, None, None, 1),
    out_axes=(None, 1),
  )


def _message(
  static: Static,
  params: Params,
  key: jax.Array,
  ids: Any,
  batches: Any,
  columns: dict[str, Any],
  mine: Any,
  memory: Any,
) -> tuple[Any, Any, Any]:
  """(loss, message, memory) of a push; the loss of a plain sum is summed."""
  if static.worker is None:
    return *_gradient(static.loss, params, key, ids, batches), memory
  live = columns['batches'][mine] > 0
  sender = columns['worker'][mine]

  def gradient(params: Params, places: Sequence[int]) -> tuple[Any, Any]:
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
  worker_lib.check_message('worker', message, params)
  nothing = lambda own: (
    *jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (loss, message)),
    own,
  )
  loss, message, own = jax.lax.cond(live, run, nothing, own)
  return loss, message, _put(memory, sender, own)


def _mean(static: Static, loss: Any, batches: Any, held: Held) -> Any:
  """A push's loss, over its batches; None if no optimizer asks for it."""
  if held[-1] is None:
    return None
  if static.worker is not None:  # It says itself what its loss is.
    return loss
  return loss / jnp.maximum(batches, 1).astype(loss.dtype)


def _put(stacked: Any, slot: Any, new: Any) -> Any:
  return jax.tree.map(lambda x, y: x.at[slot].set(y), stacked, new)


def _gradient(
  loss: Callable[..., Any],
  params: Params,
  key: jax.Array,
  ids: Any,
  batches: Any,
) -> tuple[Any, Any]:
  """Sums of losses and gradients, as `worker.Gradient`, of stacked batches."""
  if len(ids) == 1:
    batch = jax.tree.map(lambda x: x[0], batches)
    return worker_lib.add(loss, None, params, batch, key, ids[0])

  def another(total: Any, row: Any) -> tuple[Any, None]:
    batch_id, batch = row
    return worker_lib.add(loss, total, params, batch, key, batch_id), None

  # From zero: one-iteration scans are unrolled and round differently.
  alone = jax.eval_shape(
    another, None, jax.tree.map(lambda x: x[0], (ids, batches))
  )
  zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), alone[0])
  loss, gradient = jax.lax.scan(another, sums.widened(zero), (ids, batches))[0]
  return loss, sums.narrowed(gradient, params)


def _server(held: Held, **known: Any) -> server_lib.Server:
  """A server of which only this is known."""
  params, optimizer_state, per_push_state, accumulator, loss = held
  known |= {'params': params, 'optimizer_state': optimizer_state}
  known |= {'per_push_state': per_push_state, 'accumulator': accumulator}
  known |= {'loss': loss}
  unknown: dict[str, Any] = dict.fromkeys(server_lib.Server._fields)
  return server_lib.Server(**(unknown | known))


def _push(
  static: Static, case: int, held: Held, message: Any, pushed: dict[str, Any]
) -> Held:
  """`server.apply`, as one of the cases that a push may be."""
  if case == decisions.IDLE:
    return held
  known = {name: pushed[column] for name, column in _SUM.items()}
  before = _server(held, version=0, **known)
  if not case & decisions.SUMMED:
    before = before._replace(accumulator=None)
  use, update = bool(case & decisions.USED), bool(case & decisions.UPDATED)
  push = Push(pushed['worker'], 0, (), 0.0, pushed['loss'], message)
  push = push._replace(staleness=pushed['staleness'])
  after = server_lib.apply(
    *(before, push, Decision(use, update), static.optimizer),
    *(static.per_push, pushed['pulled']),
  )
  accumulator = held[3] if after.accumulator is None else after.accumulator
  found = (
    after.params,
    after.optimizer_state,
    after.per_push_state,
    accumulator,
    after.loss,
  )
  if 'live' not in pushed:
    return found
  chosen = lambda new, old: jnp.where(pushed['live'], new, old)
  return jax.tree.map(chosen, found, held)


def _answer(
  reply: Callable[..., Any],
  columns: dict[str, Any],
  pullable: Any,
  published: Params,
  held: Held,
) -> Any:
  """Gives the workers that are answered what `reply` returns for them."""
  visible = server_lib.Visible(published, *held[:3], columns['total'][0])

  def one(i: Any, pullable: Any) -> Any:
    worker = columns['replies'][0, i]
    params = server_lib.replied(reply, visible, worker)
    return _put(pullable, worker, params)

  return jax.lax.fori_loop(0, columns['answered'][0], one, pullable)
