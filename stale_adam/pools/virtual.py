"""Workers on a virtual clock, or in a recorded order: real gradients."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import heapq
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from stale_adam import clock as clock_lib
from stale_adam import trace as trace_lib
from stale_adam.pools import contract
from stale_adam.worker import Push, Times, Work


@dataclasses.dataclass(order=True)
class _Flight:
  """A gradient between its pull and its push, ordered by arrival."""

  key: float  # Infinite: it never arrives.
  sent: int  # Of equal keys, the first sent comes first.
  seconds: float = dataclasses.field(compare=False)
  worker: int = dataclasses.field(compare=False)
  work: Work = dataclasses.field(compare=False)
  times: Times | None = dataclasses.field(compare=False)
  result: concurrent.futures.Future | None = dataclasses.field(
    default=None, compare=False
  )


class Virtual(contract.Pool):
  """A pool whose order of arrivals a virtual clock decides, or a trace.

  A push depends on its snapshot alone, and its arrival is known as soon as its
  work is sent. So the next arrivals are computed on several host threads at
  once; results, order and virtual seconds are the same for any number of them.

  Args:
    order: a clock, which says how long everything takes; equal workers that
      take one second a batch by default. Or a trace, whose workers arrive in
      its order at its seconds; `serve` ends with it.
    threads: gradients computed at a time; one a processor by default. Use the
      pool in a `with` statement, or `close` it, to end them.
    counterfactual: replay a trace's order whatever policy and seed it was
      recorded with; otherwise a run that differs is refused.
  """

  def __init__(
    self,
    order: clock_lib.Clock | trace_lib.Trace | None = None,
    threads: int | None = None,
    counterfactual: bool = False,
  ):
    self.seconds = 0.0  # The server's present.
    clock = clock_lib.Clock() if order is None else order
    self._arrivals: _Recorded | _Clocked
    if isinstance(clock, trace_lib.Trace):
      self._arrivals = _Recorded(clock, counterfactual)
    else:
      self._arrivals = _Clocked(clock)
    self._closed = False
    self._restored: dict[int, Any] = {}  # Flights to be sent again.
    self._busy: set[int] = set()
    self._flights: list[_Flight] = []  # A heap, and of these those that
    self._waiting: list[_Flight] = []  # nobody computes yet.
    self._threads = threads or os.cpu_count() or 1
    self._executor = concurrent.futures.ThreadPoolExecutor(self._threads)

  def send(self, worker: int, work: Work) -> None:
    """Gives a worker its work, at the server's present."""
    if work.restart:
      self._abandon(worker)
    elif worker in self._busy:
      raise contract.busy(worker)
    self._busy.add(worker)
    if worker in self._restored:  # As it was sent at first.
      key, sent, seconds, times = self._restored.pop(worker)
      times = times and Times(*times)
      flight = _Flight(key, sent, seconds, worker, work, times)
    else:
      now = self.seconds
      self.seconds, flight = self._arrivals.flight(now, worker, work)
    heapq.heappush(self._flights, flight)
    heapq.heappush(self._waiting, flight)

  def receive(self) -> Push | None:
    """Waits for the next arrival; None at the end of a trace.

    Raises:
      PoolClosed: if the pool is closed, now or while this waits.
      ValueError: if the worker that the trace names has no work, or pulled
        another version than it did when the trace was recorded.
    """
    if self._closed:
      raise contract.PoolClosed()
    if self._arrivals.ended(self._flights):
      return None
    # The next to arrive must be computed, and some after it may be.
    while self._waiting and self._waiting[0].key < math.inf:
      computing = len(self._flights) - len(self._waiting)
      due = self._waiting[0] is self._flights[0]
      if computing >= 2 * self._threads and not due:
        break
      flight = heapq.heappop(self._waiting)
      self._submit(flight)
    flight = heapq.heappop(self._flights)
    self._busy.discard(flight.worker)
    loss, message, memory = self._result(flight)
    self.seconds = max(self.seconds, flight.seconds)
    work = flight.work
    return Push(
      flight.worker,
      work.snapshot.version,
      work.ids,
      self.seconds,
      loss,
      message,
      memory,
      flight.times,
    )

  def paused(self) -> contextlib.AbstractContextManager[None]:
    """Does nothing: the virtual clock only advances with arrivals."""
    return contextlib.nullcontext()

  def state(self) -> dict[str, Any]:
    """The virtual time, and when everything in flight will arrive."""
    flights = {
      flight.worker: (flight.key, flight.sent, flight.seconds, flight.times)
      for flight in self._flights
      if flight.key < math.inf
    }
    return {
      'seconds': self.seconds,
      'flights': list(flights.items()),
      'arrivals': self._arrivals.state(),
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """Takes over virtual time and flights; the clock or trace must be equal."""
    self.seconds = state['seconds']
    self._restored = {worker: flight for worker, flight in state['flights']}
    places = [flight[0] for flight in self._restored.values()]
    self._arrivals.restore(state['arrivals'], places)

  def close(self) -> None:
    """Ends the threads; work in flight is dropped."""
    self._closed = True
    self._executor.shutdown(wait=True, cancel_futures=True)

  def _abandon(self, worker: int) -> None:
    """Forgets what a worker has; what is under way is computed in vain."""
    (flight,) = [f for f in self._flights if f.worker == worker]
    for heap in (self._flights, self._waiting):
      heap[:] = [f for f in heap if f is not flight]
      heapq.heapify(heap)
    if flight.result is not None:
      flight.result.cancel()
    self._arrivals.abandoned(flight)

  def _submit(self, flight: _Flight) -> None:
    """Has a flight computed; another thread may close the pool meanwhile."""
    try:
      flight.result = self._executor.submit(_compute, flight.work)
    except RuntimeError:
      if not self._closed:
        raise
      raise contract.PoolClosed() from None

  def _result(self, flight: _Flight) -> tuple[Any, Any, Any]:
    """Waits for a flight; raises what its worker raised."""
    assert flight.result is not None  # It was due.
    try:
      return flight.result.result()
    except concurrent.futures.CancelledError:
      if not flight.result.cancelled():  # Its worker raised it.
        raise
      raise contract.PoolClosed() from None


class Dry(Virtual):
  """The arrivals of `Virtual`, whose workers compute nothing.

  For `compiled.decisions.dry`: every loss is 0, every message empty.
  """

  def _submit(self, flight: _Flight) -> None:
    pass

  def _result(self, flight: _Flight) -> tuple[Any, Any, Any]:
    return 0.0, {}, None


class _Clocked:
  """Arrivals as a clock decides them, without an end."""

  def __init__(self, clock: clock_lib.Clock):
    self._clock = clock
    self._version = 0
    self._sent = 0

  def flight(
    self, now: float, worker: int, work: Work
  ) -> tuple[float, _Flight]:
    """The time after any update since the last reply, and the work's flight."""
    clock = self._clock
    # The server was busy with the updates since the last reply.
    now += (work.version - self._version) * clock.update_seconds
    self._version = work.version
    compute = sum(clock.compute(worker, batch_id) for batch_id in work.ids)
    started = now + clock.pull_seconds
    computed = started + compute
    push = clock.push_seconds * work.share
    arrived = now + (clock.pull_seconds + compute + push)
    times = Times(now, started, computed, arrived)
    self._sent += 1
    return now, _Flight(arrived, self._sent, arrived, worker, work, times)

  def abandoned(self, flight: _Flight) -> None:
    pass

  def state(self) -> list[int]:
    return [self._version, self._sent]

  def restore(self, state: Sequence[int], places: Sequence[float]) -> None:
    del places
    self._version, self._sent = state

  def ended(self, flights: list[_Flight]) -> bool:
    return False


class _Recorded:
  """Arrivals as a trace recorded them, until it ends."""

  def __init__(self, trace: trace_lib.Trace, counterfactual: bool):
    self._trace, self._unchecked = trace, not counterfactual
    # Staleness follows from these and the order.
    self._versions = None
    if not counterfactual:
      self._versions = trace.columns.get('pulled_version')
    self._next = 0  # Arrival.
    self._places: collections.defaultdict[int, collections.deque[int]] = (
      collections.defaultdict(collections.deque)
    )
    for place, worker in enumerate(trace.worker.tolist()):
      self._places[worker].append(place)

  def flight(
    self, now: float, worker: int, work: Work
  ) -> tuple[float, _Flight]:
    """The time as it is, and the work's flight: endless if not recorded."""
    if self._unchecked:
      self._trace.check_replay(work.settings)
      self._unchecked = False
    if not self._places[worker]:
      return now, _Flight(math.inf, worker, math.inf, worker, work, None)
    place = self._places[worker].popleft()
    seconds = float(self._trace.seconds[place])
    return now, _Flight(place, place, seconds, worker, work, None)

  def abandoned(self, flight: _Flight) -> None:
    """The worker's next arrival is that of its next work."""
    if flight.key < math.inf:
      self._places[flight.worker].appendleft(int(flight.key))

  def state(self) -> list[int]:
    return [self._next]

  def restore(self, state: Sequence[int], places: Sequence[float]) -> None:
    (self._next,), flying = state, set(places)
    for worker, left in self._places.items():
      self._places[worker] = collections.deque(
        place for place in left if place >= self._next and place not in flying
      )

  def ended(self, flights: list[_Flight]) -> bool:
    place, self._next = self._next, self._next + 1
    if place >= len(self._trace.worker):
      return True
    if not flights or flights[0].key != place:
      raise trace_lib.infeasible(
        place, int(self._trace.worker[place]), [f.worker for f in flights]
      )
    if self._versions is not None:
      recorded, here = self._versions[place], flights[0].work.snapshot.version
      if recorded != here:
        raise trace_lib.differing(place, 'pulled_version', recorded, here)
    return False


def _compute(work: Work) -> tuple[Any, Any, Any]:
  params = work.snapshot.params
  return jax.block_until_ready(work.compute(params, work.ids, work.memory))
