"""The actors of a run: who computes for which worker, and on which machine."""

import collections
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from stale_adam.pools import ray_actor, ray_machines

_LOOK_SECONDS = 5.0  # Between two looks for machines that have joined.
_LOG = logging.getLogger(__name__)

# References or values: parameters, batch ids, memory.
Arguments = tuple[Any, list[int], Any]


@dataclasses.dataclass(eq=False)
class Seat:
  """The actor that computes for a worker.

  Attributes:
    actor: Ray's handle.
    machine: where it was put; None if Ray was to decide.
    place: where it said that it is; None until its first push.
    earliest: the least that its clock may be ahead of the server's.
    latest: the most.
  """

  actor: Any
  machine: str | None
  place: ray_actor.Place | None = None
  earliest: float = -float('inf')
  latest: float = float('inf')

  def times(
    self, sent: float, computed: ray_actor.Computed, arrived: float
  ) -> tuple[float, float]:
    """When a push was started and computed, as moments of the server's clock.

    Clocks of two machines count from different moments. A push is started
    after it was sent, and arrives after it was computed: each one narrows down
    how far its machine's clock is ahead.
    """
    low, high = computed.computed - arrived, computed.started - sent
    self.earliest = max(self.earliest, low)
    self.latest = min(self.latest, high)
    if self.earliest > self.latest:  # The clocks have drifted apart.
      self.earliest, self.latest = low, high
    ahead = 0.0  # As on one machine.
    if not self.earliest <= ahead <= self.latest:
      ahead = (self.earliest + self.latest) / 2
    return computed.started - ahead, computed.computed - ahead


class Crew:
  """One actor for each worker, on the machines that have room.

  Args:
    ray: Ray's module, connected to a cluster.
    gpus_per_worker: as of `ray_cluster.Ray`.

  Attributes:
    seats: by worker.
    environment: what actors must have in common with this process.
  """

  def __init__(self, ray: Any, gpus_per_worker: float):
    self._ray, self._gpus_per_worker = ray, gpus_per_worker
    self.environment = ray_actor.Environment.here()
    self.seats: dict[int, Seat] = {}
    self._program: Any = None
    self._moving: dict[int, tuple[Seat, Any]] = {}  # Next seat, its trial.
    self._looked = time.monotonic()

  def check_room(self, workers: int) -> None:
    """Check that the cluster has the GPUs that so many workers need.

    Raises:
      ValueError: if it has some, but not enough.
    """
    gpus, wanted = self._gpus(), workers * self._gpus_per_worker
    if gpus and wanted > gpus:
      raise ValueError(
        f'gpus_per_worker={self._gpus_per_worker:g}: {workers} workers need '
        f'{wanted:g} GPUs, and the cluster has {gpus:g}; use at most '
        f'{gpus / workers:g}'
      )

  def start(self, worker: int, compute: Any, arguments: Arguments) -> Any:
    """Have a worker's actor compute; makes one if there is none.

    Args:
      worker: whose.
      compute: the run's program; the first one is that of all.
      arguments: of the program.

    Returns:
      References to what it computes and to the worker's memory.

    Raises:
      ValueError: if the program cannot be pickled.
    """
    if self._program is None:
      self._program = self._put(compute)
    moved, trial = self._moving.get(worker, (None, None))
    if moved is not None and self._ray.wait([trial], timeout=0)[0]:
      del self._moving[worker]
      self._kill(self.seats[worker])
      self.seats[worker] = moved
    if worker not in self.seats:
      machine = ray_machines.roomiest(
        ray_machines.room(self._ray), self._counts()
      )
      self.seats[worker] = self._seat(worker, machine)
    return self._call(self.seats[worker], arguments)

  def lose(self, worker: int) -> None:
    """End a worker's actor, if it lives; `start` makes another one."""
    seat = self.seats.pop(worker, None)
    if seat is not None:
      self._kill(seat)

  def where(self, worker: int) -> str:
    """Where a worker is, for people."""
    seat = self.seats.get(worker)
    if seat is None:
      return 'no machine'
    return str(seat.place or ray_machines.host(self._ray, seat.machine))

  def look(self, busy: Callable[[], Mapping[int, Arguments]]) -> None:
    """Have a worker move to a machine that has joined; every few seconds.

    Its work goes on where it is, until the new actor has compiled.

    Args:
      busy: returns what workers compute now, which the new actor tries.
    """
    if time.monotonic() - self._looked < _LOOK_SECONDS or self._moving:
      return
    self._looked = time.monotonic()
    machines = ray_machines.room(self._ray)
    found = ray_machines.unbalanced(machines, self._counts())
    if found is None:
      return
    (fullest, emptiest), trials = found, busy()
    for worker, seat in self.seats.items():
      if seat.machine == fullest and worker in trials:
        new = self._seat(worker, emptiest)
        self._moving[worker] = new, self._call(new, trials[worker])[0]
        name = ray_machines.host(self._ray, emptiest)
        _LOG.warning('worker %d moves to %s', worker, name)
        return

  def close(self) -> None:
    """End all actors."""
    moving = [seat for seat, _ in self._moving.values()]
    for seat in [*self.seats.values(), *moving]:
      self._kill(seat)
    self.seats, self._moving = {}, {}

  def _call(self, seat: Seat, arguments: Arguments) -> Any:
    return seat.actor.compute.options(num_returns=2).remote(*arguments)

  def _seat(self, worker: int, machine: str | None) -> Seat:
    """A new actor, on this machine or where Ray finds one."""
    options: dict[str, Any] = {'num_cpus': 0, 'max_restarts': 0}
    if self._gpus():
      options['num_gpus'] = self._gpus_per_worker
    if machine is not None:
      affinity = self._ray.util.scheduling_strategies
      options['scheduling_strategy'] = affinity.NodeAffinitySchedulingStrategy(
        machine, soft=False
      )
    actor = self._ray.remote(ray_actor.Actor).options(**options)
    made = actor.remote(worker, self.environment, [self._program])
    return Seat(made, machine)

  def _put(self, compute: Any) -> Any:
    try:
      return self._ray.put(compute)
    except TypeError as error:
      reason = ray_actor.first_line(error.__cause__ or error)
      raise ValueError(
        f'the problem or the method cannot be sent to other machines: {reason}.'
        ' Keep locks, files and sockets out of them, and open in `batch` what '
        'it needs'
      ) from error

  def _kill(self, seat: Seat) -> None:
    with contextlib.suppress(Exception):  # It may be dead, and Ray ended.
      self._ray.kill(seat.actor, no_restart=True)

  def _gpus(self) -> float:
    return self._ray.cluster_resources().get('GPU', 0.0)

  def _counts(self) -> collections.Counter[str | None]:
    """Workers on each machine, where they are going to be."""
    moved = {worker: seat for worker, (seat, _) in self._moving.items()}
    seats = {**self.seats, **moved}
    return collections.Counter(seat.machine for seat in seats.values())
