"""Compares a replay with the run that it repeats, push by push."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments.ledger import directory
from stale_adam.trace import Trace

# What the order, the parameters and the text determine.
COMPARED = ('pulled_version', 'staleness', 'loss')
_CAUSES = {
  'device': 'another processor',
  'devices': 'another number of devices',
  'versions': 'other versions',
  'commit': 'another commit of the program',
  'text': 'another text',
}
_UNKNOWN = (
  'none that the trace records; perhaps another text, version or processor, or '
  'the file was changed'
)


def differs(recorded: Trace, replayed: Trace) -> str | None:
  """Describe the first push that differs, with likely causes.

  Args:
    recorded: the trace of the run.
    replayed: the trace of its replay.

  Returns:
    None if both are equal bit for bit: workers, pulled versions, staleness and
    losses.
  """
  found = _first(recorded, replayed)
  if found is None:
    return None
  causes = list(_causes(recorded.settings, replayed.settings))
  return f'{found}; likely cause: {", ".join(causes) or _UNKNOWN}'


def _first(recorded: Trace, replayed: Trace) -> str | None:
  names = [n for n in COMPARED if n in recorded.columns]
  there = {'worker': recorded.worker, **{n: recorded.columns[n] for n in names}}
  here = {'worker': replayed.worker, **{n: replayed.columns[n] for n in names}}
  both = min(len(recorded), len(replayed))
  unequal = {n: _unequal(there[n][:both], here[n][:both]) for n in there}
  where = {n: int(np.argmax(u)) for n, u in unequal.items() if u.any()}
  if where:
    push = min(where.values())
    values = [
      f'{name} {there[name][push]} recorded, {here[name][push]} replayed'
      for name in where
      if where[name] == push
    ]
    return f'push {push + 1} of {len(recorded)} differs: {"; ".join(values)}'
  if len(recorded) != len(replayed):
    return f'{len(recorded)} pushes recorded, {len(replayed)} replayed'
  return None


def _unequal(there: np.ndarray, here: np.ndarray) -> np.ndarray:
  """Where the bits differ; the same not-a-number is equal to itself."""
  bits = lambda x: x.view(f'u{x.itemsize}') if x.dtype.kind == 'f' else x
  if there.dtype != here.dtype:
    return np.ones(len(there), bool)
  return bits(np.ascontiguousarray(there)) != bits(np.ascontiguousarray(here))


def _causes(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
  there, here = ({**s, **s.get('problem', {})} for s in (there, here))
  for name, said in _CAUSES.items():
    if name in there and there[name] != here.get(name):
      parts = directory.differences(there[name], here.get(name), name)
      yield f'{said} ({"; ".join(parts)})'
