"""Workers on real devices: one host thread for each, and a real clock."""

import contextlib
import functools
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.flatten_util import ravel_pytree

from stale_adam.pools import contract
from stale_adam.worker import Compute, Push, Times, Work

_PATIENCE = 5.0  # Seconds that `close` waits for gradients under way.


class _Job(NamedTuple):
  """Work for one worker, or for several that compute in one program."""

  workers: list[int]
  ids: list[Sequence[int]]  # Of each worker.
  memory: Any  # Of the one worker, if it has any.
  compute: Any  # (losses, flat message, memory) from (vector, ids, memory).
  devices: tuple[jax.Device, ...]
  version: int
  vector: jax.Array  # The snapshot's parameters.
  unravel: Any
  pulled: float


class Threads(contract.Pool):
  """A pool whose workers are host threads, in the order in which they finish.

  Worker w computes on device w mod D, whose thread takes its work in the order
  it was sent. Synchronous workers that have a device each compute in one
  program over their devices, which sums the gradients: an all-reduce. Their
  last push brings the sum. The clock starts with the first update, when
  everything is compiled.

  A run's trace replays it, on CPUs bit for bit, except for an all-reduce, which
  adds in an order of its own.

  Args:
    devices: of the workers; by default all local ones. A CPU counts as one
      device unless JAX is told otherwise before its first use:
      `jax.config.update('jax_num_cpu_devices', 4)`.
  """

  def __init__(self, devices: Sequence[jax.Device] | None = None):
    self._devices = tuple(jax.local_devices() if devices is None else devices)
    self._inboxes: list[queue.SimpleQueue[_Job | None]] = [
      queue.SimpleQueue() for _ in self._devices
    ]
    self._arrivals: queue.SimpleQueue[Push | BaseException] = (
      queue.SimpleQueue()
    )
    self._clock = _Stopwatch()
    self._started = False
    self._busy: set[int] = set()
    self._group: list[tuple[int, Work]] = []  # Sent, to go out as one job.
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
    """Gives a worker its work once the snapshot has been computed."""
    if worker in self._busy:
      raise contract.busy(worker)
    self._busy.add(worker)
    if work.version and not self._started:
      self._started = True
      self._clock.start()
    self._group.append((worker, work))
    shared = 1 < work.group <= len(self._devices)
    if shared and len(self._group) < work.group:
      return
    sent, self._group = self._group, []
    place = worker % len(self._devices)
    devices = self._devices[: len(sent)] if shared else (self._devices[place],)
    job = _Job(
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
      self._inbox(job).put(job)
    else:
      self._first.append(job)

  def receive(self) -> Push:
    """Waits for the next arrival; raises what its worker raised."""
    if not self._end.alive:
      raise contract.closed()
    if self._first is not None:
      self._compile()
    push = self._arrival()
    self._busy.discard(push.worker)
    return push._replace(seconds=self._clock.seconds())

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Stops the clock, for example while parameters are evaluated.

    Workers finish what they have begun and wait. Nothing becomes staler, since
    no update is made.
    """
    running = self._clock.stop()
    try:
      yield
    finally:
      if running:
        self._clock.start()

  def state(self) -> dict[str, Any]:
    """The clock; what is in flight has no state of its own."""
    return {'seconds': self._clock.seconds(), 'started': self._started}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Sets the clock; it runs when everything is compiled again."""
    self._clock.set(state['seconds'])

  def close(self) -> None:
    """Ends the threads; work in flight is dropped."""
    self._end()

  def _vector(self, params: Any) -> jax.Array:
    """Parameters as one flat vector: one array moves faster than many."""
    if self._snapshot[0] is not params:
      if self._unravel is None:
        self._unravel = jax.jit(ravel_pytree(params)[1])
      self._snapshot = params, jax.block_until_ready(_ravel(params))
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

  def _inbox(self, job: _Job) -> 'queue.SimpleQueue[_Job | None]':
    return self._inboxes[self._devices.index(job.devices[0])]

  def _arrival(self) -> Push:
    arrival = self._arrivals.get()
    if isinstance(arrival, BaseException):
      raise arrival
    return arrival

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
      self._inbox(job).put(job)
    for job in trials.values():
      for _ in job.workers:
        self._arrival()
    for job in sent:
      self._inbox(job).put(job)


def _work(
  inbox: 'queue.SimpleQueue[_Job | None]',
  arrivals: 'queue.SimpleQueue[Push | BaseException]',
  clock: '_Stopwatch',
  closed: threading.Event,
) -> None:
  """A device's thread: computes what comes, until it is None."""
  while (job := inbox.get()) is not None and not closed.is_set():
    pushes: Sequence[Push | BaseException]
    try:
      pushes = _compute(job, clock)
    except BaseException as error:
      with contextlib.suppress(Exception):  # Some refuse to be changed.
        error.add_note(f'raised by worker {job.workers}')
      pushes = [error]
    for push in pushes:
      arrivals.put(push)
    del job, pushes, push  # Nothing is held while we wait.


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
  return loss[None], _ravel(message), memory


def _compute(job: _Job, clock: '_Stopwatch') -> list[Push]:
  """The pushes of a job; the last one brings the message of all."""
  vector = jax.device_put(job.vector, job.devices[0])
  jax.block_until_ready(vector)
  started = clock.seconds()
  home = next(iter(job.vector.devices()))
  found = job.compute(vector, job.ids, job.memory)
  losses, total, memory = jax.block_until_ready(found)
  computed = clock.seconds()
  message = job.unravel(jax.device_put(total, home))
  losses, memory = jax.device_put((losses, memory), home)
  jax.block_until_ready((message, losses, memory))
  times = Times(job.pulled, started, computed, clock.seconds())
  last = len(job.workers) - 1
  return [
    Push(
      worker,
      job.version,
      ids,
      times.arrived,
      losses[i],
      message if i == last else None,
      memory,
      times,
    )
    for i, (worker, ids) in enumerate(zip(job.workers, job.ids, strict=True))
  ]


def _end(
  inboxes: 'Sequence[queue.SimpleQueue[_Job | None]]',
  threads: Sequence[threading.Thread],
  closed: threading.Event,
) -> None:
  """Ends the threads, and waits for those that compute."""
  closed.set()
  for inbox in inboxes:
    inbox.put(None)
  deadline = time.monotonic() + _PATIENCE
  for thread in threads:  # A daemon, if it takes longer than that.
    thread.join(max(0.0, deadline - time.monotonic()))


class _Stopwatch:
  """Seconds while it ran; read by any thread."""

  def __init__(self) -> None:
    # Seconds before; running since.
    self._state: tuple[float, float | None] = (0.0, None)

  def seconds(self) -> float:
    before, since = self._state
    return before if since is None else before + time.monotonic() - since

  def set(self, seconds: float) -> None:
    self._state = (seconds, None)

  def start(self) -> None:
    self._state = (self.seconds(), time.monotonic())

  def stop(self) -> bool:
    """Whether it was running."""
    running = self._state[1] is not None
    self._state = (self.seconds(), None)
    return running


@jax.jit
def _ravel(params: Any) -> jax.Array:
  return ravel_pytree(params)[0]
