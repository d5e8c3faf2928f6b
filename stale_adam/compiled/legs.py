"""The next pushes of several runs, laid out as rows of one program.

A leg is a part of each run, from one place to another, of any length. What a
push does (its case) is common to all runs at a row, so that the program decides
it once. So a run begins as many rows late as its sum has pushes already, and
rows where a run has no push leave it as it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from stale_adam.problem import Batch

ROWS = 16  # Of a call of the program: more are idle, or fewer are computed.


class Part(NamedTuple):
  """Pushes of one run that follow each other.

  Attributes:
    columns: as `decisions.record` has them for one device, [pushes, 1, ...].
    batch: of the run's problem.
  """

  columns: Mapping[str, np.ndarray]
  batch: Callable[[int], Batch]

  @property
  def pushes(self) -> int:
    return len(self.columns['case'])


class Rows(NamedTuple):
  """What one call of the program is told.

  Attributes:
    case: of every row, common to all runs, [rows, 1].
    columns: the others by name, [runs, rows, 1]; with `live`.
    ids: [runs, rows, L].
    batches: [runs, rows, L, ...].
  """

  case: np.ndarray
  columns: dict[str, np.ndarray]
  ids: np.ndarray
  batches: Any


class Leg:
  """A part of every run, laid out.

  Args:
    parts: of every run, not all empty; an empty one is of a run that has ended.
    versions: slots of the ring that holds versions of parameters.

  Raises:
    ValueError: if no leg has these pushes, because two runs differ in what
      pushes do after an equal number of pushes in the sum.
  """

  def __init__(self, parts: Sequence[Part], versions: int):
    self._parts = parts
    summed = [_first(part, 'summed') for part in parts if part.pushes]
    least = min(summed)
    self._starts = [max(0, _first(part, 'summed') - least) for part in parts]
    ends = [s + p.pushes for s, p in zip(self._starts, parts, strict=True)]
    count = -(-max(ends) // ROWS) * ROWS
    self._columns = {
      name: np.stack([self._laid(i, name, count) for i in range(len(parts))])
      for name in parts[0].columns
    }
    live = [
      (s <= np.arange(count)) & (np.arange(count) < e)
      for s, e in zip(self._starts, ends, strict=True)
    ]
    self._columns['live'] = np.stack(live)[..., None]
    for name in ('pulled', 'version'):
      self._columns[name] %= versions
    self._case = self._common(self._columns.pop('case'))

  def _laid(self, run: int, name: str, count: int) -> np.ndarray:
    """A column of a run; idle rows leave the version that they find."""
    part, start = self._parts[run], self._starts[run]
    column = part.columns[name]
    laid = np.zeros((count, *column.shape[1:]), column.dtype)
    laid[start : start + part.pushes] = column
    if name == 'version' and part.pushes:
      laid[:start] = _first(part, 'pulled') + _first(part, 'staleness')
      laid[start + part.pushes :] = column[-1]
    return laid

  def _common(self, cases: np.ndarray) -> np.ndarray:
    common = cases.max(axis=0)
    differs = (cases != common) & self._columns['live']
    if differs.any():
      run, row, _ = np.argwhere(differs)[0]
      raise ValueError(
        f'run {run} of the sweep has a push of case {cases[run, row, 0]} where '
        f'others have {common[row, 0]}: train together runs of one policy, '
        'that updates after a fixed number of pushes'
      )
    return common

  def rows(self) -> Iterator[Rows]:
    """What the calls of the program are told, one after another."""
    ids = self._columns.pop('ids')[:, :, 0]
    for start in range(0, len(self._case), ROWS):
      cut = slice(start, start + ROWS)
      columns = {name: x[:, cut] for name, x in self._columns.items()}
      runs = zip(self._parts, ids[:, cut], strict=True)
      batches = [
        part.batch(i) for part, own in runs for i in own.ravel().tolist()
      ]
      shape = ids[:, cut].shape
      stack = lambda *x, shape=shape: np.stack(x).reshape(
        shape + np.shape(x[0])
      )
      yield Rows(
        self._case[cut], columns, ids[:, cut], jax.tree.map(stack, *batches)
      )

  def own(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What every run has of the results of `rows`, [runs, rows] each."""
    joined = np.concatenate(rows, axis=1)
    places = zip(joined, self._starts, self._parts, strict=True)
    return [found[start : start + p.pushes] for found, start, p in places]


def _first(part: Part, name: str) -> int:
  return int(part.columns[name][0, 0]) if part.pushes else 0
