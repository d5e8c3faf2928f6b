"""The rows of the comparison of methods, and how the rate of each is found."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from experiments.ledger import runs, scales
from experiments.ledger.records import Record, Records
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from stale_adam.policy import Communication
from stale_adam.training import record as record_lib

SHORT = 3.0  # Epochs.
BEYOND = 4  # Rates that may follow at either end of a grid.
# On the paper's scale: another scale multiplies them as it does Adam's.
ADAM = (0.0002, 0.0003, 0.00045)
MOMENTUM = (0.001, 0.003, 0.01)
SGD = (0.01, 0.03, 0.1)  # Momentum makes updates 10 times as large.
NESTEROV = (0.004, 0.012, 0.04)  # Delayed, by 2.5 with four workers.
QUARTER = {'ticks_per_update': 4}  # Of the warm-up, and until the rate decays.

PLAIN = runs.COMMUNICATIONS[paper.ASYNC]
LATE = Communication(paper.WORKERS, pull_every=2)
LOCAL = runs.COMMUNICATIONS[paper.LOCAL]
BUFFERED = Communication(paper.WORKERS, 4, 4)
ROUNDS = Communication(paper.WORKERS, 4, synchronous=True)
STALE = (paper.WORKERS - 1) / PLAIN.pushes_per_update  # Mean staleness.

Weight = Callable[[float], float]
inverse: Weight = lambda staleness: 1 / max(1.0, staleness)
polynomial: Weight = lambda staleness: (1 + staleness) ** -0.5
exponential: Weight = lambda staleness: math.exp(-0.5 * staleness)
hinge: Weight = lambda staleness: 1 / (1 + 10 * max(0.0, staleness - 4))
half: Weight = lambda staleness: 0.5
one: Weight = lambda staleness: 1.0


@dataclasses.dataclass(frozen=True)
class Row:
  """What is tried: a method, and how.

  Attributes:
    method: a name of `experiments.ledger.methods`.
    rates: on the paper's scale.
    communication: of the run.
    optimizer: of the server, if the method has none.
    weight: by which the method multiplies the rate at a staleness.
    model: that is trained.
    more: settings that differ from the scale's.
  """

  method: str
  rates: tuple[float, ...] = ADAM
  communication: Communication = PLAIN
  optimizer: str = 'adam'
  weight: Weight = one
  model: str = 'transformer'
  more: Mapping[str, Any] = dataclasses.field(default_factory=QUARTER.copy)

  def run(self, rate: float) -> Settings:
    """The full run at a rate."""
    return runs.base(
      self.model,
      self.communication,
      learning_rate=rate,
      method=self.method,
      optimizer=self.optimizer,
      **self.more,
    )

  def beyond(self, end: int) -> list[float]:
    """The rates that follow below the grid (0) or above it (-1)."""
    factor = self.rates[1] / self.rates[0]
    if end == 0:
      return [self.rates[0] / factor**n for n in range(1, BEYOND + 1)]
    return [self.rates[-1] * factor**n for n in range(1, BEYOND + 1)]


def _rows(*names: str, weight: Weight = one) -> dict[str, Row]:
  rates = tuple(rate / weight(STALE) for rate in ADAM)
  return {name: Row(name, rates, weight=weight) for name in names}


SYNCHRONOUS = 'synchronous'
BASES = {
  SYNCHRONOUS: Row('none', ADAM, runs.COMMUNICATIONS[paper.SYNC]),
  'asynchronous': Row('none'),
  'asynchronous, 4x global': Row(
    'none', ADAM, runs.COMMUNICATIONS[paper.GLOBAL]
  ),
  'asynchronous, 4x local': Row('none', ADAM, LOCAL),
  'asynchronous, 4x local, 4x global': Row('none', ADAM, BUFFERED),
  'synchronous, 4x local': Row('none', ADAM, ROUNDS),
  'asynchronous, pulling late': Row('none', ADAM, LATE),
  'asynchronous, four times the warm-up': Row('none', more={}),
}
# They depend on staleness, or on what has changed meanwhile.
STALENESS = {
  **_rows('scale_by_staleness', weight=inverse),
  **_rows('weight polynomial', weight=polynomial),
  **_rows('weight exponential', weight=exponential),
  **_rows('weight hinge', weight=hinge),
  **_rows('fadas', weight=inverse),
  **_rows(
    'scale_by_staleness per push',
    'adapt_to_delay',
    'correct_rate',
    'scale_by_distance',
    'compensate_delay',
    'compensate_delay adaptive',
    'reduce_by_gap of Adam',
    'average_workers',
  ),
}
OTHERS = _rows(
  'predict_weights', 'drop_gradients', 'keep_dropped', 'send_signs', 'quantise'
)
POLICIES = {
  **_rows(
    'BackupWorkers',
    'DropStale',
    'DropStale N-1',
    'DropStale 0',
    'FirstWorkers',
    'FreshPushes',
    'FirstToFinish',
    'FirstToFinish growing',
    'StaleSynchronous 1',
    'StaleSynchronous 3',
    'OneRoundLate',
  ),
  **_rows('softsync', weight=half),
}
LATER = {
  'torn_reads': Row('torn_reads', ADAM, LATE),
  'apply_own_push': Row('apply_own_push'),
}
LOCALLY = {
  'diloco': Row('diloco', ADAM, ROUNDS),
  'worker_adam': Row('worker_adam', ADAM, LOCAL),
  'delayed_nesterov of Adam': Row('delayed_nesterov of Adam', ADAM, LOCAL),
  'buffered_averaging of Adam': Row(
    'buffered_averaging of Adam', ADAM, BUFFERED
  ),
  'mix_models of Adam': Row('mix_models of Adam', ADAM, LOCAL),
}
WITHOUT_ADAM = {
  'synchronous momentum': Row(
    'none', MOMENTUM, runs.COMMUNICATIONS[paper.SYNC], 'momentum'
  ),
  'asynchronous momentum': Row('none', MOMENTUM, PLAIN, 'momentum'),
  **{
    f'{name}, momentum': Row(name, MOMENTUM, PLAIN, 'momentum')
    for name in (
      'scale_by_distance',
      'compensate_delay',
      'compensate_delay adaptive',
      'reduce_by_gap',
      'average_workers',
    )
  },
  'scale_by_staleness per push, momentum': Row(
    'scale_by_staleness per push',
    tuple(rate / inverse(STALE) for rate in MOMENTUM),
    optimizer='momentum',
    weight=inverse,
  ),
  'dana': Row('dana', MOMENTUM),
  'smega2': Row('smega2', MOMENTUM),
  'delayed_nesterov': Row('delayed_nesterov', NESTEROV),
  'adaptive_revision': Row('adaptive_revision', SGD),
  'elastic_average': Row('elastic_average', SGD, LOCAL),
  'compress_deeply': Row('compress_deeply', MOMENTUM),
  'average_models': Row('average_models', SGD, ROUNDS),
  'downpour': Row('downpour', MOMENTUM, LOCAL),
  'buffered_averaging': Row('buffered_averaging', SGD, BUFFERED),
  'mix_models': Row('mix_models', SGD, LOCAL),
}
GROUPS = {
  'no method': BASES,
  'by staleness': STALENESS,
  'other methods for Adam': OTHERS | LATER,
  'policies': POLICIES,
  'local Adam': LOCALLY,
  'without Adam': WITHOUT_ADAM,
}
ROWS = {name: row for group in GROUPS.values() for name, row in group.items()}
METHODS = [name for name in ROWS if name not in BASES]
UNCHANGED = STALENESS | OTHERS  # They leave the policy alone.
CROWDED = [SYNCHRONOUS, 'asynchronous', 'asynchronous, 4x global']
# Without warm-up: a Transformer, and one with small initial weights.
COLD = {
  f'{model}, {way}': Row(
    'none',
    ADAM,
    runs.COMMUNICATIONS[way],
    model=model,
    more={'warmup_updates': 0},
  )
  for model in ('transformer', 'tfixup')
  for way in (paper.SYNC, paper.ASYNC, paper.GLOBAL)
}


def with_more_workers(row: Row, rate: float, workers: int) -> Row:
  """The row with more workers, around half of the rate that it had.

  That is the rate times the method's weight, at the staleness of so many.
  """
  more = {'workers': workers}
  if row.communication.global_accumulation > 1:
    more['global_accumulation'] = workers
  numbers = dataclasses.replace(row.communication, **more)
  rate *= row.weight(STALE) / row.weight(workers - 1)
  rates = tuple(rate * times for times in (0.25, 0.5, 1.0))
  return dataclasses.replace(row, communication=numbers, rates=rates)


def with_accumulation(row: Row, rate: float) -> Row:
  """The row with 4x global accumulation, which leaves staleness 0.75.

  Its rates are around the one that it had, times the method's weight.
  """
  numbers = dataclasses.replace(row.communication, global_accumulation=4)
  rate *= row.weight(STALE) / row.weight(STALE / 4)
  rates = tuple(rate * times for times in (0.5, 1.0, 2.0))
  return dataclasses.replace(row, communication=numbers, rates=rates)


def short(run: Settings) -> Settings:
  """The run that decides on a rate: few epochs, validated at their end."""
  usual = scales.SCALES['paper'].models[run.model].budget
  budget = dataclasses.replace(usual, epochs=SHORT, validate_every=2**30)
  return dataclasses.replace(run, budget=budget)


# How good a short run is: its last BLEU; its loss below 0, which decides where
# BLEU is equal; and BLEU again as it is, to be shown. Below 1 nothing is
# translated, BLEU is chance, and counts as 0. None if the run is missing.
Score = tuple[float, float, float] | None


def _score(record: Record | None) -> Score:
  if not record:
    return None
  last = record['curve'][-1]
  loss = last.get('validation_loss')
  known = loss is not None and math.isfinite(loss)
  bleu = last[record_lib.metric(record)]
  counted = bleu if bleu >= 1 else 0.0
  return counted, -loss if known else -math.inf, bleu


def tried(records: Records, row: Row) -> dict[float, Score]:
  """The scores of all short runs by rate, in ascending order.

  The grid, and while the best is at an end of it, the next rate beyond.
  """
  score = lambda rate: _score(records.get(short(row.run(rate))))
  found = {rate: score(rate) for rate in row.rates}
  below, above = row.beyond(0), row.beyond(-1)
  while None not in found.values():
    rates = sorted(found)
    top = max(found, key=found.__getitem__)
    if top == rates[0] and below:
      rate = below.pop(0)
    elif top == rates[-1] and above:
      rate = above.pop(0)
    else:
      break
    found[rate] = score(rate)
  return dict(sorted(found.items()))


def chosen(records: Records, rows: Mapping[str, Row]) -> dict[str, float]:
  """The best rate of every row that has all its short runs."""
  found = {name: tried(records, row) for name, row in rows.items()}
  return {
    name: max(scores, key=scores.__getitem__)
    for name, scores in found.items()
    if None not in scores.values()
  }


def full(records: Records, rows: Mapping[str, Row]) -> dict[str, Settings]:
  """The full runs at the chosen rates."""
  known = chosen(records, rows)
  return {name: rows[name].run(rate) for name, rate in known.items()}


def best(records: Records, rows: Mapping[str, Row], count: int) -> list[str]:
  """The best rows by short runs, once all rows have theirs."""
  if len(chosen(records, rows)) < len(rows):
    return []
  top = {name: max(tried(records, row).values()) for name, row in rows.items()}
  return sorted(top, key=top.__getitem__, reverse=True)[:count]


def shorts(records: Records, rows: Mapping[str, Row]) -> list[Settings]:
  """The short runs of rows, those beyond the grids included."""
  return [
    short(row.run(rate))
    for row in rows.values()
    for rate in tried(records, row)
  ]


def wanted(records: Records, rows: Mapping[str, Row]) -> list[Settings]:
  """The short runs of rows, and the full ones that follow from them."""
  return [*shorts(records, rows), *full(records, rows).values()]


def possible(row: Row) -> list[float]:
  """Every rate that may be tried."""
  return [*row.beyond(0), *row.rates, *row.beyond(-1)]


def declared(rows: Mapping[str, Row]) -> list[Settings]:
  """The short runs of the grids."""
  return [short(row.run(rate)) for row in rows.values() for rate in row.rates]
