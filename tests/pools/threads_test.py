"""Host threads: errors, interrupts, pauses, and the all-reduce."""

import gc
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import stale_adam as sa
from stale_adam import policy, server, update, worker

SGD = optax.sgd(0.1)  # One for all tests: it is a key of jit's cache.


def threads_alive():
  """Threads of ours, beside those of the libraries."""
  return [t for t in threading.enumerate() if t.name.startswith('stale_adam')]


@pytest.mark.parametrize('numbers', [(4,), (4, 2, 2), (4, 1, 1, True)], ids=str)
@pytest.mark.parametrize('fails', [0, 9])
def test_a_worker_that_raises_ends_the_run_with_its_traceback(
  linear, numbers, fails
):
  """At once, whether it compiles or computes; and no thread is left."""

  def batch(number):
    if number == fails:
      raise OSError(f'batch {number} cannot be read')
    return linear.batch(number)

  numbers = sa.Communication(*numbers)
  with (
    sa.pools.Threads() as pool,
    pytest.raises(OSError, match='cannot be read') as caught,
  ):
    for push, _ in sa.serve(linear._replace(batch=batch), SGD, numbers, pool):
      assert max(push.ids) < 40, 'the error was swallowed'
  frames = [f.name for f in traceback.extract_tb(caught.value.__traceback__)]
  assert frames[-1] == 'batch' and '_compute' in frames
  assert not threads_alive()


def test_a_closed_pool_says_so(linear):
  with sa.pools.Threads() as pool:
    arrivals = sa.serve(linear, SGD, sa.Communication(2), pool)
    next(arrivals)
  with pytest.raises(ValueError, match='closed: make a new one'):
    next(arrivals)
  assert not threads_alive()


class Counted(queue.SimpleQueue):
  """Arrivals that can be waited for without being received."""

  def __init__(self):
    self.arrived = threading.Semaphore(0)

  def put(self, item):
    super().put(item)
    self.arrived.release()


def test_evaluation_stops_the_clock_and_adds_no_staleness(toy, monkeypatch):
  """All workers arrive meanwhile; the version that they meet has not moved."""
  monkeypatch.setattr(queue, 'SimpleQueue', Counted)
  with sa.pools.Threads() as pool:
    arrivals = sa.serve(toy, SGD, sa.Communication(4), pool)
    pushes = [push for push, _ in itertools.islice(arrivals, 20)]
    with pool.paused():
      before = pool._clock.seconds()
      for _ in range(4 + 20 + 4):  # Once for nothing on each device.
        assert pool._threads.arrivals.arrived.acquire(timeout=60)
      assert pool._clock.seconds() == before
    after = [push for push, _ in itertools.islice(arrivals, 4)]
  assert sorted(p.worker for p in after) == [0, 1, 2, 3]
  assert max(p.times.arrived for p in after) <= before
  in_force = [p.pulled_version + p.staleness for p in pushes + after]
  assert in_force == [*range(24)]


@pytest.mark.parametrize('workers, local', [(2, 1), (4, 1), (3, 3)])
def test_the_all_reduce_is_the_servers_sum(toy, workers, local):
  """One program over all devices, against one gradient after another."""
  key, params = jax.random.key(5), toy.init(None)
  compute = worker.Gradient(toy, key)
  ids = np.arange(workers * local).reshape(workers, local).tolist()
  vector, unravel = jax.flatten_util.ravel_pytree(params)
  losses, total = compute.over(jax.devices()[:workers], params)(vector, ids)
  state = server.init(SGD, params)
  expected = [compute(params, numbers) for numbers in ids]
  for _, gradient in expected[:-1]:
    push = worker.Push(0, 0, (), 0.0, None, gradient)
    state = server.apply(state, push, policy.Decision(), SGD)
  summed = jax.tree.map(jnp.add, state.accumulator, expected[-1][1])
  assert reference.distance(unravel(total), summed) < 1e-6
  np.testing.assert_array_equal(losses, [loss for loss, _ in expected])


def test_synchronous_workers_send_one_gradient(toy, monkeypatch):
  """The last push brings the sum: the server adds up nothing."""
  sums = []
  monkeypatch.setattr(update, 'add', lambda *a: sums.append(a))
  numbers = sa.Communication(4, synchronous=True)
  with sa.pools.Threads() as pool:
    arrivals = sa.serve(toy, SGD, numbers, pool)
    pushes = [push for push, _ in itertools.islice(arrivals, 12)]
  assert not sums
  assert [p.worker for p in pushes] == 3 * [0, 1, 2, 3]
  assert [p.staleness for p in pushes] == 12 * [0]


def test_the_server_may_have_a_device_of_its_own(toy):
  device = jax.devices()[3]
  with sa.pools.Threads(jax.devices()[:3]) as pool:
    arrivals = sa.serve(toy, SGD, sa.Communication(3), pool, device=device)
    pushes, states = zip(*itertools.islice(arrivals, 20), strict=True)
  leaves = jax.tree.leaves((states[-1].params, states[-1].optimizer_state))
  assert all(leaf.devices() == {device} for leaf in leaves)
  run = sa.simulate(
    toy, SGD, sa.Communication(3), sa.Trace.of(pushes), devices=[device]
  )
  jax.tree.map(np.testing.assert_array_equal, run.params, states[-1].params)


PROGRAM = """
import jax
jax.config.update('jax_num_cpu_devices', 2)
import jax.numpy as jnp
import stale_adam as sa
problem = sa.Problem(
  lambda key: jnp.zeros(3), lambda p, b, key: jnp.sum((p - b) ** 2),
  lambda number: jnp.ones(3),
)
pool = sa.pools.Threads()
arrivals = sa.serve(problem, sa.adam(1e-3), sa.Communication(2), pool)
for i, _ in enumerate(arrivals):
  if i == 50:
    print('running', flush=True)
  if i == LAST:
    break
"""


def program(last):
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  return subprocess.Popen(
    [sys.executable, '-c', PROGRAM.replace('LAST', str(last))],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.slow
def test_a_program_may_end_without_closing_the_pool():
  run = program(60)
  _, errors = run.communicate(timeout=60)
  assert (run.returncode, errors) == (0, '')


def test_an_interrupt_ends_the_program():
  run = program(-1)
  assert run.stdout.readline() == 'running\n'
  run.send_signal(signal.SIGINT)
  _, errors = run.communicate(timeout=60)
  assert run.returncode == -signal.SIGINT
  assert errors.rstrip().endswith('KeyboardInterrupt')


def test_a_pool_that_nobody_holds_ends_its_threads(linear):
  pool = sa.pools.Threads(jax.devices()[:2])
  arrivals = sa.serve(linear, SGD, sa.Communication(2), pool)
  next(arrivals)
  del pool, arrivals
  gc.collect()
  assert not threads_alive()


class Sealed(Exception):
  """Takes no notes."""

  def add_note(self, note):
    raise TypeError('sealed')


def test_an_error_that_takes_no_notes_ends_the_run_too(linear):
  def batch(number):
    if number == 5:
      raise Sealed('batch 5')
    return linear.batch(number)

  with sa.pools.Threads() as pool, pytest.raises(Sealed, match='batch 5'):
    broken = linear._replace(batch=batch)
    for push, _ in sa.serve(broken, SGD, sa.Communication(3), pool):
      assert max(push.ids) < 40, 'the error was swallowed'
