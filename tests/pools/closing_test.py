"""Pools that are closed, that hang, and whose process ends; unreliable workers.

What is injected is that of experiments.benchmarks.faults, which does the same
more often.
"""

import threading

import jax
import pytest

import stale_adam as sa
from experiments.benchmarks.injected import closes, exits, pushes, toys
from stale_adam.pools import contract

WORKERS = [1, 4]


@pytest.mark.slow
@pytest.mark.parametrize('name', closes.POOLS)
@pytest.mark.parametrize('workers', WORKERS)
def test_serve_ends_with_one_error_when_its_pool_is_closed(name, workers):
  """At any moment, by one thread or by two at once; and no thread is left."""
  row = closes.closes(name, workers, 300, seed=workers)
  assert (row.tried, row.failed, row.lost) == (300, 0, 'nothing')


@pytest.fixture(autouse=True)
def others_have_ended():
  """No thread of another test is taken for one that this test left."""
  for thread in closes.threads_left():
    thread.join(60)


@pytest.mark.parametrize('name', closes.POOLS)
def test_a_pool_is_closed_before_its_first_arrival_and_twice(name):
  pool = closes.POOLS[name]()
  arrivals = sa.serve(toys.LINEAR, toys.SGD, sa.Communication(2), pool)
  pool.close()
  pool.close()
  with pytest.raises(contract.PoolClosed):
    next(arrivals)
  assert not closes.threads_left()


@pytest.mark.parametrize('name', closes.POOLS)
def test_work_that_is_sent_after_the_close_is_dropped(name):
  """Between an arrival and its answer, as another thread may close."""
  with closes.POOLS[name]() as pool:
    numbers = sa.Communication(2)

    class Closing(sa.Communication):
      def decide(self, arrival):
        pool.close()
        return numbers.decide(arrival)

    arrivals = sa.serve(toys.LINEAR, toys.SGD, Closing(2), pool)
    push, server = next(arrivals)
    assert server.held.keys() == {0, 1} and push.worker in (0, 1)
    with pytest.raises(contract.PoolClosed):
      next(arrivals)
  assert not closes.threads_left()


@pytest.mark.slow
@pytest.mark.parametrize('share', [0.0, 0.02])
def test_no_push_of_unreliable_workers_is_lost_or_used_twice(share):
  """Whether they raise or only come late and send NaN."""
  row = pushes.row(3000, seed=1, raises=share)
  assert (row.tried, row.failed, row.lost) == (3000, 0, 'no push')
  assert ('(0 times)' in row.fault) == (share == 0)
  assert 'send NaN (0)' not in row.fault


@pytest.mark.parametrize('unclean', ['lost', 'twice', 'left'])
def test_a_lost_push_would_be_noticed(unclean, monkeypatch):
  """The laws that hold above can fail."""
  serve = pushes.serve

  def broken(*arguments):
    ids, trace, server = serve(*arguments)
    if unclean == 'lost':
      ids = ids[1:]
    if unclean == 'twice':
      ids[-1] = ids[0]
    if unclean == 'left':
      thread = threading.Thread(target=gate.wait, name='stale_adam device 9')
      thread.start()
    return ids, trace, server

  gate = threading.Event()
  monkeypatch.setattr(pushes, 'serve', broken)
  row = pushes.row(50, 0)
  gate.set()
  left = unclean == 'left'
  wanted = 'threads are left' if left else 'a batch was lost or used twice'
  assert row.failed and wanted in row.lost


@pytest.mark.slow
@pytest.mark.parametrize(
  'how, kind',
  [
    ('return', 'Threads'),
    ('SIGINT', 'Threads'),
    ('return', 'Virtual'),
  ],
)
def test_a_process_ends_while_its_threads_compile(how, kind):
  assert exits.end(how, kind, 0.3) is None


@pytest.mark.slow
def test_a_worker_that_hangs_is_named():
  """With the place where it hangs; the last server goes on in a new pool."""
  gate, numbers = threading.Event(), sa.Communication(4)

  def batch(number):
    if number == 30:
      gate.wait()
    return toys.LINEAR.batch(number)

  problem = toys.LINEAR._replace(batch=batch)
  devices = jax.devices()[:4]
  with sa.pools.Threads(devices) as warm:  # Compilation counts, too.
    next(sa.serve(toys.LINEAR, toys.SGD, numbers, warm))
  with sa.pools.Threads(devices, timeout_seconds=2.0) as pool:
    with pytest.raises(contract.WorkerHangs, match=r'is in wait \(') as found:
      ids = []
      for push, after in sa.serve(problem, toys.SGD, numbers, pool):
        ids += push.ids
        server = after
        assert len(ids) < 10**6, 'the others went on without it'
    (hung,) = [w for w, held in server.held.items() if list(held.ids) == [30]]
    assert found.value.workers == [hung]
    assert f'worker {hung} has computed for' in str(found.value)
    gate.set()
  assert 30 not in ids
  with sa.pools.Threads(devices) as pool:
    again = sa.serve(problem, toys.SGD, numbers, pool, resume=server)
    for push, after in again:
      ids += push.ids
      server = after
      if 30 in push.ids:
        break
  flying = [i for held in server.held.values() for i in held.ids]
  assert sorted([*ids, *flying]) == [*range(server.next_id)]
  assert not closes.threads_left()


@pytest.mark.parametrize('seconds', [0, -1.0, float('nan'), float('inf'), 1e30])
def test_a_time_out_is_a_number_of_seconds(seconds):
  with pytest.raises(ValueError, match='timeout_seconds=.*positive number'):
    sa.pools.Threads(timeout_seconds=seconds)
  assert not closes.threads_left()
