"""A Ray cluster whose workers and machines are killed, stopped and added.

Whatever happens: every batch counts once, and the trace replays bit for bit.
"""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import types

import clusters
import jax
import numpy as np
import pytest
import reference
import toys

import stale_adam as sa
from experiments.benchmarks.injected import toys as injected
from stale_adam import methods
from stale_adam.pools import contract, ray_actor, ray_crew, ray_machines
from stale_adam.training import resume

pytestmark = clusters.needed
ADAM = sa.adam(0.02)  # One for all tests: it is a key of jit's cache.
NUMBERS = sa.Communication(3, 1, 2)


@pytest.fixture(scope='module', autouse=True)
def cluster():
  """The cluster and its machines."""
  yield clusters.start()
  clusters.stop()


def slow(seconds):
  """The toy problem, with batches that take a while to be read."""

  def batch(number):
    time.sleep(seconds)
    return reference.batch(number)

  return toys.PROBLEM._replace(batch=batch)


def check(pushes, states, **method):
  """Every batch once, none left out for long, and a trace that replays."""
  ids = sorted(i for push in pushes for i in push.ids)
  assert len(ids) == len(set(ids)) == len(pushes)
  assert ids[-1] < len(pushes) + NUMBERS.workers
  trace = sa.Trace.of(pushes)
  run = sa.simulate(toys.PROBLEM, ADAM, NUMBERS, trace, **method)
  jax.tree.map(np.testing.assert_array_equal, run.params, states[-1].params)
  np.testing.assert_array_equal(run.staleness, [p.staleness for p in pushes])


METHODS = {
  'the sum': {},
  'a memory': {'worker': methods.compress_deeply(3)},
}


@pytest.mark.parametrize('method', METHODS)
def test_killed_workers_are_replaced(method, caplog):
  """While they compute, for they do little else."""
  worker, found = METHODS[method], []
  with sa.pools.Ray() as pool:
    for pair in sa.serve(slow(0.05), ADAM, NUMBERS, pool, **worker):
      found.append(pair)
      if len(found) in (10, 11, 25):
        clusters.kill(pool, pair[0].worker)
      if len(found) == 40:
        break
  check(*zip(*found, strict=True), **worker)
  # Of two that are killed at once, either may be missed first.
  lost = [r.args[0] for r in caplog.records if 'is lost' in r.getMessage()]
  killed = [found[i][0].worker for i in (9, 10, 24)]
  assert (sorted(lost[:2]), lost[2:]) == (sorted(killed[:2]), killed[2:])


@pytest.mark.parametrize(
  'policy, method',
  [
    (methods.FreshPushes(3, 2), {}),  # Restarts workers that compute.
    (NUMBERS, {'per_push': methods.compensate_delay()}),
    (NUMBERS, {'reply': methods.predict_weights(0.02, staleness=2)}),
  ],
  ids=['restarts', 'per push', 'reply'],
)
def test_methods_train_on_a_cluster(policy, method):
  with sa.pools.Ray() as pool:
    arrivals = sa.serve(slow(0.01), ADAM, policy, pool, **method)
    pushes, states = zip(*itertools.islice(arrivals, 40), strict=True)
  trace = sa.Trace.of(pushes)
  again = sa.simulate(toys.PROBLEM, ADAM, policy, trace, **method)
  jax.tree.map(np.testing.assert_array_equal, again.params, states[-1].params)
  restarted = sum(push.restarted for push in pushes)
  assert (restarted > 0) == (policy is not NUMBERS)


def test_workers_that_are_killed_while_they_send_are_replaced():
  """The message is all that takes them time."""
  size = 4_000_000
  problem = sa.Problem(
    lambda key: {'x': jax.numpy.zeros(size)},
    lambda params, batch, key: jax.numpy.sum(params['x'] * batch),
    lambda number: np.float32(number % 7),
  )
  optimizer = sa.adam(0.01)
  pushes, states = [], []
  with sa.pools.Ray() as pool:
    for push, state in sa.serve(problem, optimizer, NUMBERS, pool):
      pushes.append(push)
      states.append(state)
      if len(pushes) in (8, 9, 15):
        clusters.kill(pool, push.worker)
      if len(pushes) == 24:
        break
  run = sa.simulate(problem, optimizer, NUMBERS, sa.Trace.of(pushes))
  ids = [i for push in pushes for i in push.ids]
  assert len(ids) == len(set(ids))
  np.testing.assert_array_equal(run.params['x'], states[-1].params['x'])


def test_a_machine_that_is_lost_is_replaced_and_one_that_joins_used(cluster):
  """Its workers go to the other machine, and from there to the new one."""
  made, machines = cluster

  def lose():
    made.remove_node(machines.pop(), allow_graceful=False)

  def join():
    machines.append(clusters.add(made))
    made.wait_for_nodes()

  def until(wanted):
    """Trains until this holds of the machines that workers are on."""
    while not wanted({s.place and s.place.machine for s in seats.values()}):
      pool._crew._looked = -1e9  # For machines that have joined.
      found.extend(itertools.islice(arrivals, 1))
      assert len(found) < 5000, 'nobody moves'

  with sa.pools.Ray() as pool:
    worker, found, seats = METHODS['a memory'], [], pool._crew.seats
    arrivals = sa.serve(slow(0.05), ADAM, NUMBERS, pool, **worker)
    found += itertools.islice(arrivals, 10)
    until(lambda places: places == {m.node_id for m in machines})
    lose()
    until(lambda places: places == {machines[0].node_id})
    join()
    until(lambda places: places == {m.node_id for m in machines})
    found += itertools.islice(arrivals, 20)
  check(*zip(*found, strict=True), **worker)


def test_a_worker_that_hangs_is_replaced(caplog):
  with sa.pools.Ray(timeout_seconds=1000) as pool:
    arrivals = sa.serve(slow(0.02), ADAM, NUMBERS, pool)
    found = [*itertools.islice(arrivals, 9)]
    clusters.kill(pool, 1, signal.SIGSTOP)
    stopped = pool._crew.seats[1]
    pool._timeout_seconds = 3.0  # A new worker may take longer to start.
    while pool._crew.seats[1] is stopped:
      found += itertools.islice(arrivals, 1)
    pool._timeout_seconds = 1000
    while pool._crew.seats[1].place is None:
      found += itertools.islice(arrivals, 1)
  check(*zip(*found, strict=True))
  assert 'no push for 3.0 seconds' in caplog.text


def test_a_slow_worker_is_waited_for():
  """Others go on; its push arrives stale, and counts."""
  with sa.pools.Ray() as pool:
    arrivals = sa.serve(slow(0.02), ADAM, NUMBERS, pool)
    found = [*itertools.islice(arrivals, 9)]
    worker = found[-1][0].worker
    clusters.kill(pool, worker, signal.SIGSTOP)
    found += itertools.islice(arrivals, 40)
    clusters.kill(pool, worker, signal.SIGCONT)
    before = len(found)
    while not any(push.worker == worker for push, _ in found[before:]):
      found += itertools.islice(arrivals, 1)
  assert max(push.staleness for push, _ in found) >= 15
  ids = [i for push, _ in found for i in push.ids]
  assert len(ids) == len({*ids})
  trace = sa.Trace.of([push for push, _ in found])
  again = sa.simulate(toys.PROBLEM, ADAM, NUMBERS, trace)
  wanted = found[-1][1].params
  jax.tree.map(np.testing.assert_array_equal, again.params, wanted)


def test_work_that_is_lost_again_and_again_ends_the_run():
  """As where a batch needs more memory than there is."""

  def batch(number):
    if number == 7:
      signal.raise_signal(signal.SIGKILL)
    return reference.batch(number)

  with (
    sa.pools.Ray() as pool,
    pytest.raises(contract.WorkerLost, match='lost 3 times with the same work'),
  ):
    for push, _ in sa.serve(
      toys.PROBLEM._replace(batch=batch), ADAM, NUMBERS, pool
    ):
      assert max(push.ids) < 10**5, 'nobody misses it'


def test_a_run_is_resumed_in_a_new_pool(toy):
  with sa.pools.Ray() as pool:
    arrivals = sa.serve(toy, ADAM, NUMBERS, pool)
    first = [*itertools.islice(arrivals, 15)]
    state = pool.state()
  with sa.pools.Ray() as pool:
    pool.restore(state)
    arrivals = sa.serve(toy, ADAM, NUMBERS, pool, resume=first[-1][1])
    rest = [*itertools.islice(arrivals, 15)]
  seconds = [push.seconds for push, _ in first + rest]
  assert seconds == sorted(seconds)
  check(*zip(*first, *rest, strict=True))


PROGRAM = """
import sys
from pathlib import Path
import stale_adam as sa
from experiments.benchmarks.injected import toys
from stale_adam.training import run, task
address, out = sys.argv[1:]
run.run(
  toys.Regression(said=True), sa.adam(0.02), sa.Communication(3, 1, 2),
  sa.pools.Ray(address), task.Budget(2.4, 400, 100), Path(out),
  {'experiment': 'e', 'scale': 's', 'run': 'r', 'config': {}},
  save_seconds=0.0,
)
"""


def test_a_server_that_is_killed_is_resumed_with_new_workers(cluster, tmp_path):
  """By the same command; the trace of both parts replays."""

  def start():
    return subprocess.Popen(
      [sys.executable, '-c', PROGRAM, cluster[0].address, str(tmp_path)],
      cwd=clusters.HERE.parent,
      env=os.environ | {'PYTHONPATH': str(clusters.HERE.parent)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  first = start()
  for _ in range(200):  # A batch is printed twice when it arrives.
    assert first.stdout.readline()
  first.kill()
  first.communicate()
  saved = sum(resume.newest(tmp_path).header['pushes'])
  assert 50 <= saved < 240
  second = start()
  said, errors = second.communicate()
  assert second.returncode == 0, errors
  assert len(said.splitlines()) < 2 * 240
  trace = sa.Trace.load(tmp_path / 'trace.npz')
  assert len(trace) == 240
  again = sa.simulate(
    injected.Regression().problem,
    ADAM,
    NUMBERS,
    trace,
    devices=jax.devices()[:1],
  )
  np.testing.assert_array_equal(again.loss, trace.columns['loss'])


def test_what_a_worker_raises_names_it_and_its_machine():
  def batch(number):
    if number == 9:
      raise OSError('batch 9 cannot be read')
    return reference.batch(number)

  broken = toys.PROBLEM._replace(batch=batch)
  with (
    sa.pools.Ray() as pool,
    pytest.raises(OSError, match='batch 9 cannot be read') as caught,
  ):
    for push, _ in sa.serve(broken, ADAM, NUMBERS, pool):
      assert max(push.ids) < 100, 'nobody raises it'
  assert any('raised by worker ' in note for note in caught.value.__notes__)


def test_what_cannot_be_sent_is_refused(toy):
  lock = threading.Lock()

  def batch(number):
    with lock:
      return reference.batch(number)

  with (
    sa.pools.Ray() as pool,
    pytest.raises(ValueError, match='cannot be sent to other machines'),
  ):
    next(sa.serve(toy._replace(batch=batch), ADAM, NUMBERS, pool))


def test_other_versions_are_refused(toy):
  with sa.pools.Ray() as pool:
    versions = pool._crew.environment.versions | {'jax': '0.0.1'}
    other = pool._crew.environment._replace(versions=versions)
    pool._crew.environment = other
    with pytest.raises(
      contract.WorkerLost, match=r'jax \S+ here, 0.0.1 at the server'
    ):
      next(sa.serve(toy, ADAM, NUMBERS, pool))


def test_a_problem_that_is_not_installed_there_is_named():
  module = types.ModuleType('only_here')
  exec('def batch(number):\n  return number', module.__dict__)
  sys.modules['only_here'] = module
  try:
    with (
      sa.pools.Ray() as pool,
      pytest.raises(
        contract.WorkerLost, match="No module named 'only_here'.*install"
      ),
    ):
      problem = toys.PROBLEM._replace(batch=module.batch)
      next(sa.serve(problem, ADAM, NUMBERS, pool))
  finally:
    del sys.modules['only_here']


def test_waiting_is_ended_by_closing(toy):
  with sa.pools.Ray() as pool:
    arrivals = sa.serve(slow(60), ADAM, sa.Communication(1), pool)
    threading.Timer(2.0, pool.close).start()
    with pytest.raises(contract.PoolClosed):
      next(arrivals)


@pytest.mark.parametrize(
  'address, message',
  [
    ('localhost:1', 'nobody answers.*ray start --head'),
    ('localhost', "use 'host:port'"),
    ('ray://localhost:10001', "use 'host:port'"),
  ],
)
def test_a_bad_address_is_refused_at_once(address, message):
  with pytest.raises(ConnectionError, match=message):
    ray_machines.check_address(address)


@pytest.mark.parametrize(
  'machines, counts, roomiest, unbalanced',
  [
    ({}, {}, None, None),
    ({'a': 2.0}, {'a': 9}, 'a', None),
    ({'a': 2.0, 'b': 2.0}, {}, 'a', None),
    ({'a': 2.0, 'b': 2.0}, {'a': 1}, 'b', None),
    ({'a': 2.0, 'b': 2.0}, {'a': 2}, 'b', ('a', 'b')),
    ({'a': 2.0, 'b': 2.0}, {'a': 2, 'b': 1}, 'b', None),
    ({'a': 8.0, 'b': 2.0}, {'a': 5, 'b': 1}, 'a', None),
    ({'a': 8.0, 'b': 2.0}, {'a': 2, 'b': 2}, 'a', ('b', 'a')),
  ],
)
def test_workers_go_where_there_is_room(machines, counts, roomiest, unbalanced):
  assert ray_machines.roomiest(machines, counts) == roomiest
  assert ray_machines.unbalanced(machines, counts) == unbalanced


def test_clocks_of_two_machines_are_compared():
  """The worker's clock is 100 seconds ahead; sending takes 0.1 and 0.3."""
  seat = ray_crew.Seat(None, None)
  place = ray_actor.Place('', '', 0)
  push = ray_actor.Computed(place, 0.0, {}, 101.1, 102.1)
  started, computed = seat.times(1.0, push, 2.4)
  assert computed - started == pytest.approx(1.0)
  assert 1.0 <= started and computed <= 2.4
  push = ray_actor.Computed(place, 0.0, {}, 111.0, 112.0)
  started, computed = seat.times(11.0, push, 12.0)  # Took no time at all.
  assert (started, computed) == pytest.approx((11.0, 12.0))
