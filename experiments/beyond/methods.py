"""Beyond the paper: methods against staleness, under one semantics.

  python -m experiments.beyond.methods --scale=tiny

Question: which of the published methods help a Transformer under Adam, which
help SGD with momentum, and which go together with global accumulation? All runs
have as many words, on the paper's cluster unless the table says otherwise, with
four workers. Methods with local updates push one change for four batches. The
constants are in `experiments.ledger.methods`: those of the source where it has
some that fit. The rate warms up for a quarter of the scale's usual updates, and
decays after as many: with the usual warm-up of `tiny`, staleness costs little
at the best rate ([rates](rates.md)), and nothing is left to repair. One row has
that warm-up.

Words count when their push arrives, used or not; work that a policy has
abandoned is paid in time alone. Words/s are those that updates use. Dropped is
the share of gradients that no update uses, of pushes and of abandoned work.

Every row has the best of three learning rates or more, by short runs of three
epochs: the highest BLEU, and the lowest loss where none has 1 BLEU. While the
best is at an end of the grid, a rate beyond it is tried, too, four times at
most. The grid is the same for all that run Adam, divided by what a method
multiplies the rate by at staleness 3, such as 1/3 for 1 / tau. An update of
four times the batches spends four times as many of them on the warm-up, which
weighs more in a short run: a rank correlation says how well short runs foretell
full ones. Parameters are smoothed by the update, too: over more words where an
update has more.

The best rate is then run in full. The ten best methods get three seeds. They
are those with the best validation BLEU of the first seed, which favours the
lucky: see the test. All rows are tried with 16 workers, where what sums four
pushes sums 16, and the three best that leave the policy alone with 4x global
accumulation, both by short runs at three rates or more. Full runs with 16
workers follow for the ten best with four, and for the ten best of the short
runs. Policies, and what depends on staleness, also run on clusters whose
workers are unequal, at the rate that they have on the paper's. T-Fixup, a
Transformer that needs no warm-up, is compared with one that has none.

`apply_own_push` runs with `OneRoundLate`. Rennala's rule is `DropStale 0`,
Ringmaster's `DropStale N-1`, K-sync `FirstWorkers`, K-batch-sync `FreshPushes`,
K-async `FirstToFinish`, AdaSync its growing form, K-batch-async global
accumulation, FedAsync `mix_models`, FedBuff `buffered_averaging`.

Targets are 95% of the mean best BLEU of synchronous training. The clock charges
nothing for what workers and server compute besides gradients, and the
communication of `OneRoundLate` in full, although it is made to hide it.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import scipy.stats

from experiments import command
from experiments.beyond import rows
from experiments.beyond.rows import (
  BASES,
  COLD,
  CROWDED,
  GROUPS,
  POLICIES,
  ROWS,
  STALENESS,
  SYNCHRONOUS,
  UNCHANGED,
  WITHOUT_ADAM,
  Row,
)
from experiments.ledger import runs
from experiments.ledger.records import Record, Records, spread
from experiments.ledger.settings import Settings
from experiments.paper.ratios import ratio
from experiments.render import figures
from stale_adam.training import record as record_lib
from stale_adam.training.record import best, seconds_to, virtual_speed

SHARE, TOP, COMBINED = 0.95, 10, 3
CROWD = 16  # Workers.
UNEQUAL = ('half', 'gamma1')  # Clusters.
CAPTION = (
  'A point is the mean over the seeds of a method at its best rate. Nothing '
  'lies above or to the right of the line.'
)
METHODS = [name for name in ROWS if name not in BASES]
RUNS = [*rows.declared(ROWS), *rows.declared(COLD)]


def ranked(records: Records, known: Mapping[str, Settings]) -> list[str]:
  """Methods by the BLEU of their full run; nothing until all rows have one."""
  found = {name: records.get(run) for name, run in known.items()}
  if len(found) < len(ROWS) or not all(found.values()):
    return []
  return sorted(METHODS, key=lambda name: -best(found[name]))


@dataclasses.dataclass(frozen=True)
class Plan:
  """What follows from the records there are.

  Attributes:
    known: the full run of every row whose rate is known.
    top: the methods that are tried with more seeds.
    crowded: rows with 16 workers, by name.
    packed: those of them that are run in full.
    summed: rows with 4x global accumulation.
    strained: what is tried on clusters whose workers are unequal.
  """

  known: Mapping[str, Settings]
  top: Sequence[str] = ()
  crowded: Mapping[str, Row] = dataclasses.field(default_factory=dict)
  packed: Mapping[str, Row] = dataclasses.field(default_factory=dict)
  summed: Mapping[str, Row] = dataclasses.field(default_factory=dict)
  strained: Sequence[str] = ()


def plan(records: Records) -> Plan:
  """What follows from the records there are."""
  known = rows.full(records, ROWS)
  if not (order := ranked(records, known)):
    return Plan(known)
  top, rate = order[:TOP], lambda name: known[name].learning_rate
  crowded = {
    name: rows.with_more_workers(row, rate(name), CROWD)
    for name, row in ROWS.items()
  }
  methods = {name: crowded[name] for name in METHODS}
  full = [*CROWDED, *top, *rows.best(records, methods, TOP)]
  packed = {name: crowded[name] for name in full}
  summed = {
    name: rows.with_accumulation(ROWS[name], rate(name))
    for name in [name for name in order if name in UNCHANGED][:COMBINED]
  }
  strained = [*CROWDED, *STALENESS, *POLICIES]
  return Plan(known, top, crowded, packed, summed, strained)


def unequal(run: Settings) -> list[Settings]:
  """On each of the unequal clusters."""
  return [dataclasses.replace(run, cluster=name) for name in UNEQUAL]


def then(records: Records) -> list[Settings]:
  """The runs that follow from the records there are."""
  found = [*rows.wanted(records, ROWS), *rows.wanted(records, COLD)]
  made = plan(records)
  if not made.top:
    return found
  found += runs.seeds(made.known[name] for name in [*BASES, *made.top])
  found += rows.shorts(records, made.crowded)
  found += rows.full(records, made.packed).values()
  found += rows.wanted(records, made.summed)
  for name in made.strained:
    found += unequal(made.known[name])
  return found


def possible() -> Sequence[Settings]:
  """Every run that `then` may ask for, whatever the records are."""
  found = []
  for name, row in (ROWS | COLD).items():
    for rate in rows.possible(row):
      several = [row, rows.with_more_workers(row, rate, CROWD)]
      several += [rows.with_accumulation(row, rate)] * (name in UNCHANGED)
      for each in several:
        every = [each.run(one) for one in rows.possible(each)]
        found += [*map(rows.short, every), *every]
      found += [*runs.seeds([row.run(rate)]), *unequal(row.run(rate))]
  return found


def goal(records: Records, known: Mapping[str, Settings]) -> float:
  """95% of the mean of the synchronous best BLEU."""
  run = known.get(SYNCHRONOUS)
  return SHARE * ((records.mean(run) if run else None) or 0.0)


HEADER = ['method', 'learning rate', 'best BLEU', 'test', 'mean staleness']
HEADER += ['dropped', 'kB a batch', 'used words/s', 'seconds to target']
HEADER += ['synchronous / this']


def used_speed(record: Record) -> float:
  """Words a second, by the virtual clock, that updates use."""
  return virtual_speed(record) * record.get('used_share', 1.0)


class Table:
  """Tables of runs, each beside synchronous training.

  Args:
    records: of the scale.
    made: what follows from them.
  """

  def __init__(self, records: Records, made: Plan):
    self.records, self.known = records, made.known
    self.target = goal(records, made.known)
    self.crowd = rows.full(records, made.crowded).get(SYNCHRONOUS)

  def __call__(self, lines: Iterable[tuple[str, Settings]]) -> str:
    found = [self._row(*line) for line in lines if self.records.all(line[1])]
    return figures.table(HEADER, found)

  def _waiting(self, run: Settings) -> Settings | None:
    """The synchronous run on the same cluster, with as many workers."""
    crowd = run.communication.workers == CROWD
    found = self.crowd if crowd else self.known.get(SYNCHRONOUS)
    return found and dataclasses.replace(found, cluster=run.cluster)

  def _row(self, label: str, run: Settings) -> list[str]:
    """A line; the ratio is over the seeds that both have."""
    records = self.records
    to_goal = functools.partial(seconds_to, target=self.target)
    taken, times = [to_goal(record) for record in records.all(run)], '-'
    if waiting := self._waiting(run):
      slow, fast = records.paired(waiting, run, to_goal)
      if slow and None not in (*slow, *fast) and all(fast):
        times = ratio(slow, fast).text(digits=2)
    test = lambda record: (
      sum(record_lib.tests(record).values()) / len(record_lib.tests(record))
    )
    return [
      label,
      f'{run.learning_rate * records.rate_factor:.3g}',
      records.cell(run),
      records.cell(run, test),
      records.cell(run, lambda r: r['mean_staleness'], 2),
      self._known(run, 'dropped_share', 100, '%'),
      self._known(run, 'bytes_per_batch', 0.001),
      records.cell(run, used_speed, 0),
      spread(taken),
      times,
    ]

  def _known(
    self, run: Settings, field: str, times: float, unit: str = ''
  ) -> str:
    """A field that records of earlier versions lack, over those that do not."""
    found = [r[field] for r in self.records.all(run) if field in r]
    text = spread([times * value for value in found], 0)
    return text + unit if found else '-'


def difference(
  records: Records, run: Settings | None, base: Settings | None
) -> str:
  """The run's best BLEU minus that of another, such as '+3.1 ± 0.8'.

  The mean over the seeds that both have, and two standard errors of it.
  """
  if run is None or base is None or run == base:
    return '-'
  pairs = zip(*records.paired(run, base), strict=True)
  if not (found := [mine - other for mine, other in pairs]):
    return '-'
  text = spread(found, errors=2)
  return text if text.startswith('-') else f'+{text}'


def summary(
  records: Records, made: Plan, names: Iterable[str], waiting: str, without: str
) -> str:
  """What the methods of some rows change, the best first.

  Args:
    records: of the scale.
    made: what follows from them.
    names: of the rows.
    waiting: the row of synchronous training with their optimizer.
    without: the row of asynchronous training without a method.
  """
  known = made.known
  crowded = rows.full(records, made.crowded)
  summed = rows.full(records, made.summed)
  bases = [
    (known, known.get(without)),
    (known, known.get(waiting)),
    (crowded, crowded.get(without)),
    (summed, known.get('asynchronous, 4x global')),
  ]
  there = [name for name in names if name in known and records.all(known[name])]
  lines = []
  for name in sorted(there, key=lambda name: -records.mean(known[name])):
    found = [difference(records, of.get(name), base) for of, base in bases]
    lines.append([name, records.cell(known[name]), *found])
  header = ['method', 'best BLEU', f'- {without}', f'- {waiting}']
  header += [f'{CROWD} workers', '4x global']
  return figures.table(header, lines)


def report(records: Records) -> str:
  """Every method; with more workers; on other clusters; and combined."""
  made = plan(records)
  known, table = made.known, Table(records, made)
  several = lambda of: table(rows.full(records, of).items())
  crowd = lambda of: {
    name.replace('4x global', f'{CROWD}x global'): row
    for name, row in of.items()
  }
  parts = [
    'Best BLEU, ± its standard deviation over the seeds, and what a method '
    'changes, ± two standard errors: beside asynchronous and synchronous '
    'training; with 16 workers, beside as many without a method; and with 4x '
    'global accumulation, beside that alone.',
    summary(
      *(records, made, [name for name in ROWS if name not in WITHOUT_ADAM]),
      *(SYNCHRONOUS, 'asynchronous'),
    ),
    'The same without Adam:',
    summary(
      *(records, made, WITHOUT_ADAM),
      *('synchronous momentum', 'asynchronous momentum'),
    ),
    f'Four workers; the target is {table.target:.1f} BLEU.',
  ]
  for title, group in GROUPS.items():
    here = [(name, known[name]) for name in group if name in known]
    parts += [f'{title[0].upper()}{title[1:]}:', table(here)]
  missing = [name for name in ROWS if name not in known]
  if missing:
    parts.append(f'Without all of their short runs: {", ".join(missing)}.')
  if made.top:
    parts += [f'{CROWD} workers:', several(crowd(made.packed))]
    parts += ['4x global:', several(made.summed)]
    for i, cluster in enumerate(UNEQUAL):
      there = [(name, unequal(known[name])[i]) for name in made.strained]
      parts += [f'On the cluster `{cluster}`:', table(there)]
  parts += ['Without warm-up of the rate:', several(COLD)]
  parts += ['Short runs, BLEU by learning rate:', _short(records, ROWS | COLD)]
  for title, of in (
    (f'{CROWD} workers', crowd(made.crowded)),
    ('4x global', made.summed),
  ):
    parts += [f'The same, {title}:', _short(records, of)] if of else []
  return '\n\n'.join([*parts, *_foretold(records, known)])


def _short(records: Records, of: Mapping[str, Row]) -> str:
  """What decided on the rates."""
  lines = []
  for name, row in of.items():
    scores = rows.tried(records, row).items()
    cells = [
      f'{rate * records.rate_factor:.3g}: '
      + (records.missing if score is None else f'{score[-1]:.1f}')
      for rate, score in scores
    ]
    lines.append([name, ', '.join(cells)])
  return figures.table(['method', 'learning rate: BLEU'], lines)


def _foretold(records: Records, known: Mapping[str, Settings]) -> list[str]:
  """How short runs at the chosen rates rank the rows, beside full runs."""
  both = [run for run in known.values() if records.get(run)]
  fulls = [best(records.get(run)) for run in both]
  shorts = [best(records.get(rows.short(run))) for run in both]
  if min(len({*shorts}), len({*fulls})) < 2:  # No ranks.
    return []
  found = scipy.stats.spearmanr(shorts, fulls).statistic
  return [
    'The short runs at the chosen rates rank the rows as the full runs do with '
    f"Spearman's rank correlation {found:.2f}."
  ]


def draw(path: Path, records: Records) -> None:
  """Draw BLEU over raw speed, a point for each method, and the frontier."""
  known = rows.full(records, ROWS)
  points = {
    title: {
      name: (
        records.mean(known[name], used_speed),
        records.mean(known[name]),
      )
      for name in group
      if name in known and records.all(known[name])
    }
    for title, group in GROUPS.items()
  }
  label = 'words/s that updates use, by the virtual clock'
  figures.points(path, points, label, 'best BLEU')


if __name__ == '__main__':
  command.main(__name__)
