"""Workers on real devices: one host thread for each, and a real clock."""

import contextlib
import queue
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.flatten_util import ravel_pytree

from stale_adam.server import Push, Times, Work

_PATIENCE = 5.0  # Seconds that `close` waits for gradients under way.


class _Job(NamedTuple):
  """Work for one worker, or for several that compute in one program."""

  workers: list[int]
  ids: list[Sequence[int]]  # Of each worker.
  compute: Any  # As `Gradient.over` returns it.
  devices: tuple[jax.Device, ...]
  version: int
  vector: jax.Array  # The snapshot's parameters.
  unravel: Any
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
    self._devices = tuple(jax.local_devices() if devices is None else devices)
    self._inboxes = [queue.SimpleQueue() for _ in self._devices]
    self._arrivals: queue.SimpleQueue = queue.SimpleQueue()
    self._clock = _Stopwatch()
    self._started = False
    self._busy: set[int] = set()
    self._together: list[tuple[int, Work]] = []  # Sent, to go out as one.
    self._programs: dict[tuple[jax.Device, ...], Any] = {}
    # Sent before all devices have compiled; None when they have.
    self._first: list[_Job] | None = []
    self._snapshot: tuple[Any, Any] = (None, None)  # Last parameters, vector.
    self._unravel: Any = None
    closed = threading.Event()
    threads = [
      threading.Thread(
        target=_work,
        args=(inbox, self._arrivals, self._clock, closed),
        daemon=True,
      )
      for inbox in self._inboxes
    ]
    for thread in threads:
      thread.start()
    # They know nothing of the pool: it ends them when it is collected, too, and
    # before the interpreter does.
    self._end = weakref.finalize(self, _end, self._inboxes, threads, closed)

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
    if devices not in self._programs:
      program = work.compute.over(devices, work.snapshot.params)
      self._programs[devices] = program
    job = _Job(
      [worker for worker, _ in sent],
      [work.ids for _, work in sent],
      self._programs[devices],
      devices,
      work.snapshot.version,
      self._vector(work.snapshot.params),
      self._unravel,
      self._clock.seconds(),
    )
    if self._first is None:
      self._inbox(job).put(job)
    else:
      self._first.append(job)

  def receive(self) -> Push:
    """Waits for the next arrival; raises whatever its worker raised."""
    if not self._end.alive:
      raise ValueError('the pool is closed: make a new one for another run')
    if self._first is not None:
      self._compile()
    push = self._arrival()
    self._busy.discard(push.worker)
    return push._replace(seconds=self._clock.seconds())

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
    self._end()

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

  def _arrival(self) -> Push:
    arrival = self._arrivals.get()
    if isinstance(arrival, BaseException):
      raise arrival
    return arrival

  def _compile(self) -> None:
    """Has every program run once for nothing before the first work goes out.

    Else the first device to be ready would push alone for a while.
    """
    trials = {job.devices: job for job in self._first}
    for job in trials.values():
      self._inbox(job).put(job)
    for job in trials.values():
      for _ in job.workers:
        self._arrival()
    sent, self._first = self._first, None
    for job in sent:
      self._inbox(job).put(job)


def _work(inbox, arrivals, clock, closed) -> None:
  """A device's thread: computes what comes, until it is None."""
  while (job := inbox.get()) is not None and not closed.is_set():
    try:
      pushes = _compute(job, clock)
    except BaseException as error:
      with contextlib.suppress(Exception):  # Some refuse to be changed.
        error.add_note(f'raised by worker {job.workers}')
      pushes = [error]
    for push in pushes:
      arrivals.put(push)
    del job, pushes, push  # Nothing is held while we wait.


def _compute(job: _Job, clock: '_Stopwatch') -> list[Push]:
  """The pushes of a job; the last one brings the gradient of all."""
  vector = jax.device_put(job.vector, job.devices[0])
  jax.block_until_ready(vector)
  started = clock.seconds()
  home = next(iter(job.vector.devices()))
  losses, total = jax.block_until_ready(job.compute(vector, job.ids))
  computed = clock.seconds()
  gradient = job.unravel(jax.device_put(total, home))
  losses = jax.device_put(losses, home)
  jax.block_until_ready((gradient, losses))
  times = Times(job.pulled, started, computed, clock.seconds())
  last = len(job.workers) - 1
  return [
    Push(
      worker,
      job.version,
      ids,
      times.arrived,
      losses[i],
      gradient if i == last else None,
      times,
    )
    for i, (worker, ids) in enumerate(zip(job.workers, job.ids, strict=True))
  ]


def _end(inboxes, threads, closed) -> None:
  """Ends the threads, and waits for those that compute."""
  closed.set()
  for inbox in inboxes:
    inbox.put(None)
  deadline = time.monotonic() + _PATIENCE
  for thread in threads:  # A daemon, if it takes longer than that.
    thread.join(max(0.0, deadline - time.monotonic()))


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
