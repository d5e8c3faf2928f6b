"""The server as one compiled program, for a known order of arrivals.

Who pulls which version, and what each push does, follows from the order alone:
see decisions.py. One scan over these decisions computes the messages and hands
them to `server.apply`.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import policy as policy_lib
from stale_adam import server, trace
from stale_adam import worker as worker_lib
from stale_adam.compiled import decisions, program
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
  reply: server.Reply | None = None,
) -> Simulation:
  """Train as `serve` does when the workers arrive in this order.

  One compiled scan; on one CPU device its result is that of `serve`, bit for
  bit, if optimizer and methods work element by element, as Adam does. It keeps
  max(staleness) + 1 versions of the parameters, however many workers there are;
  with a `reply`, one for each worker. It can be vmapped over the learning rate,
  or whatever else the optimizer closes over, and over the seed; vmap rounds
  matrix products differently, so those results agree to a tolerance.

  With several devices, consecutive pushes whose snapshots all exist are
  computed at once, one on each; then every device applies them all, in order.
  XLA rounds a program of several CPU devices differently.

  The program is compiled for the length of the order and its largest staleness.
  JAX caches it, and with it references to the loss and the optimizer, until
  `jax.clear_caches()`.

  Args:
    problem: what is minimised.
    optimizer: any optax transformation.
    policy: who is used, when to update, who is answered.
    order: the worker of every arrival, 0 to N - 1; or a trace.
    seed: as in `serve`.
    devices: which compute gradients. By default all local accelerators; one
      device if there are none, or if vmap or jit traces this function.
    counterfactual: take a trace's order alone, whatever policy and seed it was
      recorded with; otherwise one that differs is refused.
    per_push: as in `serve`.
    worker: as in `serve`. With a memory, one device is used.
    reply: as in `serve`. With a reply, one device is used.

  Raises:
    ValueError: if a worker arrives that has no work; if the trace was recorded
      with another policy, seed or staleness; if the seed is not from 0 to
      2**32 - 1; if the optimizer needs more than a server has.
  """
  recorded = None
  if isinstance(order, trace.Trace) and not counterfactual:
    recorded = order
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
  if recorded is not None:
    recorded.check_staleness(rows.pulled_version, rows.staleness)
  if rows.at_once < len(places):  # More of them would be idle.
    places = places[: rows.at_once]
    rows = decisions.record(policy, order, len(places), reply is not None)
  static = program.Static(
    problem.loss,
    optimizer,
    per_push,
    worker,
    reply,
    rows.versions,
    rows.cases,
    len(places),
  )
  carry = program.begin(static, begin)
  if len(places) > 1:
    run = program.spread(tuple(places), static)
  else:
    run = functools.partial(program.alone, static)
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


def _checked(
  order: Any, policy: Policy, seed: Any, counterfactual: bool
) -> np.ndarray:
  """The worker of every arrival, of an order that may be replayed."""
  if not isinstance(order, trace.Trace):  # Which checks it.
    return trace.Trace(order, np.zeros(len(order))).worker
  if not counterfactual:
    settings = {'policy': policy_lib.settings(policy), 'seed': seed}
    if isinstance(seed, jax.core.Tracer):  # It has no value to compare.
      del settings['seed']
    order.check_replay(settings)
  return order.worker


def _devices(
  devices: Sequence[jax.Device] | None,
  problem: Problem,
  optimizer: optax.GradientTransformation,
  per_push: optax.GradientTransformation | None,
  begin: server.Server,
  key: jax.Array,
) -> list[Any]:
  """Where to compute; [None] is jax's default device."""
  if devices is not None:
    if not len(devices):
      raise ValueError('devices=[]: name one or more, or None for the default')
    return list(devices)
  found = [d for d in jax.local_devices() if d.platform != 'cpu']
  if len(found) > 1 and not _traced(problem, optimizer, per_push, begin, key):
    return found
  return [None]


def _traced(
  problem: Problem,
  optimizer: optax.GradientTransformation,
  per_push: optax.GradientTransformation | None,
  begin: server.Server,
  key: jax.Array,
) -> bool:
  """Whether vmap or jit traces us: a program of several devices cannot be."""
  params = begin.params
  loss = jax.make_jaxpr(problem.loss)(params, problem.batch(0), key)
  found = [*jax.tree.leaves((begin, key)), *loss.consts]
  run = lambda: server.apply(
    begin,
    Push(0, 0, (), 0.0, begin.loss, params),
    *(Decision(True, True), optimizer, per_push, params),
  )
  found += jax.make_jaxpr(lambda: jax.tree.leaves(run().params))().consts
  return any(isinstance(leaf, jax.core.Tracer) for leaf in found)
