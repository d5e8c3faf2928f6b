"""Traces as JSON, for Perfetto and Chrome to draw."""

import collections
import json
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from stale_adam import files
from stale_adam import trace as trace_lib
from stale_adam.trace import Trace

_SERVER = {'pid': 1, 'tid': 1}


def write(path: str | os.PathLike, trace: Trace) -> None:
  """Write a trace in Chrome's Trace Event Format.

  https://ui.perfetto.dev and chrome://tracing draw it. The server's track has a
  slice for each arrival (`update` or `push`, until the first reply) and three
  counters. Each worker's track has `pull`, `compute`, `push`, and `wait`, from
  the arrival of its push to its next pull. Arrows lead from the server's reply
  through the gradient to the server's slice for it. A trace does not tell
  whether its last push made an update: it is called `push`.

  Args:
    path: the file to write, atomically; parent directories are created.
    trace: with times; they are rounded to microseconds.

  Raises:
    ValueError: if the trace has no times.
  """
  events = [*_names(trace), *sorted(_events(trace), key=lambda e: e['ts'])]
  lines = ',\n'.join(json.dumps(event, allow_nan=False) for event in events)
  # The unit comes last: early versions of Perfetto applied a unit at the
  # beginning to `ts`, which is always in microseconds.
  text = f'{{"traceEvents":[\n{lines}\n],"displayTimeUnit":"ms"}}\n'
  with files.replacing(path) as partial:
    partial.write_text(text, encoding='utf-8')


class _Row(NamedTuple):
  """A push; times in whole microseconds, which every reader keeps exactly."""

  arrival: int  # Its place in the order, from 0.
  worker: int
  answered: int
  pulled: int
  started: int
  computed: int
  arrived: int
  seconds: int
  until: int
  update: bool
  pulled_version: int
  staleness: int
  loss: float


def _rows(trace: Trace) -> list[_Row]:
  until = trace_lib.busy_until(trace)
  columns = trace.columns
  # Rounding, and clocks of several machines, put times slightly out of order.
  times = np.stack([columns[name] for name in trace_lib.TIMES], axis=1)
  times = np.clip(times, times[:, :1], trace.seconds[:, None])
  times = np.maximum.accumulate(times, axis=1)
  times = np.column_stack([times, trace.seconds, until])
  version = columns['pulled_version'] + columns['staleness']
  values = [
    np.arange(len(trace)),
    trace.worker,
    trace_lib.answered(trace),
    *np.rint(times * 1e6).astype(np.int64).T,
    np.diff(version, append=version[-1:]) > 0,
    columns['pulled_version'],
    columns['staleness'],
    columns['loss'],
  ]
  return [_Row(*row) for row in zip(*[v.tolist() for v in values], strict=True)]


def _names(trace: Trace) -> Iterator[dict[str, Any]]:
  """Metadata: names and order of the processes and threads."""
  names: list[tuple[str, dict[str, int], str, int]] = [
    ('process', _SERVER, 'server', 0),
    ('thread', _SERVER, 'server', 0),
    ('process', {'pid': 2, 'tid': 2}, 'workers', 1),
  ]
  for worker in np.unique(trace.worker).tolist():
    names.append(('thread', _track(worker), f'worker {worker}', worker))
  for kind, track, name, place in names:
    event = {'ph': 'M', **track, 'ts': 0}
    yield event | {'name': f'{kind}_name', 'args': {'name': name}}
    yield event | {'name': f'{kind}_sort_index', 'args': {'sort_index': place}}


def _events(trace: Trace) -> Iterator[dict[str, Any]]:
  """All other events; those of one time and track are in order."""
  rows = _rows(trace)
  pulls = collections.defaultdict(list)
  for row in rows:
    pulls[row.answered].append(row)
  if first := [row.pulled for row in pulls[-1]]:
    yield _slice('pull', _SERVER, min(first), max(first))
    yield from _arrows('s', _SERVER, min(first), pulls[-1])
  before: dict[int, int] = {}  # When a worker's last push arrived.
  for row in rows:
    yield from _worker(row, before.get(row.worker, row.pulled))
    before[row.worker] = row.arrived
    yield from _server(row, pulls[row.arrival])


def _worker(row: _Row, before: int) -> Iterator[dict[str, Any]]:
  """The worker's slices for a push; it waits for the pull since `before`."""
  track = _track(row.worker)
  args: dict[str, float] = {
    'pulled_version': row.pulled_version,
    'staleness': row.staleness,
  }
  if math.isfinite(row.loss):
    args['loss'] = row.loss
  if row.pulled > before:
    yield _slice('wait', track, before, row.pulled)
  if row.started > row.pulled:
    yield _slice('pull', track, row.pulled, row.started)
  yield _slice('compute', track, row.started, row.computed, args)
  yield from _arrows('t', track, row.started, [row])
  if row.arrived > row.computed:
    yield _slice('push', track, row.computed, row.arrived)


def _server(row: _Row, pulls: list[_Row]) -> Iterator[dict[str, Any]]:
  """The server's slice for a push, and the pulls that reply to it."""
  name = 'update' if row.update else 'push'
  args = {'worker': row.worker}
  yield _slice(name, _SERVER, row.seconds, row.until, args)
  yield from _arrows('f', _SERVER, row.seconds, [row])
  yield from _arrows('s', _SERVER, row.seconds, pulls)
  version = row.pulled_version + row.staleness
  counters = [
    ('staleness', 'updates', row.staleness),
    ('version', 'updates', version),
    ('loss', 'mean', row.loss),
  ]
  for name, unit, value in counters:
    if math.isfinite(value):
      event = {'ph': 'C', 'name': name, **_SERVER, 'ts': row.seconds}
      yield event | {'args': {unit: value}}


def _track(worker: int) -> dict[str, int]:
  # Perfetto needs thread ids that differ across processes. It takes the thread
  # with its process's id for the main thread.
  return {'pid': 2, 'tid': worker + 3}


def _slice(
  name: str, track: dict[str, int], begin: int, end: int, args: Any = None
) -> dict[str, Any]:
  times = {'ts': begin, 'dur': end - begin}
  return {'ph': 'X', 'name': name, **track, **times, 'args': args or {}}


def _arrows(
  phase: str, track: dict[str, int], at: int, rows: Iterable[_Row]
) -> Iterator[dict[str, Any]]:
  """The start ('s'), middle ('t') or end ('f') of these pushes' arrows.

  Yielded right after the slice: Perfetto attaches an arrow to the slice that it
  read last on the track, other readers to the slice at that time. At a slice's
  start both are the same.
  """
  bound = {'bp': 'e'} if phase == 'f' else {}
  for row in rows:
    name = {'ph': phase, 'name': 'gradient', 'cat': 'push', 'id': row.arrival}
    yield {**name, **bound, **track, 'ts': at}
