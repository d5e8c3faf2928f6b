"""Workers on a virtual clock: real gradients, simulated seconds."""

import concurrent.futures
import dataclasses
import heapq
import itertools
import os

import jax

from stale_adam import clock as clock_lib
from stale_adam.server import Push, Work


@dataclasses.dataclass(order=True)
class _Flight:
  """A gradient between its pull and its push, ordered by arrival."""

  seconds: float
  number: int  # Of equal arrivals, the first sent comes first.
  worker: int = dataclasses.field(compare=False)
  work: Work = dataclasses.field(compare=False)
  result: concurrent.futures.Future | None = dataclasses.field(
    default=None, compare=False
  )


class Virtual:
  """A pool whose order of arrivals a virtual clock decides.

  A gradient depends on its snapshot alone, and its arrival is known as soon as
  it is sent. So the next arrivals are computed on several host threads at once,
  while results, order and virtual seconds stay the same for any number of them.

  Args:
    clock: how long everything takes; equal workers that take one second a
      batch by default.
    threads: gradients computed at a time; one a processor by default. Use it
      in a `with` statement, or `close` it, to end them.
  """

  def __init__(
    self, clock: clock_lib.Clock | None = None, threads: int | None = None
  ):
    self.clock = clock_lib.Clock() if clock is None else clock
    self.seconds = 0.0  # The server's present.
    self._version = 0
    self._numbers = itertools.count()
    self._flights: list[_Flight] = []
    self._threads = threads or os.cpu_count() or 1
    self._executor = concurrent.futures.ThreadPoolExecutor(self._threads)

  def send(self, worker: int, work: Work) -> None:
    """Hands a worker its work, at the server's present.

    Raises:
      ValueError: if the worker has work already: the pool served another run.
    """
    if any(flight.worker == worker for flight in self._flights):
      raise ValueError(
        f'worker {worker} is busy with another run: a pool serves one run, '
        'make a new one'
      )
    # The server was busy with the updates since the last reply.
    updates = work.version - self._version
    self.seconds += updates * self.clock.update_seconds
    self._version = work.version
    compute = sum(self.clock.compute(worker, i) for i in work.ids)
    away = self.clock.pull_seconds + compute + self.clock.push_seconds
    flight = _Flight(self.seconds + away, next(self._numbers), worker, work)
    heapq.heappush(self._flights, flight)

  def receive(self) -> Push:
    """Waits for the next arrival; raises whatever its worker raised."""
    for flight in heapq.nsmallest(2 * self._threads, self._flights):
      if flight.result is None:
        flight.result = self._executor.submit(_compute, flight.work)
    flight = heapq.heappop(self._flights)
    loss, gradient = flight.result.result()
    self.seconds = max(self.seconds, flight.seconds)
    work = flight.work
    return Push(
      flight.worker,
      work.snapshot.version,
      work.ids,
      self.seconds,
      loss,
      gradient,
    )

  def close(self) -> None:
    """Ends the threads; work in flight is dropped."""
    self._executor.shutdown(wait=True, cancel_futures=True)

  def __enter__(self) -> 'Virtual':
    return self

  def __exit__(self, *_) -> None:
    self.close()


def _compute(work: Work):
  return jax.block_until_ready(work.gradient(work.snapshot.params, work.ids))
