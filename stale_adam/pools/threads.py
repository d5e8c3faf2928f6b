"""Workers on real devices: one host thread for each, and a real clock."""

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from stale_adam import flat
from stale_adam.pools import contract
from stale_adam.pools.device_threads import DeviceThreads, Job
from stale_adam.pools.stopwatch import Stopwatch
from stale_adam.worker import Compute, Push, Work


class Threads(contract.Pool):
  """A pool whose workers are host threads, in the order in which they finish.

  Worker w computes on device w mod D, whose thread takes its work in the order
  it was sent. Synchronous workers that have a device each compute in one
  program over their devices, which sums the gradients: an all-reduce. Their
  last push brings the sum. The clock starts with the first update, when
  everything is compiled.

  A worker that is restarted finishes the gradient that it has begun, which
  nobody receives, before it begins its newest one.

  A run's trace replays it, on CPUs bit for bit, except for an all-reduce, which
  adds in an order of its own.

  Args:
    devices: of the workers; by default all local ones. A CPU counts as one
      device unless JAX is told otherwise before its first use:
      `jax.config.update('jax_num_cpu_devices', 4)`.
    timeout_seconds: how long a device may take to compute what it was sent,
      compilation included. If it takes longer, `receive` raises WorkerHangs.
      None: any time.

  Raises:
    ValueError: if `timeout_seconds` is not a positive number, or too large.
  """

  def __init__(
    self,
    devices: Sequence[jax.Device] | None = None,
    timeout_seconds: float | None = None,
  ):
    longest = threading.TIMEOUT_MAX
    if timeout_seconds is not None and not 0 < timeout_seconds <= longest:
      raise ValueError(
        f'timeout_seconds={timeout_seconds}: give a positive number of seconds '
        f'up to {longest:.0f}, or None to wait for any time'
      )
    self._timeout_seconds = timeout_seconds
    self._devices = tuple(jax.local_devices() if devices is None else devices)
    self._clock = Stopwatch()
    self._sent: dict[int, Sequence[int]] = {}  # Ids, by busy worker.
    self._group: list[tuple[int, Work]] = []  # Sent, to go out as one job.
    self._programs: dict[tuple[jax.Device, ...], Any] = {}
    # Sent before all devices have compiled; None when they have.
    self._first: list[Job] | None = []
    self._snapshot: tuple[Any, Any] = (None, None)  # Last parameters, vector.
    self._unravel: Any = None
    self._threads = DeviceThreads(len(self._devices), self._clock, self._sent)
    # They end when nobody holds the pool any more, too.
    self._end = weakref.finalize(self, self._threads.end)
    self._end.atexit = False  # They have an exit handler of their own.

  def send(self, worker: int, work: Work) -> None:
    """Gives a worker its work once the snapshot has been computed."""
    if worker in self._sent and not work.restart:
      raise contract.busy(worker)
    self._sent[worker] = work.ids
    self._clock.start(work.version)
    self._group.append((worker, work))
    shared = 1 < work.group <= len(self._devices)
    if shared and len(self._group) < work.group:
      return
    sent, self._group = self._group, []
    place = worker % len(self._devices)
    devices = self._devices[: len(sent)] if shared else (self._devices[place],)
    job = Job(
      [worker for worker, _ in sent],
      [work.ids for _, work in sent],
      work.memory,
      self._program(devices, work),
      devices,
      work.snapshot.version,
      self._vector(work.snapshot.params),
      self._unravel,
      self._clock.seconds(),
    )
    if self._first is None:
      self._put(job)
    else:
      self._first.append(job)

  def receive(self) -> Push:
    """Waits for the next arrival; raises what its worker raised.

    Raises:
      PoolClosed: if the pool is closed, now or while this waits.
      WorkerHangs: if a device takes longer than the time-out. Nothing is lost:
        the last server can be resumed in a new pool.
    """
    if self._threads.closed:
      raise contract.PoolClosed()
    if self._first is not None:
      self._compile()
    push = self._arrival()
    # Of two of a worker's, one was abandoned: no ids are given out twice.
    while self._sent.get(push.worker) != push.ids:
      push = self._arrival()
    del self._sent[push.worker]
    return push._replace(seconds=self._clock.seconds())

  def paused(self) -> contextlib.AbstractContextManager[None]:
    """Stops the clock, for example while parameters are evaluated.

    Workers finish what they have begun and wait. Nothing becomes staler, since
    no update is made.
    """
    return self._clock.paused()

  def state(self) -> dict[str, Any]:
    """The clock; what is in flight has no state of its own."""
    return self._clock.state()

  def restore(self, state: Mapping[str, Any]) -> None:
    """Sets the clock; it runs when everything is compiled again."""
    self._clock.restore(state)

  def close(self) -> None:
    """Ends the threads; work in flight is dropped."""
    self._end.detach()
    self._threads.end()

  def _vector(self, params: Any) -> jax.Array:
    """Parameters as one flat vector: one array moves faster than many."""
    if self._snapshot[0] is not params:
      if self._unravel is None:
        self._unravel = flat.unravel(params)
      self._snapshot = params, jax.block_until_ready(flat.ravel(params))
    return self._snapshot[1]

  def _program(self, devices: tuple[jax.Device, ...], work: Work) -> Any:
    """What these devices run: the plain sum over a flat vector, or a method."""
    if devices not in self._programs:
      if work.gradient is not None:
        plain = work.gradient.over(devices, work.snapshot.params)
        program = lambda vector, ids, memory: (*plain(vector, ids), memory)
      else:
        self._vector(work.snapshot.params)
        program = functools.partial(_run_method, work.compute, self._unravel)
      self._programs[devices] = program
    return self._programs[devices]

  def _put(self, job: Job) -> None:
    self._threads.put(self._devices.index(job.devices[0]), job)

  def _arrival(self) -> Push:
    return self._threads.arrival(self._timeout_seconds)

  def _compile(self) -> None:
    """Runs every program once, unused, before the first work goes out.

    Otherwise the first device to be ready would push alone for a while.
    """
    with self.paused():
      self._try()

  def _try(self) -> None:
    sent, self._first = self._first or [], None
    trials = {job.devices: job for job in sent}
    for job in trials.values():
      self._put(job)
    for job in trials.values():
      for _ in job.workers:
        self._arrival()
    for job in sent:
      self._put(job)


def _run_method(
  compute: Compute,
  unravel: Callable[[jax.Array], Any],
  vector: jax.Array,
  ids: Sequence[Sequence[int]],
  memory: Any,
) -> tuple[jax.Array, jax.Array, Any]:
  """A method's worker, on the device that the vector is on."""
  (device,) = vector.devices()
  memory = jax.device_put(memory, device)
  loss, message, memory = compute(unravel(vector), ids[0], memory)
  return loss[None], flat.ravel(message), memory
