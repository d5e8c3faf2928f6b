"""The recorded order of arrivals, from which a run can be replayed."""

import collections
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from stale_adam import checks, files

_FORMAT = 2
TIMES = ('pulled', 'started', 'computed', 'arrived')
_WHOLE = (
  'pulled_version',
  'staleness',
  'staleness_pushes',
  'used',
  'restarted',
)
_REAL = ('age_seconds', 'loss')
_LONG = ('nbytes',)


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
  """The order of arrivals of a run, with times and what was measured.

  Attributes:
    worker: worker of the i-th arrival, int32.
    seconds: when the server handled it, by the pool's clock, float64.
    columns: further values per push, by name; see `of`.
    settings: what was run, in JSON's types: tuples become lists.

  Raises:
    ValueError: if lengths or shapes differ, a column holds no numbers, or a
      worker is not a whole number, 0 or more.
    TypeError: if the settings are no mapping, or JSON cannot hold them; a
      ValueError if one is a number that is not finite.
  """

  worker: np.ndarray
  seconds: np.ndarray
  columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  # Columns of every run; the others were measured.
  KNOWN: ClassVar[tuple[str, ...]] = (*_WHOLE, *_REAL, *_LONG, *TIMES)

  def __post_init__(self) -> None:
    for name in ('columns', 'settings'):
      if not isinstance(getattr(self, name), Mapping):
        raise TypeError(
          f'{name}={checks.shown(getattr(self, name))}: use a mapping by name'
        )
    worker = _array('worker', self.worker)
    columns = {name: _array(name, c) for name, c in self.columns.items()}
    rest = {'seconds': _array('seconds', self.seconds)} | columns
    if worker.ndim != 1:
      raise ValueError(f'worker has shape {worker.shape}: use one axis')
    for name, column in rest.items():
      if column.shape != worker.shape or column.dtype.kind not in 'biuf':
        raise ValueError(
          f'{name} has shape {column.shape} and type {column.dtype}: use one '
          f'number for each of the {len(worker)} arrivals'
        )
    whole = worker.dtype.kind in 'iu'
    if worker.size and not (
      whole and 0 <= worker.min() <= worker.max() < 2**31
    ):
      ends = ''
      if worker.dtype.kind in 'biuf':
        ends = f'runs from {worker.min()} to {worker.max()} and '
      raise ValueError(
        f'worker {ends}has type {worker.dtype}: use whole numbers, 0 to N - 1'
      )
    object.__setattr__(self, 'worker', worker.astype(np.int32))
    object.__setattr__(self, 'seconds', rest['seconds'].astype(np.float64))
    object.__setattr__(self, 'columns', columns)
    object.__setattr__(self, 'settings', _as_json(self.settings))

  def __len__(self) -> int:
    return len(self.worker)

  @classmethod
  def of(
    cls, pushes: Iterable[Any], settings: Mapping[str, Any] | None = None
  ) -> 'Trace':
    """Make the trace of a run from the pushes that `serve` yielded.

    Columns are pulled_version, staleness, staleness_pushes, used and restarted
    (int32), nbytes (int64), age_seconds and loss (float32), whatever was
    measured (float32) and, if the pool knows them, pulled, started, computed
    and arrived (float64). The version in force on arrival is pulled_version +
    staleness.

    Args:
      pushes: `worker.Push`es, in order. Their settings, policy and seed, are
        kept.
      settings: further settings.
    """
    pushes = list(pushes)
    column = lambda name, dtype: np.asarray(
      [getattr(push, name) for push in pushes], dtype
    )
    columns = {name: column(name, np.int32) for name in _WHOLE}
    for name in _REAL:
      columns[name] = column(name, np.float32)
    for name in _LONG:
      columns[name] = column(name, np.int64)
    if all(push.times is not None for push in pushes):
      times = column('times', np.float64).reshape(-1, len(TIMES))
      columns |= dict(zip(TIMES, times.T, strict=True))
    for name in (pushes and pushes[0].measured) or ():
      columns[name] = np.asarray([p.measured[name] for p in pushes], np.float32)
    worker, seconds = column('worker', np.int32), column('seconds', np.float64)
    known = (pushes and pushes[0].settings) or {}
    return cls(worker, seconds, columns, {**known, **(settings or {})})

  @classmethod
  def joined(cls, parts: Sequence['Trace']) -> 'Trace':
    """Make one trace of its parts, in order; a column is in all of them."""
    parts = [part for part in parts if len(part)] or list(parts[:1])
    if not parts:
      return cls(np.zeros(0, np.int32), np.zeros(0))
    names = [n for n in parts[0].columns if all(n in p.columns for p in parts)]
    return cls(
      np.concatenate([part.worker for part in parts]),
      np.concatenate([part.seconds for part in parts]),
      {n: np.concatenate([p.columns[n] for p in parts]) for n in names},
      parts[0].settings,
    )

  def digest(self) -> str:
    """Return the SHA-256 of the order of workers, in hexadecimal.

    Seconds are left out: the order alone determines a run's parameters.
    """
    return hashlib.sha256(self.worker.astype('<i4').tobytes()).hexdigest()

  def save(self, path: str | os.PathLike) -> None:
    """Write a compressed NumPy archive, atomically.

    Args:
      path: to write to; parent directories are made.
    """
    header = {
      'format': _FORMAT,
      'digest': self.digest(),
      'settings': self.settings,
      'columns': list(self.columns),
    }
    arrays: dict[str, Any] = {'worker': self.worker, 'seconds': self.seconds}
    arrays |= {f'column_{i}': c for i, c in enumerate(self.columns.values())}
    with files.replacing(path) as partial, open(partial, 'wb') as file:
      np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)

  @classmethod
  def load(cls, path: str | os.PathLike) -> 'Trace':
    """Read what `save` wrote.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged or is something else, or if another
        version wrote it.
    """
    try:
      with np.load(path, allow_pickle=False) as archive:
        header = json.loads(str(archive['header']))
        if header['format'] != _FORMAT:
          raise _OtherFormatError(header['format'])
        names = enumerate(header['columns'])
        columns = {name: archive[f'column_{i}'] for i, name in names}
        worker, seconds = archive['worker'], archive['seconds']
      trace = cls(worker, seconds, columns, header['settings'])
      if header['digest'] != trace.digest():
        raise ValueError('the order is not the one that was saved')
    except FileNotFoundError:
      raise
    except _OtherFormatError as error:
      found = error.args[0]
      older = isinstance(found, int) and found < _FORMAT
      raise ValueError(
        f'{path} is a trace of {"an older" if older else "a newer"} format, '
        f'{checks.shown(found)}; this version reads format {_FORMAT}: use the '
        'version of stale_adam that wrote it'
      ) from None
    # What a damaged archive raises depends on the byte.
    except Exception as error:
      raise ValueError(
        f'{path} is damaged or holds no trace ({checks.cut(str(error))}); '
        'record the run again, or name a file that Trace.save wrote'
      ) from error
    return trace

  def check_replay(self, settings: Mapping[str, Any]) -> None:
    """Check the settings that the trace has, too; ignore others.

    Args:
      settings: of the replay; `serve` and `simulate` give policy and seed.

    Raises:
      ValueError: listing every setting that differs.
    """
    shared = {k: v for k, v in settings.items() if k in self.settings}
    self.check({**self.settings, **shared})

  def check_staleness(self, pulled_version: Any, staleness: Any) -> None:
    """Check what the order leads to against what was recorded, if it was.

    Args:
      pulled_version: of every push, as its replay finds it.
      staleness: likewise.

    Raises:
      ValueError: naming the first push that differs.
    """
    here = {'pulled_version': pulled_version, 'staleness': staleness}
    for name, found in here.items():
      there = self.columns.get(name, found)[: len(found)]
      if (unequal := np.not_equal(there, found)).any():
        push = int(np.argmax(unequal))
        raise differing(push, name, there[push], found[push])

  def check(self, settings: Mapping[str, Any]) -> None:
    """Check that the trace was recorded under these settings.

    Args:
      settings: what is to be run, with the entries of `self.settings`.

    Raises:
      ValueError: listing every entry that differs, or is on one side only.
    """
    found = list(_differences(self.settings, _as_json(settings)))
    if found:
      raise ValueError(
        f'the trace was recorded under other settings ({"; ".join(found)}): '
        'use those, or counterfactual=True to replay its order under these'
      )


class _OtherFormatError(Exception):
  """A file of another format than this version's."""


def _array(name: str, values: Any) -> np.ndarray:
  """What an array can be made of: rows of different lengths cannot."""
  try:
    return np.asarray(values)
  except (TypeError, ValueError) as error:
    raise ValueError(f'{name} is no array of numbers: {error}') from None


def _as_json(value: Any) -> Any:
  def number(value: Any) -> Any:
    if hasattr(value, 'tolist'):  # NumPy's or JAX's.
      return value.tolist()
    raise TypeError(f'settings hold {value!r}: use what JSON can hold')

  return json.loads(json.dumps(value, default=number, allow_nan=False))


def _differences(ours: Any, theirs: Any, path: str = '') -> Iterator[str]:
  """What differs between two JSON values; ... stands for nothing there."""
  if isinstance(ours, dict) and isinstance(theirs, dict):
    for key in dict.fromkeys([*ours, *theirs]):
      name = f'{path}.{key}' if path else key
      yield from _differences(ours.get(key, ...), theirs.get(key, ...), name)
  elif ours != theirs:
    ours, theirs = ['nothing' if v is ... else v for v in (ours, theirs)]
    yield f'{path}: {ours} in the trace, {theirs} here'


def differing(push: int, name: str, there: Any, here: Any) -> ValueError:
  """The error of a replay that leads to something else than was recorded.

  Args:
    push: which one, from 0.
    name: of what differs.
    there: as it was recorded.
    here: as it is in the replay.
  """
  return ValueError(
    f'push {push + 1} of the trace has {name} {there}, and {here} in its '
    'replay: the trace is of another policy or was changed; record the run '
    'again, or use counterfactual=True to replay its order alone'
  )


def infeasible(
  position: int, worker: int, waiting: Collection[int]
) -> ValueError:
  """The error of an order that cannot happen under the communication.

  Args:
    position: of the arrival, from 0.
    worker: who is to arrive, and has no work in flight.
    waiting: those who have.
  """
  names = [str(number) for number in sorted(waiting)]
  if len(names) > 8:
    names = [*names[:7], '...', names[-1]]
  return ValueError(
    f'arrival {position} of the order is by worker {worker}, who has no work '
    f'then; in flight: {", ".join(names) or "none"}. Synchronous workers wait '
    'for each other, and workers are 0 to N - 1: use the communication that '
    'the order was recorded with'
  )


def used_staleness(columns: Mapping[str, np.ndarray]) -> np.ndarray:
  """The staleness of every push that updates use, in updates; int32."""
  return columns['staleness'][columns['used'] != 0]


def staleness_histogram(staleness: Iterable[int]) -> dict[int, int]:
  """How many pushes had each staleness, in ascending order."""
  return dict(sorted(collections.Counter(staleness).items()))


def answered(trace: Trace) -> np.ndarray:
  """To which arrival each push's pull was a reply; -1 at the start of the run.

  Times alone do not tell, where one push arrives as another is replied to.
  """
  return np.arange(len(trace)) - trace.columns['staleness_pushes'] - 1


def busy_until(trace: Trace) -> np.ndarray:
  """When the server sent the first reply to each arrival, in seconds.

  An arrival that got none, or none whose gradient arrived within the trace, is
  taken to have kept the server for no time.

  Raises:
    ValueError: if the trace has no times.
  """
  if missing := [name for name in TIMES if name not in trace.columns]:
    raise ValueError(
      f'the trace has no columns {missing}, as that of a replay: use the trace '
      'of a run on a clock, on threads or on a cluster'
    )
  replied = answered(trace)
  known = replied >= 0
  until = np.full(len(trace), np.inf)
  np.minimum.at(until, replied[known], trace.columns['pulled'][known])
  until = np.where(np.isinf(until), trace.seconds, until)
  return np.clip(until, trace.seconds, np.append(trace.seconds[1:], np.inf))


def busy_share(trace: Trace, workers: int) -> dict[str, float]:
  """Shares of the time until the last arrival, T, spent at work.

    workers = sum(computed - started) / (N T)
    server = sum(first reply to an arrival - when the server got to it) / T

  Both are a little low: of gradients in flight at the end, and of the replies
  that sent them out, nothing is known.

  Args:
    trace: with times.
    workers: N.

  Returns:
    {'workers': share, 'server': share}; not a number if T is 0.

  Raises:
    ValueError: if the trace has no times, or a worker beyond N.
  """
  if len(trace) and trace.worker.max() >= workers:
    raise ValueError(
      f'workers={workers}: worker {trace.worker.max()} arrives, and the first '
      'is 0; count them all'
    )
  server = np.sum(busy_until(trace) - trace.seconds)
  total = trace.seconds[-1] if len(trace) else 0.0
  if total == 0:
    return {'workers': math.nan, 'server': math.nan}
  computing = np.sum(trace.columns['computed'] - trace.columns['started'])
  return {
    'workers': float(computing / (workers * total)),
    'server': float(server / total),
  }
