"""What the server needs of a pool: six verbs."""

import abc
import contextlib
import types
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from stale_adam.worker import Push, Work

VERBS = ('send', 'receive', 'paused', 'state', 'restore', 'close')


class PoolClosed(ValueError):
  """What `receive`, and so `serve`, ends with once the pool is closed."""

  def __init__(self) -> None:
    super().__init__('the pool is closed: make a new one for another run')


class WorkerHangs(TimeoutError):
  """A worker has computed for longer than its pool waits.

  Args:
    late: (workers of one device, seconds, what its thread executes) of each.
    timeout_seconds: how long the pool waits.

  Attributes:
    workers: who hangs.
  """

  def __init__(
    self,
    late: Sequence[tuple[Sequence[int], float, str]],
    timeout_seconds: float,
  ):
    self.workers = [worker for workers, *_ in late for worker in workers]
    found = [
      f'worker {", ".join(map(str, workers))} has computed for {seconds:.1f} '
      f'seconds and is in {place}'
      for workers, seconds, place in late
    ]
    super().__init__(
      f'{"; ".join(found)}. Allowed are timeout_seconds={timeout_seconds}: '
      'mend what it waits for, or raise the time-out if a gradient or its '
      'compilation takes that long; resume the last server in a new pool'
    )


class WorkerLost(RuntimeError):
  """A worker cannot be had: it does not start, or is lost again and again."""


class Pool(Protocol):
  """Where workers run, and who arrives next.

  A pool serves one run. It knows nothing of staleness, sums and updates.
  """

  @abc.abstractmethod
  def send(self, worker: int, work: Work) -> None:
    """Gives a worker its work; returns at once.

    With `work.restart` the worker abandons what it has, which never arrives.

    Raises:
      ValueError: if the worker has work already and does not abandon it, or the
        pool replays a trace that was recorded with other settings than
        `work.settings`.
    """

  @abc.abstractmethod
  def receive(self) -> Push | None:
    """Waits for the next arrival, or raises what its worker raised.

    Returns:
      The push, with worker, pulled_version, ids, seconds, loss, message, memory
      and, where they are known, times. None if nobody will arrive any more.

    Raises:
      PoolClosed: if the pool is closed, now or while this waits.
    """

  @abc.abstractmethod
  def paused(self) -> contextlib.AbstractContextManager[None]:
    """Stops the pool's clock, for example while parameters are evaluated."""

  @abc.abstractmethod
  def state(self) -> dict[str, Any]:
    """What the pool knows besides the work in flight, as JSON holds it.

    With it, and with the work sent again, another pool goes on as this one
    would. Read it after `serve` has yielded, before the next arrival.
    """

  @abc.abstractmethod
  def restore(self, state: Mapping[str, Any]) -> None:
    """Takes over the state of another pool, before any work is sent."""

  def shown(self) -> Mapping[str, str]:
    """What a progress bar shows of the pool, by name."""
    return {}

  @abc.abstractmethod
  def close(self) -> None:
    """Ends the workers; work in flight is dropped. Idempotent."""

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: types.TracebackType | None,
  ) -> None:
    self.close()


def check(pool: object) -> None:
  """Refuses what is not a pool.

  Raises:
    TypeError: naming the verbs that are missing.
  """
  if isinstance(pool, type):
    raise TypeError(f'pool={pool!r} is a class: make a pool, {pool.__name__}()')
  missing = [v for v in VERBS if not callable(getattr(pool, v, None))]
  if missing:
    raise TypeError(
      f'pool={pool!r} lacks {", ".join(missing)}: a pool has '
      f'{", ".join(VERBS)}; see stale_adam.pools.contract.Pool'
    )


def busy(worker: int) -> ValueError:
  """The error of a pool that is sent a second run's work."""
  return ValueError(
    f'worker {worker} is busy with another run: a pool serves one run, make a '
    'new one'
  )
