"""One contract for every method: a new one is a row here, and inherits it all.

Each is held against NumPy (reference.py), under `serve` on an uneven virtual
clock and on host threads, and against `simulate`, bit for bit; and it is taken
up again with work in flight.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
import toys

import stale_adam as sa
from stale_adam import methods

RATE, COUNT = 0.02, 60
TOLERANCE = 1e-5  # float32 against float64 over some Adam updates.
ADAM, SGD = sa.adam(RATE), optax.sgd(0.05)
ONE = jax.devices()[:1]
CLOCK = sa.Clock(0.9, 0.1, 0.2, 0.15, 'normal', 0.5, (1.0, 2.0, 0.7), seed=4)
PLAIN = (sa.Communication(4), sa.Communication(4, 2, 3))


@dataclasses.dataclass(frozen=True)
class Method:
  """A method, and the same in NumPy.

  Attributes:
    ours: arguments of `serve` and `simulate`.
    theirs: arguments of `reference.train`; a factory where it has state.
    policies: to try it with, and the reference's `decide` of each.
    optimizer: ours; `reference` makes the other.
  """

  ours: dict[str, Any]
  theirs: Callable[[], dict[str, Any]] = dict
  policies: tuple[Any, ...] = PLAIN
  optimizer: Any = ADAM
  reference: Callable[[], Any] = lambda: reference.Adam(lambda update: RATE)


def plain(policy):
  """The reference's `decide` of an asynchronous Communication."""

  def decide(a):
    update = a.summed + 1 == policy.global_accumulation
    publish = (a.version + 1) % policy.pull_every == 0
    return True, update, [a.worker], publish

  return decide


def backup(policy):
  def decide(a):
    if a.staleness:
      return False, False, [a.worker]
    update = a.summed == policy.workers - policy.backups - 1
    return True, update, [*a.waiting] if update else []

  return decide


def rated(g, x, pulled, tau):
  return {k: v / max(1, tau) for k, v in g.items()}


def compensated(strength, decay=None):
  """Delay compensation; its mean square is shared by all workers."""

  def make():
    square = {}

    def per_push(g, x, pulled, tau):
      new = {}
      for k, v in g.items():
        s = strength
        if decay is not None:
          square[k] = decay * square.get(k, 0.0) + (1 - decay) * v * v
          s = strength / np.sqrt(square[k] + 1e-7)
        new[k] = v + s * v * v * (x[k] - pulled[k])
      return new

    return {'per_push': per_push}

  return make


def dropped(rate):
  def worker(g, memory):
    total = {k: v + memory.get(k, 0.0) for k, v in g.items()}
    size = np.concatenate([np.ravel(np.abs(v)) for v in total.values()])
    threshold = np.sort(size)[-max(1, round((1 - rate) * size.size))]
    sent = {k: np.where(abs(v) >= threshold, v, 0.0) for k, v in total.items()}
    return sent, {k: total[k] - sent[k] for k in total}

  return worker


def predicted(staleness):
  def reply(params, adam):
    t, new = adam.updates, params
    for s in range(1, int(np.ceil(staleness)) + 1) if t else ():
      weight = min(1.0, staleness - s + 1) * adam.rate(t + s) * adam.b1**s
      for k in params:
        m_hat = adam.m[k] / (1 - adam.b1**t)
        v_hat = adam.v[k] / (1 - adam.b2**t)
        change = weight * m_hat / (np.sqrt(v_hat) + adam.eps)
        new = {**new, k: new[k] - change}
    return new

  return reply


def local_sgd(rate):
  """Local updates on each batch; the message is the change, as a gradient.

  No method of the library: it takes several gradients, at moving parameters.
  """
  move = jax.jit(
    lambda x, g: jax.tree.map(lambda x, g: x - jnp.float32(rate) * g, x, g)
  )
  change = jax.jit(lambda x, y: jax.tree.map(jnp.subtract, x, y))

  def compute(gradient, params, batches, memory):
    local = params
    for i in batches:
      loss, g = gradient(local, batches[i : i + 1])
      local = move(local, g)
    return loss, change(params, local), memory

  return sa.worker.Worker(lambda params, worker: None, compute)


def walked(rate):
  def walk(pulled, ids, memory):
    local = pulled
    for i in ids:
      _, g = reference.loss_and_gradient(local, i)
      local = {k: local[k] - rate * g[k] for k in local}
    return {k: pulled[k] - local[k] for k in local}, memory

  return walk


warm = sa.inverse_sqrt(RATE, 10)
inverse = lambda tau: 1 / max(1, tau)
METHODS = {
  'none': Method({}),
  'BackupWorkers': Method(
    {},
    policies=(methods.BackupWorkers(4), methods.BackupWorkers(6, 2, 2)),
  ),
  'scale_by_staleness, pushes': Method(
    {'per_push': methods.scale_by_staleness()},
    lambda: {'per_push': rated},
    optimizer=SGD,
    reference=lambda: reference.Sgd(0.05),
  ),
  'scale_by_staleness, after Adam': Method(
    {},
    optimizer=optax.chain(ADAM, methods.scale_by_staleness()),
    reference=lambda: reference.Scaled(lambda update: RATE, inverse),
  ),
  'compensate_delay, constant': Method(
    {'per_push': methods.compensate_delay(0.5)},
    compensated(0.5),
    optimizer=SGD,
    reference=lambda: reference.Sgd(0.05),
  ),
  'compensate_delay, adaptive': Method(
    {'per_push': methods.compensate_delay(2.0, 0.95)},
    compensated(2.0, 0.95),
  ),
  'drop_gradients': Method(
    {'worker': methods.drop_gradients(0.7)},
    lambda: {'worker': dropped(0.7)},
    optimizer=SGD,
    reference=lambda: reference.Sgd(0.05),
  ),
  'several gradients at a worker': Method(
    {'worker': local_sgd(0.1)},
    lambda: {'local_worker': walked(0.1)},
    policies=(sa.Communication(4, 3), sa.Communication(4, 2, 3)),
    optimizer=SGD,
    reference=lambda: reference.Sgd(0.05),
  ),
  'predict_weights': Method(
    {'reply': methods.predict_weights(warm, 2.5)},
    lambda: {'reply': predicted(2.5)},
    policies=(*PLAIN, sa.Communication(3, pull_every=3)),
    optimizer=sa.adam(warm),
    reference=lambda: reference.Adam(
      lambda u: RATE * min(1, u / 10) * min(1, np.sqrt(10 / u))
    ),
  ),
}
CASES = [
  pytest.param(method, policy, id=f'{name}, {i}')
  for name, method in METHODS.items()
  for i, policy in enumerate(method.policies)
]


def decide(policy):
  made = {sa.Communication: plain, methods.BackupWorkers: backup}
  return made[type(policy)](policy)


def run(method, policy, pool, count=COUNT, resume=None):
  with pool:
    arrivals = sa.serve(
      *(toys.PROBLEM, method.optimizer, policy, pool),
      resume=resume,
      **method.ours,
    )
    return zip(*itertools.islice(arrivals, count), strict=True)


def simulate(method, policy, trace, **more):
  return sa.simulate(
    *(toys.PROBLEM, method.optimizer, policy, trace),
    devices=ONE,
    **method.ours,
    **more,
  )


def equal(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.mark.parametrize('method, policy', CASES)
def test_every_version_is_the_references(method, policy):
  pushes, servers = run(method, policy, sa.pools.Virtual(CLOCK))
  versions, staleness, used = reference.train(
    method.reference(),
    [push.worker for push in pushes],
    policy.workers,
    decide(policy),
    policy.local_accumulation,
    **method.theirs(),
  )
  assert [push.staleness for push in pushes] == staleness
  assert [push.used for push in pushes] == used
  assert max(staleness) > 0
  for server in servers:
    wanted = versions[server.version]
    assert reference.distance(server.params, wanted) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize('method, policy', CASES)
@pytest.mark.parametrize('pool', ['clock', 'threads'])
def test_its_trace_replays_it_bit_for_bit(method, policy, pool):
  made = {'clock': lambda: sa.pools.Virtual(CLOCK), 'threads': sa.pools.Threads}
  pushes, servers = run(method, policy, made[pool]())
  trace = sa.Trace.of(pushes)
  found = simulate(method, policy, trace)
  equal(found.params, servers[-1].params)
  equal(found.loss, np.array([push.loss for push in pushes]))
  assert found.staleness.tolist() == [push.staleness for push in pushes]
  assert found.used.tolist() == [push.used for push in pushes]
  again, last = run(method, policy, sa.pools.Virtual(trace), 2 * COUNT)
  equal(last[-1].params, servers[-1].params)
  assert len(again) == COUNT


@pytest.mark.parametrize('method, policy', CASES)
def test_it_continues_with_work_in_flight(method, policy):
  """Bit for bit, from the Server alone: what is in flight is computed again."""
  pushes, servers = run(method, policy, sa.pools.Virtual(CLOCK))
  order = np.array([push.worker for push in pushes])
  half = COUNT // 2
  # The server is consumed as it goes on: it is taken where a run ended.
  first = sa.Trace(order[:half], np.arange(float(half)))
  _, begun = run(method, policy, sa.pools.Virtual(first), half)
  assert begun[-1].held
  rest = sa.Trace(order[half:], np.arange(float(COUNT - half)))
  later, ended = run(
    method, policy, sa.pools.Virtual(rest), COUNT, resume=begun[-1]
  )
  equal(ended[-1].params, servers[-1].params)
  equal([p.loss for p in later], [p.loss for p in pushes[half:]])
  assert [p.staleness for p in later] == [p.staleness for p in pushes[half:]]


def same(ours, policy, base, optimizer=ADAM, order=None):
  """A method that reduces to a base does the same with the same arrivals."""
  order = order or [*itertools.islice(itertools.cycle(range(4)), 40)]
  found = sa.simulate(
    *(toys.PROBLEM, optimizer, policy, order), devices=ONE, **ours
  )
  wanted = sa.simulate(toys.PROBLEM, ADAM, base, order, devices=ONE)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    (found.params, found.loss),
    (wanted.params, wanted.loss),
  )
  assert found.staleness.tolist() == wanted.staleness.tolist()


SYNCHRONOUS = sa.Communication(4, synchronous=True)
LAWS = {
  'no backup worker is synchronous': (
    *({}, methods.BackupWorkers(4, 0), SYNCHRONOUS),
  ),
  'no staleness scales nothing': (
    {'per_push': methods.scale_by_staleness()},
    *(SYNCHRONOUS, SYNCHRONOUS),
  ),
  'no staleness divides no rate': (
    *({}, SYNCHRONOUS, SYNCHRONOUS),
    optax.chain(ADAM, methods.scale_by_staleness()),
  ),
  'no staleness needs no compensation': (
    {'per_push': methods.compensate_delay(2.0, 0.95)},
    *(SYNCHRONOUS, SYNCHRONOUS),
  ),
  'no strength compensates nothing': (
    {'per_push': methods.compensate_delay(0.0)},
    *(sa.Communication(4), sa.Communication(4)),
  ),
  'dropping nothing sends all': (
    {'worker': methods.drop_gradients(0.0)},
    *(sa.Communication(4, 2), sa.Communication(4, 2)),
  ),
  'predicting no update replies as published': (
    {'reply': methods.predict_weights(RATE, 0)},
    *(sa.Communication(4), sa.Communication(4)),
  ),
  'predicting no update keeps artificial staleness': (
    {'reply': methods.predict_weights(RATE, 0)},
    *(sa.Communication(4, pull_every=3), sa.Communication(4, pull_every=3)),
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize('law', LAWS)
def test_reduces_to_its_base(law):
  same(*LAWS[law])
