"""The server as one compiled program, for an order of arrivals that is known.

Who pulls which version, and which push makes an update, follows from the order
alone: see rows.py. One scan over these rows computes the gradients and hands
them to `server.push`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import server, trace, worker
from stale_adam.compiled import rows as rows_lib
from stale_adam.policy import Communication
from stale_adam.problem import Params, Problem


class Simulation(NamedTuple):
  """What a run leaves; the arrays have an entry a push, in order of arrival.

  Attributes:
    params: after the last push, as `init` returns them.
    staleness: of the push, in updates, int32.
    pulled_version: version that the push's gradient was computed at, int32.
    loss: mean over the push's batches.
  """

  params: Params
  staleness: Any
  pulled_version: Any
  loss: Any


def simulate(
  problem: Problem,
  optimizer: optax.GradientTransformation,
  communication: Communication,
  order: trace.Trace | Sequence[int],
  seed: Any = 0,
  devices: Sequence[jax.Device] | None = None,
  counterfactual: bool = False,
) -> Simulation:
  """Trains as `serve` does when the workers arrive in this order.

  One compiled scan; on one CPU device its result is that of `serve`, bit for
  bit, if the optimizer works element by element, as Adam does. It keeps
  max(staleness) + 1 versions of the parameters, however many workers there are.
  It can be vmapped over the learning rate, or whatever else the optimizer
  closes over, and over the seed; vmap rounds matrix products in another way, so
  those results agree to a tolerance.

  With several devices, consecutive pushes whose snapshots all exist are
  computed at once, one on each; then every device applies them all, in order.
  XLA rounds a program of several CPU devices in another way.

  The program is compiled for the length of the order and its largest staleness,
  and kept, with what the loss and the optimizer refer to, until
  `jax.clear_caches()`.

  Args:
    problem: what is minimised.
    optimizer: any optax transformation.
    communication: how.
    order: the worker of every arrival, 0 to N - 1; or a trace.
    seed: as of `serve`.
    devices: that compute gradients; if None all local accelerators, or one
      device where there are none or while vmap or jit traces us.
    counterfactual: take a trace's order alone, whatever communication and seed
      it was recorded with; otherwise one that differs is refused.

  Raises:
    ValueError: if a worker arrives that has no work, or the trace was recorded
      with another communication or seed.
  """
  if isinstance(order, trace.Trace):
    if order.settings and not counterfactual:
      numbers = dataclasses.asdict(communication)
      here = {'communication': numbers, 'seed': seed}
      if isinstance(seed, jax.core.Tracer):  # It has no value to compare.
        del here['seed']
      here = {k: here[k] for k in here.keys() & order.settings.keys()}
      order.check(order.settings | here)
  else:  # Which checks it.
    order = trace.Trace(order, np.zeros(len(order)))
  order = order.worker
  init_key, key = server.keys(seed)
  state = server.init(optimizer, problem.init(init_key))
  devices = _devices(devices, problem, optimizer, state, key)
  rows = rows_lib.dry_run(communication, order, len(devices))
  if rows.together < len(devices):  # More of them would be idle.
    devices = devices[: rows.together]
    rows = rows_lib.dry_run(communication, order, len(devices))
  several = communication.pushes_per_update > 1
  carry = (
    None,
    state.params,
    state.optimizer_state,
    jax.tree.map(jnp.zeros_like, state.params) if several else None,
  )
  static = (problem.loss, optimizer, communication, rows.versions, rows.cases)
  if len(devices) > 1:
    run = _spread(tuple(devices), *static)
  else:
    run = functools.partial(_alone, *static, 1)
    carry, key = jax.device_put((carry, key), devices[0])
  losses = []
  for part, own in rows.parts(problem):
    carry, loss = run(carry, key, part, own)
    losses.append(loss.reshape(-1))
  loss, params = jnp.concatenate(losses or [jnp.zeros(0)]), carry[1]
  if len(devices) > 1:  # The results on one of them.
    params = jax.tree.map(lambda x: x.addressable_data(0), params)
    loss = jax.device_put(loss, devices[0])
  loss = loss[rows.place]
  # By an array: XLA multiplies by a lone number's reciprocal, which rounds.
  loss = loss / jnp.full_like(loss, communication.local_accumulation)
  return Simulation(params, rows.staleness, rows.pulled_version, loss)


def _devices(devices, problem, optimizer, state, key) -> list[Any]:
  """Where to compute; [None] is jax's default device."""
  if devices is not None:
    if not len(devices):
      raise ValueError('devices=[]: name one or more, or None for the default')
    return list(devices)
  found = [d for d in jax.local_devices() if d.platform != 'cpu']
  if len(found) > 1 and not _traced(problem, optimizer, state, key):
    return found
  return [None]


def _scan(
  loss, optimizer, communication, kept, cases, devices, carry, key, part, own
):
  """Computes and pushes group after group.

  Args:
    loss: the problem's.
    optimizer: any optax transformation.
    communication: how.
    kept: how many versions of the parameters are.
    cases: those that occur.
    devices: how many there are.
    carry: the versions, None at first; the parameters in force, the optimizer's
      state, and the accumulator.
    key: of all batches.
    part: of all devices' pushes: pulled, version, case, [groups, devices].
    own: of this device's: ids [groups, L], batches [groups, L, ...].

  Returns:
    (carry, this device's losses, summed over batches, [groups]).
  """
  branches = [
    functools.partial(_push, case, optimizer, communication) for case in cases
  ]

  if carry[0] is None:
    copies = lambda x: jnp.broadcast_to(x, (kept, *x.shape))
    carry = (jax.tree.map(copies, carry[1]), *carry[1:])

  def group(carry, row):
    versions, *held = carry
    (pulled, version, case), (ids, batches) = row
    mine = jax.lax.axis_index(worker.AXIS) if devices > 1 else 0
    params = jax.tree.map(lambda x: x[pulled[mine]], versions)
    value, gradient = _gradient(loss, params, key, ids, batches)
    gradients = [gradient]
    if devices > 1:
      gathered = jax.lax.all_gather(gradient, worker.AXIS)
      gradients = [
        jax.tree.map(lambda x, i=i: x[i], gathered) for i in range(devices)
      ]
    for i, gradient in enumerate(gradients):
      which = jnp.searchsorted(np.array(cases), case[i])
      held = jax.lax.switch(which, branches, *held, gradient)
      versions = jax.tree.map(
        lambda x, new, i=i: x.at[version[i]].set(new), versions, held[0]
      )
    return (versions, *held), value

  return jax.lax.scan(group, carry, (part, own))


# Programs are kept by what they are made of, as those of the server are.
_alone = jax.jit(_scan, static_argnums=range(6))


@functools.lru_cache(maxsize=8)
def _spread(devices: tuple[jax.Device, ...], *static):
  """The same on several devices, which split `own` and share all else."""
  return worker.parallel(
    functools.partial(_scan, *static, len(devices)),
    devices,
    in_axes=(None, None, None, 1),
    out_axes=(None, 1),
  )


def _gradient(loss, params, key, ids, batches):
  """Sums of losses and gradients, as `worker.Gradient`, of stacked batches."""
  if len(ids) == 1:
    batch = jax.tree.map(lambda x: x[0], batches)
    return worker.add(loss, None, params, batch, key, ids[0])

  def another(total, row):
    number, batch = row
    return worker.add(loss, total, params, batch, key, number), None

  # From zero on: a loop of one is none, and its sums would round otherwise.
  alone = jax.eval_shape(
    another, None, jax.tree.map(lambda x: x[0], (ids, batches))
  )
  zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), alone[0])
  return jax.lax.scan(another, zero, (ids, batches))[0]


def _push(case, optimizer, communication, params, state, accumulator, gradient):
  """`server.push`, by where in an update the push is: (params, state, sum)."""
  if case == rows_lib.IDLE:
    return params, state, accumulator
  pushes = {
    rows_lib.FIRST: 0,
    rows_lib.MIDDLE: 1,
    rows_lib.LAST: communication.pushes_per_update - 1,
  }
  held = accumulator if pushes[case] else None
  before = server.State(params, state, held, None, pushes[case], 0)
  after = server.push(optimizer, communication, before, gradient)
  if after.accumulator is not None:
    accumulator = after.accumulator
  return after.params, after.optimizer_state, accumulator


def _traced(problem: Problem, optimizer, state: server.State, key) -> bool:
  """Whether vmap or jit traces us: a program of several devices cannot be."""
  held = state.params, state.optimizer_state
  loss = jax.make_jaxpr(problem.loss)(held[0], problem.batch(0), key)
  update = jax.make_jaxpr(optimizer.update)(held[0], held[1], held[0])
  leaves = [*jax.tree.leaves((held, key)), *loss.consts, *update.consts]
  return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
