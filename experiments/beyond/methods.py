"""Beyond the paper: methods against staleness, under one semantics.

  python -m experiments.beyond.methods --scale=tiny

Question: which of the published methods help a Transformer under Adam, which
help SGD with momentum, and which go together with global accumulation? All runs
see the same words, on the paper's cluster unless the table says otherwise, with
four workers. Methods with local updates push one change for four batches. The
constants are in `experiments.ledger.methods`: those of the source where it has
some.

Every row has the best of three learning rates or more, by short runs of three
epochs. If the best is at an end of the grid, a rate beyond it is tried, too.
The grid is the same for all that run Adam, times the factor by which a method
lowers the rate at staleness 3, such as 3 for 1 / tau. An update of four times
the batches spends four times as many of them on the warm-up, which weighs more
in a short run. The best is then run in full. The ten best methods get three
seeds. They are those with the best validation BLEU of the first seed, which
favours the lucky: see the test. They also run with 16 workers, and the three
best that leave the policy alone sum four pushes, each at the same rate and at
half or twice of it. Policies, and those of the ten that depend on staleness,
also run on clusters whose workers are unequal. T-Fixup, a Transformer that
needs no warm-up, is compared with one that has none.

Targets are 95% of the best synchronous BLEU. Dropped is the share of gradients
that no update uses. The clock charges nothing for what workers and server
compute besides gradients, and the communication of `OneRoundLate` in full,
although it is made to hide it.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments import command
from experiments.ledger import runs, scales
from experiments.ledger.records import Records, spread
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from experiments.paper.ratios import ratio
from experiments.render import figures
from stale_adam.policy import Communication
from stale_adam.training import record as record_lib
from stale_adam.training.record import best, seconds_to, virtual_speed

SHARE, TOP, COMBINED = 0.95, 10, 3
SHORT = 3.0  # Epochs.
CAPTION = (
  'A point is the mean over the seeds of a method at its best rate. Nothing is '
  'better in both than what the line joins.'
)
UNEQUAL = ('half', 'gamma1')
# On the paper's scale: another scale multiplies them as it does Adam's.
ADAM = (0.00015, 0.0003, 0.0006)
SGD = (0.01, 0.03, 0.1)
MOMENTUM = (0.001, 0.003, 0.01)

PLAIN = runs.COMMUNICATIONS[paper.ASYNC]
LATE = Communication(paper.WORKERS, pull_every=2)
LOCAL = runs.COMMUNICATIONS[paper.LOCAL]
BUFFERED = Communication(paper.WORKERS, 4, 4)
ROUNDS = Communication(paper.WORKERS, 4, synchronous=True)


@dataclasses.dataclass(frozen=True)
class Row:
  """What is tried: a method, and how.

  Attributes:
    method: a name of `experiments.ledger.methods`.
    rates: on the paper's scale.
    communication: of the run.
    optimizer: of the server, if the method has none.
  """

  method: str
  rates: tuple[float, ...] = ADAM
  communication: Communication = PLAIN
  optimizer: str = 'adam'

  def run(self, rate: float) -> Settings:
    """The full run at a rate."""
    return runs.base(
      'transformer',
      self.communication,
      learning_rate=rate,
      method=self.method,
      optimizer=self.optimizer,
    )

  @property
  def beyond(self) -> tuple[float, float]:
    """The rates that follow at both ends of the grid."""
    first, second, *_ = self.rates
    return first * first / second, self.rates[-1] * second / first


def _rows(*names: str, times: float = 1.0) -> dict[str, Row]:
  rates = tuple(times * rate for rate in ADAM)
  return {name: Row(name, rates) for name in names}


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
}
# They depend on staleness, or on what has changed meanwhile.
STALENESS = {
  **_rows('scale_by_staleness', times=3),
  **_rows('weight polynomial', times=2),
  **_rows('weight exponential', times=4.5),
  **_rows('weight hinge', times=11),
  **_rows('fadas', times=3),
  **_rows(
    'scale_by_staleness per push',
    'adapt_to_delay',
    'correct_rate',
    'scale_by_distance',
    'compensate_delay',
    'compensate_delay adaptive',
    'reduce_by_gap',
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
    'FirstWorkers',
    'FreshPushes',
    'FirstToFinish',
    'FirstToFinish growing',
    'StaleSynchronous 1',
    'StaleSynchronous 3',
    'OneRoundLate',
  ),
  **_rows('softsync', times=2),
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
      'scale_by_staleness per push',
      'compensate_delay',
      'compensate_delay adaptive',
      'reduce_by_gap',
      'average_workers',
    )
  },
  'dana': Row('dana', MOMENTUM),
  'smega2': Row('smega2', MOMENTUM),
  'delayed_nesterov': Row('delayed_nesterov', SGD),
  'adaptive_revision': Row('adaptive_revision', MOMENTUM),
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
  (model, communication, rate): runs.base(
    model, communication, learning_rate=rate, warmup_updates=0
  )
  for model in ('transformer', 'tfixup')
  for communication in (paper.SYNC, paper.ASYNC, paper.GLOBAL)
  for rate in (0.00015, 0.0003)
}


def short(run: Settings) -> Settings:
  """The run that decides on a rate: few epochs, validated at their end."""
  usual = scales.SCALES['paper'].models['transformer'].budget
  budget = dataclasses.replace(usual, epochs=SHORT, validate_every=2**30)
  return dataclasses.replace(run, budget=budget)


RUNS = [short(row.run(rate)) for row in ROWS.values() for rate in row.rates]
RUNS += COLD.values()


def tried(records: Records, row: Row) -> dict[float, float | None]:
  """The last BLEU of every short run by rate; None if it is missing.

  The grid, and the rate beyond its end if the best is there.
  """

  def score(rate: float) -> float | None:
    found = records.get(short(row.run(rate)))
    return found and found['curve'][-1][record_lib.metric(found)]

  found = {rate: score(rate) for rate in row.rates}
  if None not in found.values():
    top = max(found, key=found.__getitem__)
    lower, higher = row.beyond
    if top == row.rates[0]:
      found = {lower: score(lower)} | found
    if top == row.rates[-1]:
      found[higher] = score(higher)
  return found


def chosen(records: Records) -> dict[str, float]:
  """The best rate of every row that has all its short runs."""
  found = {name: tried(records, row) for name, row in ROWS.items()}
  return {
    name: max(scores, key=scores.__getitem__)
    for name, scores in found.items()
    if None not in scores.values()
  }


def full(records: Records) -> dict[str, Settings]:
  """The full runs of the chosen rates."""
  return {n: ROWS[n].run(rate) for n, rate in chosen(records).items()}


def ranked(records: Records) -> list[str]:
  """Methods by the BLEU of their full run; nothing until all rows have one."""
  found = {name: records.get(run) for name, run in full(records).items()}
  if len(found) < len(ROWS) or not all(found.values()):
    return []
  return sorted(METHODS, key=lambda name: -best(found[name]))


def followed(records: Records) -> list[str]:
  """The methods that are tried with more seeds and workers."""
  return ranked(records)[:TOP]


def strained(records: Records) -> list[str]:
  """What is tried on clusters whose workers are unequal."""
  if not (top := followed(records)):
    return []
  return [*CROWDED, *(n for n in top if n in STALENESS), *POLICIES]


def combined(records: Records) -> list[str]:
  """The methods that are tried with global accumulation."""
  return [name for name in ranked(records) if name in UNCHANGED][:COMBINED]


def _with(run: Settings, times: float, **numbers: int) -> Settings:
  """A run with other numbers of communication, at a multiple of its rate."""
  return dataclasses.replace(
    run,
    communication=dataclasses.replace(run.communication, **numbers),
    learning_rate=times * run.learning_rate,
  )


def crowded(run: Settings) -> list[Settings]:
  """With 16 workers, at the same rate and at half of it."""
  more = {'workers': 16}
  if run.communication.global_accumulation > 1:
    more['global_accumulation'] = 16
  return [_with(run, times, **more) for times in (1.0, 0.5)]


def summed(run: Settings) -> list[Settings]:
  """With global accumulation, at the same rate and at twice of it."""
  return [_with(run, times, global_accumulation=4) for times in (1.0, 2.0)]


def unequal(run: Settings) -> list[Settings]:
  """On each of the unequal clusters."""
  return [dataclasses.replace(run, cluster=name) for name in UNEQUAL]


def then(records: Records) -> list[Settings]:
  """The runs that follow from the records there are."""
  wanted = [
    short(row.run(rate))
    for row in ROWS.values()
    for rate in tried(records, row)
  ]
  known = full(records)
  wanted += known.values()
  if not (top := followed(records)):
    return wanted
  wanted += runs.seeds(known[name] for name in [*BASES, *top])
  for name in [*CROWDED, *top]:
    wanted += crowded(known[name])
  for name in combined(records):
    wanted += summed(known[name])
  for name in strained(records):
    wanted += unequal(known[name])
  return wanted


def possible() -> Sequence[Settings]:
  """Every run that `then` may ask for, whatever the records are."""
  wanted = []
  for name, row in ROWS.items():
    ends = [row.run(rate) for rate in row.beyond]
    every = [*ends, *map(row.run, row.rates)]
    wanted += [*map(short, ends), *runs.seeds(every)]
    wanted += [more for run in every for more in crowded(run)]
    if name in UNCHANGED:
      wanted += [more for run in every for more in summed(run)]
    if name in [*CROWDED, *STALENESS, *POLICIES]:
      wanted += [more for run in every for more in unequal(run)]
  return wanted


def goal(records: Records) -> float:
  """95% of the mean of the synchronous best BLEU."""
  run = full(records).get(SYNCHRONOUS)
  return SHARE * ((records.mean(run) if run else None) or 0.0)


HEADER = ['method', 'learning rate', 'best BLEU', 'test', 'mean staleness']
HEADER += ['dropped', 'kB a batch', 'words/s', 'seconds to target']
HEADER += ['synchronous / this']


def _waiting(records: Records, run: Settings) -> Settings | None:
  """The synchronous run on the same cluster, with as many workers."""
  found = full(records).get(SYNCHRONOUS)
  if not found:
    return None
  workers = run.communication.workers
  return dataclasses.replace(
    _with(found, 1.0, workers=workers), cluster=run.cluster
  )


def _row(
  records: Records, target: float, label: str, run: Settings
) -> list[str]:
  """A line of a table; the ratio is over the seeds that both have."""
  to_goal = functools.partial(seconds_to, target=target)
  taken, times = [to_goal(record) for record in records.all(run)], '-'
  if waiting := _waiting(records, run):
    slow, fast = records.paired(waiting, run, to_goal)
    if slow and None not in (*slow, *fast) and all(fast):
      times = ratio(slow, fast).text(digits=2)
  test = lambda record: (
    sum(record_lib.tests(record).values()) / len(record_lib.tests(record))
  )
  # Records of earlier versions do not have all of this.
  known = lambda name, times: lambda r: times * r.get(name, math.nan)
  return [
    label,
    f'{run.learning_rate * records.rate_factor:.3g}',
    records.cell(run),
    records.cell(run, test),
    records.cell(run, lambda r: r['mean_staleness'], 2),
    f'{records.cell(run, known("dropped_share", 100), 0)}%',
    records.cell(run, known('bytes_per_batch', 0.001), 0),
    records.cell(run, virtual_speed, 0),
    spread(taken),
    times,
  ]


def _table(
  records: Records, lines: Iterable[tuple[str, Settings]], target: float
) -> str:
  rows = [_row(records, target, *x) for x in lines if records.all(x[1])]
  return figures.table(HEADER, rows)


def report(records: Records) -> str:
  """Every method; with more workers; on other clusters; and combined."""
  known, target = full(records), goal(records)
  table = lambda lines: _table(records, lines, target)
  several = lambda names, more: [
    (name, run) for name in names for run in more(known[name])
  ]
  parts = [f'Four workers; the target is {target:.1f} BLEU.']
  for title, group in GROUPS.items():
    here = [(name, known[name]) for name in group if name in known]
    parts += [f'{title[0].upper()}{title[1:]}:', table(here)]
  missing = [name for name in ROWS if name not in known]
  if missing:
    parts.append(f'Without all of their short runs: {", ".join(missing)}.')
  if top := followed(records):
    parts += ['16 workers:', table(several([*CROWDED, *top], crowded))]
    parts += ['4x global:', table(several(combined(records), summed))]
    for i, cluster in enumerate(UNEQUAL):
      there = [(n, unequal(known[n])[i]) for n in strained(records)]
      parts += [f'On the cluster `{cluster}`:', table(there)]
  cold = [(f'{model}, {way}', run) for (model, way, _), run in COLD.items()]
  parts += ['Without warm-up of the rate:', table(cold)]
  parts += ['Short runs, BLEU by learning rate:', _short(records)]
  return '\n\n'.join(parts)


def _short(records: Records) -> str:
  """What decided on the rates."""
  rows = []
  for name, row in ROWS.items():
    scores = tried(records, row).items()
    cells = [
      f'{rate * records.rate_factor:.3g}: '
      + (records.missing if score is None else f'{score:.1f}')
      for rate, score in scores
    ]
    rows.append([name, ', '.join(cells)])
  return figures.table(['method', 'learning rate: BLEU'], rows)


def draw(path: Path, records: Records) -> None:
  """Draw BLEU over raw speed, a point for each method, and the frontier."""
  known = full(records)
  points = {
    title: {
      name: (
        records.mean(known[name], virtual_speed),
        records.mean(known[name]),
      )
      for name in group
      if name in known and records.all(known[name])
    }
    for title, group in GROUPS.items()
  }
  figures.points(path, points, 'words/s by the virtual clock', 'best BLEU')


if __name__ == '__main__':
  command.main(__name__)
