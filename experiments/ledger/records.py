"""The records of finished runs, found by the run; shared by all tables.

results/records/<scale>/<run>.json. A record counts only while its settings are
those of its scale: one that was made with others is made again.
"""

import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.ledger import scales
from experiments.ledger.runs import SEEDS, Run
from stale_adam.training import record as results

Score = Callable[[dict[str, Any]], float]  # Of a record.


def best_bleu(record: dict[str, Any]) -> float:
  """The best validation's."""
  return record['best_bleu']


def virtual_speed(record: dict[str, Any]) -> float:
  """Target words by virtual second."""
  return record['words_per_second']['virtual']


class Records:
  """The records of a scale, found by their run.

  Args:
    scale: a name in scales.py.
    directory: what --results names.
  """

  missing = 'not run yet'  # What is said of a run without a record.

  def __init__(self, scale: str, directory: Path):
    self.scale, self.directory = scale, directory / 'records' / scale
    self._found: dict[Run, dict | None] = {}

  @property
  def rate_factor(self) -> float:
    """Learning rates here over the paper's."""
    return scales.rate_factor(self.scale)

  def pair(self, pair: str) -> str | None:
    """What stands here for a language pair of the paper."""
    return scales.SCALES[self.scale].pairs.get(pair)

  def path(self, run: Run) -> Path:
    """Where its record is, or will be."""
    return self.directory / f'{run.name(self.scale)}.json'

  def get(self, run: Run) -> dict[str, Any] | None:
    """Its record; None if there is none with the scale's present settings."""
    if self._found.get(run) is None:
      self._found[run] = self._read(run)
    return self._found[run]

  def add(self, run: Run, record: dict[str, Any]) -> None:
    """Keeps a record, on disk too."""
    results.write(self.path(run), record)
    self._found[run] = results.read(self.path(run))

  def _read(self, run: Run) -> dict[str, Any] | None:
    if not self.pair(run.pair) or not self.path(run).exists():
      return None
    record = results.read(self.path(run))
    wanted = json.loads(json.dumps(run.settings(self.scale).as_dict()))
    same = all(record['config'].get(k) == v for k, v in wanted.items())
    own = (record['scale'], record['run']) == (self.scale, run.name(self.scale))
    return record if same and own else None

  def by_seed(self, run: Run) -> dict[int, dict[str, Any]]:
    """The records of a run's settings, by the seeds that there are."""
    found = {
      seed: self.get(dataclasses.replace(run, seed=seed)) for seed in SEEDS
    }
    return {seed: record for seed, record in found.items() if record}

  def all(self, run: Run) -> list[dict[str, Any]]:
    """The records of a run's settings, one for each seed there is."""
    return list(self.by_seed(run).values())

  def mean(self, run: Run, score: Score) -> float | None:
    """Mean of a score over the seeds; None if not run."""
    scores = [score(record) for record in self.all(run)]
    return statistics.fmean(scores) if scores else None

  def bleu(self, run: Run) -> float | None:
    """Mean over the seeds of the best validation BLEU; None if not run."""
    return self.mean(run, best_bleu)

  def seconds(self, run: Run, bleu: float) -> list[float | None]:
    """Virtual seconds to a BLEU, of each seed; None where it never came."""
    return [results.seconds_to_bleu(r, bleu) for r in self.all(run)]

  def curve(self, run: Run, axis: str) -> tuple[np.ndarray, ...]:
    """x, mean BLEU, lowest and highest of the seeds, over a curve's field.

    As long as the longest; one that stopped early keeps its last BLEU.
    """
    curves = [record['curve'] for record in self.all(run)]
    x = np.array([point[axis] for point in max(curves, key=len)])
    bleu = [
      np.interp(x, [p[axis] for p in curve], [p['bleu'] for p in curve])
      for curve in curves
    ]
    return x, np.mean(bleu, axis=0), np.min(bleu, axis=0), np.max(bleu, axis=0)

  def durations(self, model: str) -> list[float]:
    """Seconds that each finished run of a model took."""
    found = map(results.read, sorted(self.directory.glob(f'{model}-*.json')))
    return [record['provenance']['seconds'] for record in found]

  def cell(
    self,
    run: Run,
    score: Score = best_bleu,
    digits: int = 1,
  ) -> str:
    """A score as a table shows it, over all seeds."""
    return spread([score(record) for record in self.all(run)], digits)


def spread(numbers: Sequence[float | None], digits: int = 1) -> str:
  """Mean, and deviation over the seeds: '31.2 ± 0.4'.

  One number stands alone; of None, which stands for never, it is said how many
  there are.
  """
  there = [number for number in numbers if number is not None]
  if not numbers:
    return 'not run yet'
  if not there:
    return 'never'
  text = f'{statistics.fmean(there):,.{digits}f}'
  if len(there) > 1:
    text += f' ± {statistics.stdev(there):,.{digits}f}'
  if len(there) < len(numbers):
    text += f'; {len(numbers) - len(there)} of {len(numbers)} never'
  return text
