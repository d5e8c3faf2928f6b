"""One host thread for each device, which computes the jobs that it is sent."""

import atexit
import contextlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

import jax

from stale_adam.pools import contract
from stale_adam.pools.stopwatch import Stopwatch
from stale_adam.worker import Push, Times

_PATIENCE = 5.0  # Seconds that `end` waits for gradients under way.
_JAX = os.path.dirname(jax.__file__)
_COMPILER = os.path.join(_JAX, '_src', 'compiler.py')


class Job(NamedTuple):
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


class DeviceThreads:
  """Threads that compute jobs, one inbox each, and put pushes in one queue.

  They know nothing of their pool, which can be collected while they wait.

  Args:
    count: how many.
    clock: of the pushes' times.
    sent: the ids that each busy worker has, as its pool keeps them: work with
      other ids is abandoned.
  """

  def __init__(
    self, count: int, clock: Stopwatch, sent: Mapping[int, Sequence[int]]
  ):
    self.arrivals: queue.SimpleQueue[Push | BaseException] = queue.SimpleQueue()
    self.closed = False
    self._clock, self._sent = clock, sent
    self._inboxes: list[queue.SimpleQueue[Job | None]] = [
      queue.SimpleQueue() for _ in range(count)
    ]
    # What each thread computes, and since when.
    self._under_way: list[tuple[Job, float] | None] = [None] * count
    self._threads = [
      threading.Thread(
        target=self._work, args=(i,), name=f'stale_adam device {i}', daemon=True
      )
      for i in range(count)
    ]
    for thread in self._threads:
      thread.start()
    atexit.register(self._end_at_exit)

  def put(self, thread: int, job: Job) -> None:
    """Give a thread a job; returns at once."""
    self._inboxes[thread].put(job)

  def arrival(self, timeout_seconds: float | None) -> Push:
    """Wait for the next push.

    Raises:
      PoolClosed: if the threads were ended.
      WorkerHangs: if a job takes longer than `timeout_seconds`.
    """
    while True:
      # Before every arrival: others may arrive for ever while one hangs.
      wait = timeout_seconds and self._remaining(timeout_seconds)
      try:
        arrival = self.arrivals.get(timeout=wait)
      except queue.Empty:
        continue
      if isinstance(arrival, BaseException):
        raise arrival
      return arrival

  def end(self) -> None:
    """End the threads; wait for those that compute, but not for ever."""
    self.closed = True
    # At every call: a signal may have interrupted the one before.
    for inbox in self._inboxes:
      inbox.put(None)
    self.arrivals.put(contract.PoolClosed())  # For whoever waits.
    deadline = time.monotonic() + _PATIENCE
    for thread in self._threads:
      # The garbage collector may call this in any thread.
      if thread is not threading.current_thread():
        thread.join(max(0.0, deadline - time.monotonic()))
    if not any(thread.is_alive() for thread in self._threads):
      atexit.unregister(self._end_at_exit)

  def _end_at_exit(self) -> None:
    """End the threads, and outlast those that are inside JAX.

    If such a thread came back while the interpreter is being taken down, the
    process would abort: Python ends a thread by unwinding its stack, which C++
    does not allow. A thread that is blocked elsewhere does not come back.
    """
    try:
      if not self.closed:
        self.end()
      inside = [t for t in self._threads if _inside_jax(_frame(t))]
      if inside:
        logging.getLogger(__name__).warning(
          'waiting for %d threads inside JAX; Ctrl-C ends at once', len(inside)
        )
      _outlast(self._threads)
    except KeyboardInterrupt:
      with contextlib.suppress(Exception):
        sys.stdout.flush()
      os._exit(130)  # Any other way out may abort.

  def _remaining(self, timeout_seconds: float) -> float:
    """Seconds until the job that has taken longest has taken too long."""
    now = time.monotonic()
    taken = [
      (now - under_way[1], under_way[0].workers, thread)
      for under_way, thread in zip(self._under_way, self._threads, strict=True)
      if under_way is not None
    ]
    late = [job for job in taken if job[0] >= timeout_seconds]
    if late:
      found = [
        (workers, seconds, _place(thread)) for seconds, workers, thread in late
      ]
      raise contract.WorkerHangs(found, timeout_seconds)
    return timeout_seconds - max([seconds for seconds, *_ in taken], default=0)

  def _work(self, thread: int) -> None:
    """A thread: computes what comes, until it is None."""
    inbox = self._inboxes[thread]
    while (job := inbox.get()) is not None and not self.closed:
      if self._abandoned(job):
        continue
      self._under_way[thread] = job, time.monotonic()
      pushes: list[Push | BaseException]
      try:
        pushes = [*_compute(job, self._clock)]
      except BaseException as error:
        with contextlib.suppress(Exception):  # Some refuse to be changed.
          error.add_note(f'raised by worker {job.workers}')
        pushes = [] if self._abandoned(job) else [error]
      self._under_way[thread] = None
      while pushes:
        self.arrivals.put(pushes.pop(0))
      del job  # Nothing is held while we wait.

  def _abandoned(self, job: Job) -> bool:
    """Whether its worker was sent other work since."""
    pairs = zip(job.workers, job.ids, strict=True)
    return any(self._sent.get(worker, ids) != ids for worker, ids in pairs)


def _compute(job: Job, clock: Stopwatch) -> list[Push]:
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


def _frame(thread: threading.Thread) -> FrameType | None:
  """What a thread executes: its innermost frame; None if it has ended."""
  return sys._current_frames().get(thread.ident or 0)


def _place(thread: threading.Thread) -> str:
  """The function that a thread is in, with file and line."""
  frame = _frame(thread)
  if frame is None:
    return 'nowhere any more'
  code = frame.f_code
  return f'{code.co_name} ({code.co_filename}, line {frame.f_lineno})'


def _inside_jax(frame: FrameType | None) -> bool:
  """Whether JAX is among what a thread executes."""
  while frame is not None:
    if frame.f_code.co_filename.startswith(_JAX):
      return True
    frame = frame.f_back
  return False


def _outlast(threads: Sequence[threading.Thread]) -> None:
  """Wait for threads, as long as JAX traces or compiles in one of them.

  Tracing moves from place to place; while XLA compiles, the innermost frame is
  in JAX's compiler.py. Everything else gets `_PATIENCE` seconds.
  """
  deadline, last = time.monotonic() + _PATIENCE, None
  while time.monotonic() < deadline:
    alive = [thread for thread in threads if thread.is_alive()]
    if not alive:
      return
    alive[0].join(0.1)
    frames = [f for f in map(_frame, alive) if f and _inside_jax(f)]
    places = [(f.f_code, f.f_lasti) for f in frames]
    compiles = any(code.co_filename == _COMPILER for code, _ in places)
    if compiles or (places and places != last):
      deadline, last = time.monotonic() + _PATIENCE, places
