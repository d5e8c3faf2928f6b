"""Records by run, and what tables read from them."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.ledger import runs, scales
from experiments.ledger.settings import Settings
from stale_adam.training import record as record_lib

Record = dict[str, Any]
Score = Callable[[Record], float]


class Records:
  """The records of a scale. A subclass defines their source with `get`.

  Attributes:
    scale: a name in scales.py.
    missing: what tables show for a run without a record.
  """

  missing = 'not run yet'

  def __init__(self, scale: str):
    self.scale = scale

  def get(self, run: Settings) -> Record | None:
    """The record of a run that `runs.base` declares, or None."""
    raise NotImplementedError

  @property
  def rate_factor(self) -> float:
    """Learning rates of the scale over the paper's."""
    return scales.rate_factor(self.scale)

  def pair(self, pair: str) -> str | None:
    """The scale's counterpart of a language pair of the paper, or None."""
    return scales.SCALES[self.scale].pairs.get(pair)

  def by_seed(self, run: Settings) -> dict[int, Record]:
    """The existing records of a run, by seed, for all seeds there are."""
    found = {each.seed: self.get(each) for each in runs.every_seed(run)}
    return {seed: record for seed, record in found.items() if record}

  def all(self, run: Settings) -> list[Record]:
    """The existing records of a run, one per seed."""
    return list(self.by_seed(run).values())

  def paired(
    self, run: Settings, other: Settings, score: Score = record_lib.best
  ) -> tuple[list, list]:
    """A score of two runs, for each seed that both have; in the same order."""
    first, second = self.by_seed(run), self.by_seed(other)
    seeds = [seed for seed in first if seed in second]
    return tuple([score(of[seed]) for seed in seeds] for of in (first, second))

  def mean(self, run: Settings, score: Score = record_lib.best) -> float | None:
    """Mean of a score over the seeds; None if there is no record."""
    scores = [score(record) for record in self.all(run)]
    return statistics.fmean(scores) if scores else None

  def seconds(self, run: Settings, target: float) -> list[float | None]:
    """Virtual seconds to a target, for each seed; None if never reached."""
    return [record_lib.seconds_to(r, target) for r in self.all(run)]

  def curve(self, run: Settings, axis: str) -> tuple[np.ndarray, ...]:
    """x, and the mean, lowest and highest metric of the seeds at x.

    The curve is as long as the longest of the seeds. A seed that stopped early
    keeps its last score.
    """
    found = self.all(run)
    x = np.array([p[axis] for p in max((r['curve'] for r in found), key=len)])
    scores = []
    for record in found:
      name, points = record_lib.metric(record), record['curve']
      ys = [p[name] for p in points]
      scores.append(np.interp(x, [p[axis] for p in points], ys))
    means = np.mean(scores, axis=0)
    return x, means, np.min(scores, axis=0), np.max(scores, axis=0)

  def cell(
    self, run: Settings, score: Score = record_lib.best, digits: int = 1
  ) -> str:
    """A score over all seeds, as text for a table."""
    return spread([score(record) for record in self.all(run)], digits)


def seconds(record: Record) -> float | None:
  """Seconds that a run took; None if they are not known.

  Of a resumed run, those of training in all its processes: the provenance is
  that of the last one alone.
  """
  took = [point['seconds'] for point in record['curve'][-1:]]
  took.append(record['provenance']['seconds'])
  return max((one for one in took if one is not None), default=None)


def spread(
  numbers: Sequence[float | None], digits: int = 1, errors: float | None = None
) -> str:
  """Mean and standard deviation over the seeds, such as '31.2 ± 0.4'.

  A single number has no deviation. None means "never"; the text gives the
  number of seeds that are None. A seed whose number is NaN has diverged: then
  the others have no mean to speak of.

  Args:
    numbers: one per seed.
    digits: decimals of both.
    errors: show so many standard errors of the mean in place of the deviation.
  """
  there = [number for number in numbers if number is not None]
  if not numbers:
    return 'not run yet'
  if not there:
    return 'never'
  if lost := sum(map(math.isnan, there)):
    several = f' in {lost} of {len(numbers)}' if len(numbers) > 1 else ''
    return f'diverged{several}'
  text = f'{statistics.fmean(there):,.{digits}f}'
  if len(there) > 1:
    width = statistics.stdev(there)
    if errors is not None:
      width *= errors / math.sqrt(len(there))
    text += f' ± {width:,.{digits}f}'
  if len(there) < len(numbers):
    text += f'; {len(numbers) - len(there)} of {len(numbers)} never'
  return text
