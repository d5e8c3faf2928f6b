"""Workers on a Ray cluster: an actor for each, on all of its machines."""

import collections
import contextlib
import dataclasses
import functools
import logging
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from stale_adam import checks
from stale_adam.pools import contract, ray_actor, ray_machines
from stale_adam.pools.ray_crew import Arguments, Crew
from stale_adam.pools.stopwatch import Stopwatch
from stale_adam.worker import Push, Times, Work

_TRIES = 3  # Times that the same work may be lost.
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class _Flight:
  """Work of a worker, until its push has arrived.

  Attributes:
    worker: whose.
    work: as the server sent it.
    pulled: when, by the pool's clock.
    params: reference to the snapshot's parameters.
    result: references to what an actor makes of it; None if none has it.
    since: the moment when an actor got it.
    lost: how often an actor was lost with it.
  """

  worker: int
  work: Work
  pulled: float
  params: Any
  result: Any = None
  since: float = 0.0
  lost: int = 0


class Ray(contract.Pool):
  """A pool whose workers are actors of a Ray cluster, as they finish.

  Every version of the parameters is put into the object store once; a machine
  fetches it once for all of its workers. A worker's memory goes back to it as a
  reference: it is on its machine already. A copy comes with the push, so that
  it survives the machine.

  A worker that is lost, with its process or its machine, or that takes longer
  than `timeout_seconds`, is replaced: its work, the same batches at the same
  snapshot, is handed to a new actor. So every batch counts once, and the
  version that a push meets tells how stale it is, as ever. Machines that join
  take over workers of those that have more than their share.

  Each machine has workers in proportion to its CPUs, or to its GPUs if the
  cluster has any. The clock starts with the first update, when everything is
  compiled. Synchronous workers send their gradients one by one.

  A run's trace replays it, on CPUs of one kind bit for bit.

  Args:
    address: 'host:port' of the cluster's head; 'auto' finds one that this
      machine is part of; None starts Ray on this machine alone. If this process
      is connected to a cluster, it is used.
    timeout_seconds: how long a worker may take for its work, compilation
      included. None: any time.
    gpus_per_worker: GPUs that a worker gets, also a part of one, if the cluster
      has any. Each machine that is lost takes its GPUs along: its workers wait
      for others to be free.

  Raises:
    ImportError: if Ray is not installed.
    ConnectionError: if there is no cluster at the address.
    ValueError: if an argument is out of range.

  Source: Moritz et al. (2018), "Ray: A Distributed Framework for Emerging AI
  Applications".
  """

  def __init__(
    self,
    address: str | None = None,
    timeout_seconds: float | None = None,
    gpus_per_worker: float = 1.0,
  ):
    longest = threading.TIMEOUT_MAX
    if timeout_seconds is not None and not 0 < timeout_seconds <= longest:
      raise ValueError(
        f'timeout_seconds={timeout_seconds}: give a positive number of seconds '
        f'up to {longest:.0f}, or None to wait for any time'
      )
    checks.real('gpus_per_worker', gpus_per_worker, above=True)
    self._ray = ray_machines.connect(address)
    self._crew = Crew(self._ray, gpus_per_worker)
    self._timeout_seconds = timeout_seconds
    self._clock = Stopwatch()
    self._compiled = False
    self._closed = False
    self._flights: dict[int, _Flight] = {}  # By busy worker.
    self._params: tuple[Any, Any] = (None, None)  # The last ones, reference.
    self._memories: dict[int, tuple[Any, Any]] = {}  # Likewise, by worker.
    # Filled by threads of Ray's: (flight, result, moment, future).
    self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
    self._arrived: collections.deque[Any] = collections.deque()

  def send(self, worker: int, work: Work) -> None:
    """Gives a worker its work once the snapshot has been computed."""
    before = self._flights.get(worker)
    if before is not None:
      if not work.restart:
        raise contract.busy(worker)
      self._abandon(before)
    self._clock.start(work.version)
    params = self._reference(work.snapshot.params)
    flight = _Flight(worker, work, self._clock.seconds(), params)
    self._flights[worker] = flight
    if self._compiled:
      self._submit(flight)

  def receive(self) -> Push:
    """Waits for the next arrival; raises what its worker raised.

    Raises:
      PoolClosed: if the pool is closed, now or while this waits.
      WorkerLost: if a worker cannot start, or the same work was lost three
        times. Nothing else is lost: the last server can be resumed in a new
        pool.
    """
    if not self._compiled:
      with self.paused():
        self._try()
    push = self._push()
    del self._flights[push.worker]
    self._crew.look(self._busy)
    return push._replace(seconds=self._clock.seconds())

  def paused(self) -> contextlib.AbstractContextManager[None]:
    """Stops the clock, for example while parameters are evaluated.

    Workers finish what they have and wait. Nothing becomes staler, since no
    update is made.
    """
    return self._clock.paused()

  def state(self) -> dict[str, Any]:
    """The clock; what is in flight has no state of its own."""
    return self._clock.state()

  def restore(self, state: Mapping[str, Any]) -> None:
    """Sets the clock; it runs when everything is compiled again."""
    self._clock.restore(state)

  def shown(self) -> dict[str, str]:
    """Workers that live, for the progress bar."""
    seats = self._crew.seats.values()
    live = sum(seat.place is not None for seat in seats)
    return {'live workers': f'{live}/{len(seats)}'}

  def close(self) -> None:
    """Ends the actors; work in flight is dropped. The connection remains."""
    self._closed = True
    self._queue.put(None)  # For whoever waits.
    self._crew.close()

  def _try(self) -> None:
    """Runs everything once, unused, before the first work goes out.

    Otherwise the first worker to be ready would push alone for a while.
    """
    flights = [*self._flights.values()]
    self._crew.check_room(len(flights))
    for flight in flights:
      self._submit(flight)
    for _ in flights:
      self._push()
    self._compiled = True
    for flight in flights:
      self._submit(flight)

  def _push(self) -> Push:
    """The next arrival; replaces workers that are lost before it."""
    while True:
      flight, result, moment, future = self._next()
      worker = flight.worker
      if self._flights.get(worker) is not flight or flight.result is not result:
        continue  # Abandoned, or given to another actor since.
      try:
        computed = future.result()
        memory = self._ray.get(result[1])
      except self._ray.exceptions.RayError as error:
        self._failed(flight, error)
        continue
      flight.result = None
      self._memories[worker] = memory, result[1]
      return self._made(flight, computed, memory, moment)

  def _made(
    self,
    flight: _Flight,
    computed: ray_actor.Computed,
    memory: Any,
    moment: float,
  ) -> Push:
    """The push of what an actor computed, on the server's device."""
    seat, work = self._crew.seats[flight.worker], flight.work
    if seat.place is None:
      _LOG.info('worker %d is on %s', flight.worker, computed.place)
    seat.place = computed.place
    moments = *seat.times(flight.since, computed, moment), moment
    seconds = [self._clock.seconds(m) for m in moments]
    times = Times(flight.pulled, *(max(flight.pulled, s) for s in seconds))
    (home,) = jax.tree.leaves(work.snapshot.params)[0].devices()
    with jax.default_device(home):
      own = _copy((computed.loss, computed.message))
    loss, message = jax.device_put(own, home)  # Bound to it, not moved.
    return Push(
      flight.worker,
      work.snapshot.version,
      work.ids,
      times.arrived,
      loss,
      message,
      memory,
      times,
    )

  def _next(self) -> tuple[_Flight, Any, float, Any]:
    """Waits for a future that is done; replaces workers that are late."""
    while True:
      with contextlib.suppress(queue.Empty):
        while True:
          self._arrived.append(self._queue.get_nowait())
      if self._closed:
        raise contract.PoolClosed()
      # Before every arrival: others may arrive for ever while one hangs.
      wait = self._timeout_seconds and self._remaining(self._timeout_seconds)
      if self._arrived:
        return self._arrived.popleft()
      with contextlib.suppress(queue.Empty):
        self._arrived.append(self._queue.get(timeout=wait))

  def _remaining(self, timeout_seconds: float) -> float:
    """Seconds until the next worker is late; replaces those that are."""
    arrived = {id(flight) for flight, *_ in filter(None, self._arrived)}
    now, soonest = time.monotonic(), timeout_seconds
    for flight in [*self._flights.values()]:
      if flight.result is None or id(flight) in arrived:
        continue
      remaining = flight.since + timeout_seconds - now
      if remaining <= 0:
        self._lost(flight, f'no push for {timeout_seconds} seconds')
      else:
        soonest = min(soonest, remaining)
    return soonest

  def _failed(self, flight: _Flight, error: Exception) -> None:
    """Replaces a worker that was lost; raises what it raised itself."""
    if isinstance(error, self._ray.exceptions.RayTaskError):
      raise self._raised(flight, error) from None
    if getattr(error, 'actor_init_failed', False):
      raise contract.WorkerLost(
        f'worker {flight.worker} cannot start on '
        f'{self._crew.where(flight.worker)}: '
        f'{str(error).strip().splitlines()[-1]}'
      ) from None
    self._lost(flight, ray_actor.first_line(error))

  def _raised(self, flight: _Flight, error: Any) -> BaseException:
    """What was raised on a worker, as if it had been raised here."""
    cause: BaseException = getattr(error, 'cause', None) or error
    place = self._crew.where(flight.worker)
    with contextlib.suppress(Exception):  # Some refuse to be changed.
      cause.add_note(f'raised by worker {flight.worker} on {place}')
    return cause

  def _lost(self, flight: _Flight, reason: str) -> None:
    """Hands the work of a lost worker to a new one.

    Raises:
      WorkerLost: if that was done with this work too often.
    """
    flight.lost += 1
    where = self._crew.where(flight.worker)
    self._crew.lose(flight.worker)
    self._memories.pop(flight.worker, None)  # It was there.
    if flight.lost == _TRIES:
      raise contract.WorkerLost(
        f'worker {flight.worker} was lost {_TRIES} times with the same work, '
        f'last on {where}: {reason}. Mend what ends or stops its process '
        '(memory? a machine?); resume the last server in a new pool'
      )
    _LOG.warning(
      'worker %d on %s is lost (%s); its work goes to a new one',
      flight.worker,
      where,
      reason,
    )
    self._submit(flight)

  def _submit(self, flight: _Flight) -> None:
    """Gives a flight to the worker's actor."""
    arguments = self._arguments(flight)
    start = flight.worker, flight.work.compute, arguments
    flight.result = result = self._crew.start(*start)
    flight.since = time.monotonic()
    done = functools.partial(_done, self._queue, flight, result)
    result[0].future().add_done_callback(done)

  def _arguments(self, flight: _Flight) -> Arguments:
    """What an actor computes with; arrays as references."""
    work, memory = flight.work, None
    if jax.tree.leaves(work.memory):
      known, memory = self._memories.get(flight.worker, (None, None))
      if known is not work.memory:
        memory = self._ray.put(ray_actor.on_host(work.memory))
        self._memories[flight.worker] = work.memory, memory
    return flight.params, list(work.ids), memory

  def _busy(self) -> dict[int, Arguments]:
    """What actors compute with now, by worker."""
    return {w: self._arguments(flight) for w, flight in self._flights.items()}

  def _abandon(self, flight: _Flight) -> None:
    """Cancels work, unless it is being computed."""
    if flight.result is not None:
      with contextlib.suppress(self._ray.exceptions.RayError):
        self._ray.cancel(flight.result[0])

  def _reference(self, params: Any) -> Any:
    """The reference to parameters, which are put into the store once."""
    if self._params[0] is not params:
      jax.block_until_ready(params)
      self._params = params, self._ray.put(ray_actor.on_host(params))
    return self._params[1]


@jax.jit
def _copy(tree: Any) -> Any:
  """Arrays of their own: what arrives is shared, and a server reuses memory."""
  return jax.tree.map(jnp.copy, tree)


def _done(
  arrivals: queue.SimpleQueue[Any], flight: _Flight, result: Any, future: Any
) -> None:
  """Called by a thread of Ray's. It knows nothing of the pool."""
  arrivals.put((flight, result, time.monotonic(), future))
