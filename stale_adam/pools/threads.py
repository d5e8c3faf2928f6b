"""Workers on real devices: one host thread for each, and a real clock."""

import concurrent.futures
import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.flatten_util import ravel_pytree

from stale_adam.server import Push, Times, Work

_PATIENCE = 5.0  # Seconds that `close` waits for gradients under way.


class _Job(NamedTuple):
  """Work for one worker, or for several that compute in one program."""

  workers: list[int]
  work: list[Work]
  devices: tuple[jax.Device, ...]
  vector: jax.Array  # The snapshot's parameters.
  pulled: float


class Threads:
  """A pool whose workers are host threads, and arrive when they are done.

  Worker w computes on device w mod D, whose thread takes its work in the order
  it was sent. Synchronous workers that have a device each compute in one
  program over their devices, which adds up the gradients: an all-reduce. Their
  last push brings the sum. The clock starts with the first update, when all is
  compiled.

  A run's trace replays it: on CPUs bit for bit, but for the all-reduce, which
  adds in an order of its own.

  Args:
    devices: of the workers; by default all local ones. A CPU is one unless JAX
      is told otherwise before its first use:
      `jax.config.update('jax_num_cpu_devices', 4)`.
  """

  def __init__(self, devices: Sequence[jax.Device] | None = None):
    self._devices = tuple(devices or jax.local_devices())
    self._inboxes = [queue.SimpleQueue() for _ in self._devices]
    self._arrivals: queue.SimpleQueue = queue.SimpleQueue()
    self._threads: list[threading.Thread] = []
    self._clock = _Stopwatch()
    self._started = False
    self._busy: set[int] = set()
    self._together: list[tuple[int, Work]] = []  # Sent, to go out as one.
    self._first: list[_Job] = []  # Sent before the clock starts.
    self._snapshot: tuple[Any, Any] = (None, None)  # Last parameters, vector.
    self._unravel: Any = None
    self._programs: dict[tuple[jax.Device, ...], Any] = {}
    self._closed = False

  def send(self, worker: int, work: Work) -> None:
    """Hands a worker its work as soon as the snapshot has been computed.

    Raises:
      ValueError: if the worker has work already: the pool served another run.
    """
    if worker in self._busy:
      raise ValueError(
        f'worker {worker} is busy with another run: a pool serves one run, '
        'make a new one'
      )
    self._busy.add(worker)
    if work.version and not self._started:
      self._started = True
      self._clock.start()
    self._together.append((worker, work))
    shared = 1 < work.together <= len(self._devices)
    if shared and len(self._together) < work.together:
      return
    sent, self._together = self._together, []
    place = worker % len(self._devices)
    devices = self._devices[: len(sent)] if shared else (self._devices[place],)
    job = _Job(
      [w for w, _ in sent],
      [w for _, w in sent],
      devices,
      self._vector(work.snapshot.params),
      self._clock.seconds(),
    )
    if self._threads:
      self._inbox(job).put(job)
    else:
      self._first.append(job)

  def receive(self) -> Push:
    """Waits for the next arrival; raises whatever its worker raised."""
    if self._closed:
      raise ValueError('the pool is closed: make a new one for another run')
    if not self._threads:
      self._start()
    arrival = self._arrivals.get()
    if isinstance(arrival, BaseException):
      raise arrival
    self._busy.discard(arrival.worker)
    return arrival._replace(seconds=self._clock.seconds())

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Stops the clock: for evaluation, say, while the server rests.

    Workers finish what they have begun and wait; nothing becomes staler, for
    no update is made.
    """
    running = self._clock.stop()
    try:
      yield
    finally:
      if running:
        self._clock.start()

  def close(self) -> None:
    """Ends the threads; work in flight is dropped."""
    self._closed = True
    for inbox in self._inboxes:
      inbox.put(None)
    deadline = time.monotonic() + _PATIENCE
    for thread in self._threads:  # A daemon, if it takes longer than that.
      thread.join(max(0.0, deadline - time.monotonic()))

  def __enter__(self) -> 'Threads':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _vector(self, params) -> jax.Array:
    """Parameters as one flat vector, which is quick to move."""
    if self._snapshot[0] is not params:
      if self._unravel is None:
        self._unravel = jax.jit(ravel_pytree(params)[1])
      self._snapshot = params, jax.block_until_ready(_ravel(params))
    return self._snapshot[1]

  def _inbox(self, job: _Job) -> queue.SimpleQueue:
    return self._inboxes[self._devices.index(job.devices[0])]

  def _start(self) -> None:
    """Compiles on all devices at once, then lets the workers go."""
    first = {job.devices: job for job in self._first}
    with concurrent.futures.ThreadPoolExecutor(len(first)) as executor:
      list(executor.map(self._compute, first.values()))
    for inbox in self._inboxes:
      thread = threading.Thread(target=self._work, args=(inbox,), daemon=True)
      self._threads.append(thread)
    for job in self._first:
      self._inbox(job).put(job)
    for thread in self._threads:
      thread.start()

  def _work(self, inbox: queue.SimpleQueue) -> None:
    """A device's thread: computes what comes, until it is None."""
    while (job := inbox.get()) is not None and not self._closed:
      try:
        pushes = self._compute(job)
      except BaseException as error:
        error.add_note(f'raised by worker {job.workers}')
        pushes = [error]
      for push in pushes:
        self._arrivals.put(push)

  def _compute(self, job: _Job) -> list[Push]:
    """The pushes of a job; the last one brings the gradient of all."""
    vector = jax.device_put(job.vector, job.devices[0])
    jax.block_until_ready(vector)
    started = self._clock.seconds()
    if job.devices not in self._programs:
      compute = job.work[0].compute
      self._programs[job.devices] = compute.over(job.devices, self._unravel)
    program = self._programs[job.devices]
    losses, total = jax.block_until_ready(
      program(vector, [work.ids for work in job.work])
    )
    computed = self._clock.seconds()
    home = next(iter(job.vector.devices()))
    gradient = self._unravel(jax.device_put(total, home))
    losses = jax.device_put(losses, home)
    jax.block_until_ready((gradient, losses))
    times = Times(job.pulled, started, computed, self._clock.seconds())
    last = len(job.work) - 1
    return [
      Push(
        worker,
        work.snapshot.version,
        work.ids,
        times.arrived,
        losses[i],
        gradient if i == last else None,
        times,
      )
      for i, (worker, work) in enumerate(
        zip(job.workers, job.work, strict=True)
      )
    ]


class _Stopwatch:
  """Seconds while it ran; read by any thread."""

  def __init__(self):
    self._state = (0.0, None)  # Seconds before; running since.

  def seconds(self) -> float:
    before, since = self._state
    return before if since is None else before + time.monotonic() - since

  def start(self) -> None:
    self._state = (self.seconds(), time.monotonic())

  def stop(self) -> bool:
    """Whether it was running."""
    running = self._state[1] is not None
    self._state = (self.seconds(), None)
    return running


@jax.jit
def _ravel(params):
  return ravel_pytree(params)[0]
