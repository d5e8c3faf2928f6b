"""Workers and machines of a Ray cluster that are killed, stopped and added.

The cluster is of several machines on this one. Every row trains on gradients
that are whole numbers, so that sums are exact in any order, and holds the run
against three laws: every batch arrives once or is in flight; parameters and sum
are those of the pushes; the trace replays to the same bits.
"""

import collections
import contextlib
import functools
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stale_adam as sa
from experiments.benchmarks.injected import Row, toys

NUMBERS = sa.Communication(4, global_accumulation=3)
_BATCH_SECONDS = 0.02  # That a worker computes.
_SENT = 4_000_000  # Elements of a message that takes time to send.
_HANGS_SECONDS = 20.0  # The time-out of workers that are stopped.


def _slow(number: int) -> np.ndarray:
  time.sleep(_BATCH_SECONDS)
  return toys.LINEAR.batch(number)


SLOW = toys.LINEAR._replace(batch=_slow)


def _sum(params: Any, batch: Any, key: Any) -> jax.Array:
  del key
  return jnp.sum(params) * batch[1]


LARGE = sa.Problem(lambda key: jnp.zeros(_SENT), _sum, toys.LINEAR.batch)


class Cluster:
  """Machines on this one; the server's has no room for workers."""

  def __init__(self) -> None:
    import ray
    from ray.cluster_utils import Cluster as Machines

    os.environ |= {'RAY_AUTH_MODE': 'disabled', 'RAY_USAGE_STATS_ENABLED': '0'}
    head = {'num_cpus': 0, 'object_store_memory': 2**29}
    self._made = Machines(initialize_head=True, head_node_args=head)
    self.machines = [self.join() for _ in range(2)]
    ray.init(
      address=self._made.address, logging_level='error', log_to_driver=False
    )

  def join(self) -> Any:
    """One more machine."""
    return self._made.add_node(num_cpus=2, object_store_memory=2**29)

  def replace(self) -> None:
    """Kills a machine, and has another one join."""
    self._made.remove_node(self.machines.pop(0), allow_graceful=False)
    self.machines.append(self.join())

  def close(self) -> None:
    import ray

    ray.shutdown()
    self._made.shutdown()


class _Run:
  """A run that faults are injected into, and what it has come to."""

  def __init__(self, problem: sa.Problem, pool: Any):
    self.problem, self.pool = problem, pool
    self.ids: list[int] = []
    self.parts: list[sa.Trace] = []
    self._pushes: list[Any] = []
    self._arrivals = sa.serve(problem, toys.SGD, NUMBERS, pool)
    self.server: Any = None

  def until(self, arrived: Callable[[Any], bool], most: int = 10**6) -> float:
    """Trains until such a push arrives: seconds that this took."""
    began = time.monotonic()
    for push, server in self._arrivals:
      self.server = server
      self.ids += push.ids
      self._pushes.append(push)
      if len(self._pushes) == 500:
        self._keep()
      most -= 1
      if arrived(push) or not most:
        return time.monotonic() - began
    raise AssertionError('the run ended')

  def _keep(self) -> None:
    if self._pushes:
      self.parts.append(sa.Trace.of(jax.device_get(self._pushes)))
      self._pushes = []

  def broken(self) -> list[str]:
    """The laws that do not hold."""
    self._keep()
    found, server, trace = [], self.server, sa.Trace.joined(self.parts)
    flying = [i for held in server.held.values() for i in held.ids]
    counted = collections.Counter([*self.ids, *flying])
    lost = server.next_id - len(counted)
    doubled = sum(counted.values()) - len(counted)
    if lost or doubled:
      found.append(f'{lost} pushes lost, {doubled} doubled')
    plain = self.problem._replace(batch=toys.LINEAR.batch)
    again = sa.simulate(
      plain, toys.SGD, NUMBERS, trace, devices=jax.devices()[:1]
    )
    same = np.array_equal(again.params, server.params) and np.array_equal(
      again.staleness, trace.columns['staleness']
    )
    if not same:
      found.append('the trace does not replay')
    if self.problem is SLOW:
      expected = sum(toys.LINEAR.batch(i) for i in self.ids)
      summed = 0.0 if server.accumulator is None else server.accumulator
      if not np.array_equal(summed - server.params, expected):
        found.append('the sum is not that of the pushes')
    return found


def _kill(run: _Run, worker: int, number: int) -> None:
  """Sends a signal to a worker's process at a random moment of its work."""
  time.sleep(random.uniform(0.0, 2 * _BATCH_SECONDS))
  with contextlib.suppress(ProcessLookupError):
    os.kill(run.pool._crew.seats[worker].place.process, number)


def _placed(run: _Run) -> bool:
  seats = run.pool._crew.seats
  return len(seats) == NUMBERS.workers and all(s.place for s in seats.values())


def _row(
  fault: str,
  times: int,
  problem: sa.Problem,
  inject: Callable[[_Run], Callable[[Any], bool]],
  timeout_seconds: float | None = None,
) -> Row:
  """Injects a fault so many times into one run.

  Args:
    fault: its name.
    times: how often.
    problem: what is trained.
    inject: injects it, and returns which push is the first of those affected.
    timeout_seconds: of the pool.
  """
  seconds = []
  with sa.pools.Ray(timeout_seconds=timeout_seconds) as pool:
    run = _Run(problem, pool)
    run.until(lambda push: len(run.ids) > 20)
    for _ in range(times):
      run.until(lambda push: _placed(run))
      seconds.append(run.until(inject(run)))
    run.until(lambda push: False, most=20)
    broken = run.broken()
  median, most = np.median(seconds), max(seconds)
  cost = (
    f'no push lost, none doubled, of {len(run.ids):,}; '
    f'{median:.1f} s until the next push of the worker, {most:.1f} at most'
  )
  return Row(fault, times, len(broken), '; '.join(broken) or cost)


def rows(times: int, seed: int) -> Iterator[Row]:
  """Workers killed `times` times in two ways; a tenth as many others."""
  random.seed(seed)
  logging.getLogger('stale_adam').setLevel(logging.ERROR)
  few = max(1, times // 10)
  cluster = Cluster()

  def signalled(number: int, run: _Run) -> Callable[[Any], bool]:
    worker, seats = random.choice([*run.server.held]), run.pool._crew.seats
    before = seats[worker]
    _kill(run, worker, number)
    return lambda push: (
      push.worker == worker
      and seats[worker] is not before
      and seats[worker].place is not None
    )

  def machine(run: _Run) -> Callable[[Any], bool]:
    gone = cluster.machines[0].node_id
    seats = run.pool._crew.seats
    affected = {w for w, seat in seats.items() if seat.machine == gone}
    cluster.replace()
    return lambda push: all(
      w in seats and seats[w].place and seats[w].machine != gone
      for w in affected
    )

  kill = functools.partial(signalled, signal.SIGKILL)
  hang = functools.partial(signalled, signal.SIGSTOP)
  try:
    yield _row('SIGKILL of a worker that computes', times, SLOW, kill)
    yield _row('SIGKILL of a worker that sends 16 MB', times, LARGE, kill)
    yield _row('SIGSTOP of a worker', few, SLOW, hang, _HANGS_SECONDS)
    yield _row('a machine is lost, another one joins', few, SLOW, machine)
  finally:
    cluster.close()
