"""One contract for every pool and every communication; replay of recorded runs.

A new pool is a row of POOLS, and inherits all of it.
"""

import itertools

import clusters
import jax
import numpy as np
import pytest
import reference

import stale_adam as sa
from stale_adam import methods
from stale_adam.pools import contract as contract_lib
from stale_adam.pools.contract import check

RATE = 0.02
ADAM = sa.adam(RATE)  # One for all tests: it is a key of jit's cache.
TOLERANCE = 1e-5  # float32 against float64 over some Adam updates.
COUNT = 48

POOLS = {
  'clock': lambda: sa.pools.Virtual(sa.Clock(distribution='gamma', spread=0.5)),
  'one thread': lambda: sa.pools.Virtual(threads=1),
  'one device': lambda: sa.pools.Threads(jax.devices()[:1]),
  'three devices': lambda: sa.pools.Threads(jax.devices()[:3]),
  'four devices': lambda: sa.pools.Threads(),
  'cluster': lambda: clusters.start() and sa.pools.Ray(),
}
# workers, local, global accumulation, synchronous, pull_every
CASES = [
  (1, 1, 1, False, 1),
  (4, 1, 1, False, 1),
  (4, 2, 1, False, 1),
  (4, 2, 2, False, 1),
  (4, 1, 4, False, 1),
  (4, 1, 1, True, 1),
  (4, 2, 1, True, 1),
  (3, 1, 1, True, 2),
  (6, 1, 3, False, 2),
]
# An actor takes seconds to start: a cluster has one case of each kind.
CLUSTERED = [(4, 1, 1, False, 1), (4, 2, 2, False, 1), (3, 1, 1, True, 2)]


def marks(pool):
  return clusters.needed if pool == 'cluster' else ()


NAMES = [pytest.param(pool, marks=marks(pool)) for pool in POOLS]
PAIRS = [
  pytest.param(pool, case, marks=marks(pool), id=f'{pool}-{case}')
  for pool in POOLS
  for case in (CLUSTERED if pool == 'cluster' else CASES)
]


@pytest.fixture(scope='module', autouse=True)
def cluster():
  """Ends the cluster of this file, if a test has started it."""
  yield
  clusters.stop()


@pytest.fixture(scope='module')
def runs(toy, served):
  """Every run of the contract: (pushes, states), by pool and communication."""
  made = {}

  def run(pool, case):
    if (pool, case) not in made:
      numbers = sa.Communication(*case)
      made[pool, case] = served(toy, ADAM, numbers, POOLS[pool](), COUNT)
    return made[pool, case]

  return run


def contract(test):
  return pytest.mark.parametrize('pool, case', PAIRS)(test)


@contract
def test_no_gradient_is_lost_or_used_twice(runs, pool, case):
  """Every batch id that was handed out comes back once, the oldest soon."""
  pushes, _ = runs(pool, case)
  workers, local, *_ = case
  ids = sorted(i for push in pushes for i in push.ids)
  assert len(ids) == len(set(ids)) == COUNT * local
  # At most those in flight are missing.
  assert ids[-1] < (COUNT + workers) * local
  assert all(p.message is None for p in pushes)


@contract
def test_every_version_is_the_references(runs, pool, case):
  """For the order in which the workers happened to arrive."""
  pushes, states = runs(pool, case)
  order = [p.worker for p in pushes]
  adam = reference.Adam(lambda update: RATE)
  expected = reference.serve(adam, order, *case)
  assert [p.staleness for p in pushes] == expected.staleness
  assert [p.pulled_version for p in pushes] == expected.pulled
  assert [list(p.ids) for p in pushes] == expected.ids
  np.testing.assert_allclose(
    np.array([p.loss for p in pushes]), expected.loss, rtol=1e-4
  )
  for state in states:
    wanted = expected.versions[state.version]
    assert reference.distance(state.params, wanted) < TOLERANCE


@pytest.mark.slow
@contract
def test_its_trace_replays_it(toy, served, runs, pool, case):
  """Bit for bit, compiled and on threads; but for an all-reduce's rounding."""
  pushes, states = runs(pool, case)
  trace, numbers = sa.Trace.of(pushes), sa.Communication(*case)
  again = served(toy, ADAM, numbers, sa.pools.Virtual(trace), 2 * COUNT)
  assert [p.seconds for p in again[0]] == [p.seconds for p in pushes]
  assert sa.Trace.of(again[0]).digest() == trace.digest()
  run = sa.simulate(toy, ADAM, numbers, trace, devices=jax.devices()[:1])
  devices = {'three devices': 3, 'four devices': 4}.get(pool, 1)
  for found in (again[1][-1].params, run.params):
    if numbers.synchronous and 1 < numbers.workers <= devices:
      assert reference.distance(found, states[-1].params) < TOLERANCE
    else:
      jax.tree.map(np.testing.assert_array_equal, found, states[-1].params)


@contract
def test_times_are_in_order(runs, pool, case):
  """Pulled, started, computed, arrived, seen; never two things at a time."""
  pushes, _ = runs(pool, case)
  last = dict.fromkeys(range(case[0]), 0.0)
  seconds = [p.seconds for p in pushes]
  assert seconds == sorted(seconds)
  for push in pushes:
    way = [last[push.worker], *push.times, push.seconds]
    assert way == sorted(way)
    last[push.worker] = push.seconds
    assert 0 <= push.age_seconds <= push.seconds
    assert push.seconds - push.times.pulled <= push.age_seconds + 1e-9


@pytest.mark.parametrize('pool', NAMES)
def test_a_pool_serves_one_run(toy, pool):
  with POOLS[pool]() as busy:
    next(sa.serve(toy, ADAM, sa.Communication(2), busy))
    with pytest.raises(ValueError, match='is busy.*make a new one'):
      next(sa.serve(toy, ADAM, sa.Communication(2), busy))


@pytest.mark.parametrize('pool', NAMES)
def test_a_pool_has_its_verbs(pool):
  with POOLS[pool]() as made:
    check(made)
    with made.paused():
      pass
    made.close()
    with pytest.raises(ValueError, match='closed: make a new one'):
      made.receive()


def test_what_is_no_pool_is_refused_by_name(toy):
  class Half:
    def send(self, worker, work):
      pass

    receive = None

  with pytest.raises(TypeError, match='Half.* lacks receive, paused, state'):
    next(sa.serve(toy, ADAM, sa.Communication(2), Half()))


def test_a_trace_is_replayed_under_its_own_settings(toy, served):
  """By the server on a virtual clock, and by the compiled simulation."""
  numbers, other = sa.Communication(4), sa.Communication(4, 1, 2)
  pushes, _ = served(toy, ADAM, numbers, sa.pools.Virtual(), 12, 3)
  trace = sa.Trace.of(pushes)
  assert trace.settings['policy']['workers'] == 4
  for policy, seed, message in (
    (other, 3, 'global_accumulation: 1 in the trace, 2 here'),
    (numbers, 4, 'seed: 3 in the trace, 4 here'),
    (methods.BackupWorkers(4), 3, 'Communication in .*, BackupWorkers here'),
  ):
    with pytest.raises(ValueError, match=message):
      served(toy, ADAM, policy, sa.pools.Virtual(trace), 12, seed)
    with pytest.raises(ValueError, match=message):
      sa.simulate(toy, ADAM, policy, trace, seed)
  pool = sa.pools.Virtual(trace, counterfactual=True)
  again, states = served(toy, ADAM, other, pool, 99, 3)
  assert len(again) == 12 and states[-1].version == 6


def test_what_inherits_half_a_pool_cannot_be_made():
  class Half(contract_lib.Pool):
    def send(self, worker, work):
      pass

  with pytest.raises(TypeError, match='abstract'):
    Half()
  with pytest.raises(TypeError, match='is a class: make a pool'):
    check(sa.pools.Virtual)


@pytest.mark.parametrize('pool', ['clock', 'four devices'])
def test_a_round_of_synchronous_workers_is_resumed_or_refused(
  toy, served, pool
):
  """On the clock in the middle of a round; not where an all-reduce was lost."""
  numbers = sa.Communication(4, synchronous=True)
  _, states = served(toy, ADAM, numbers, POOLS[pool](), 10)
  assert states[-1].summed == 2
  resumed = lambda made, state: list(
    itertools.islice(sa.serve(toy, ADAM, numbers, made, resume=state), 14)
  )
  if pool == 'four devices':
    with sa.pools.Threads() as made, pytest.raises(ValueError, match='lacks'):
      resumed(made, states[-1])
    return
  _, whole = served(toy, ADAM, numbers, POOLS[pool](), 24)
  with sa.pools.Threads() as made:  # A round that is not whole, one by one.
    found = resumed(made, states[-1])
  distance = reference.distance(found[-1][1].params, whole[-1].params)
  assert distance < TOLERANCE  # Later rounds are an all-reduce.


def test_a_server_of_another_run_is_not_resumed(toy, served):
  numbers = sa.Communication(4)
  _, states = served(toy, ADAM, numbers, POOLS['clock'](), 10)
  for policy, state, message in (
    (sa.Communication(6), states[-1], 'has 4 workers, the policy 6'),
    (numbers, states[3], 'was consumed by its next arrival'),
  ):
    with (
      sa.pools.Virtual() as made,
      pytest.raises(ValueError, match=message),
    ):
      next(sa.serve(toy, ADAM, policy, made, resume=state))
