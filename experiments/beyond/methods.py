"""Beyond the paper: methods against staleness, under one semantics.

  python -m experiments.beyond.methods --scale=tiny

Question: which of the published methods help a Transformer under Adam, which
only help SGD, and which go together with global accumulation? All runs see the
same words, on the paper's cluster unless the table says otherwise, with four
workers that push every gradient. Methods with local updates push one change for
four batches. A method has the constants of its source (`experiments.ledger.
methods`), and its best of three or more learning rates.

Rates are chosen by short runs of three epochs, whose last BLEU decides. The
best is then run in full. The ten best methods get three seeds, and 16 workers
at the same rate; the three best of those that leave the policy alone also sum
four pushes; policies also run on clusters whose workers are unequal. T-Fixup, a
Transformer that needs no warm-up, is compared with one that has none. Targets
are 95% of the best synchronous BLEU. Dropped is the share of pushes that were
computed in vain.
"""

import dataclasses
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
from stale_adam.training.record import best, seconds_to, virtual_speed

SHARE, TOP, COMBINED = 0.95, 10, 3
SHORT = 3.0  # Epochs.
# On the paper's scale: another scale multiplies them as it does Adam's.
ADAM = (0.00015, 0.0003, 0.0006)
HIGHER = (0.0003, 0.0006, 0.0012)
LOWER = (0.000075, 0.00015, 0.0003)
SGD = (0.01, 0.03, 0.1)
MOMENTUM = (0.001, 0.003, 0.01)

PLAIN = runs.COMMUNICATIONS[paper.ASYNC]
LATE = Communication(paper.WORKERS, pull_every=2)
LOCAL = Communication(paper.WORKERS, 4)
BUFFERED = Communication(paper.WORKERS, 4, 4)
ROUNDS = Communication(paper.WORKERS, 4, synchronous=True)

# Rates and communication by method, in the order of the table.
UNCHANGED = {
  'scale_by_staleness per push': (ADAM, PLAIN),
  'scale_by_staleness': (HIGHER, PLAIN),
  'weight polynomial': (ADAM, PLAIN),
  'weight exponential': (HIGHER, PLAIN),
  'weight hinge': (HIGHER, PLAIN),
  'adapt_to_delay': (ADAM, PLAIN),
  'correct_rate': (ADAM, PLAIN),
  'scale_by_distance': (ADAM, PLAIN),
  'fadas': (HIGHER, PLAIN),
  'compensate_delay': (ADAM, PLAIN),
  'compensate_delay adaptive': (ADAM, PLAIN),
  'reduce_by_gap': (ADAM, PLAIN),
  'average_workers': (ADAM, PLAIN),
  'predict_weights': (ADAM, PLAIN),
  'drop_gradients': (ADAM, PLAIN),
  'keep_dropped': (ADAM, PLAIN),
  'send_signs': (ADAM, PLAIN),
  'quantise': (ADAM, PLAIN),
}
POLICIES = {
  'BackupWorkers 1': (ADAM, PLAIN),
  'DropStale 3': (ADAM, PLAIN),
  'FirstWorkers 3': (ADAM, PLAIN),
  'FreshPushes 4': (ADAM, PLAIN),
  'FirstToFinish 2': (ADAM, PLAIN),
  'FirstToFinish growing': (ADAM, PLAIN),
  'StaleSynchronous 1': (ADAM, PLAIN),
  'StaleSynchronous 3': (ADAM, PLAIN),
  'OneRoundLate': (ADAM, PLAIN),
  'softsync': (HIGHER, PLAIN),
}
WITHOUT_ADAM = {
  'sgd': (SGD, PLAIN),
  'dana': (MOMENTUM, PLAIN),
  'smega2': (MOMENTUM, PLAIN),
  'delayed_nesterov': (SGD, PLAIN),
  'adaptive_revision': (MOMENTUM, PLAIN),
  'elastic_average': (SGD, LOCAL),
  'compress_deeply': (MOMENTUM, PLAIN),
  'average_models': (SGD, ROUNDS),
  'downpour': (MOMENTUM, LOCAL),
  'buffered_averaging': (SGD, BUFFERED),
  'mix_models': (SGD, LOCAL),
}
LOCALLY = {
  'diloco': (ADAM, ROUNDS),
  'worker_adam': (LOWER, LOCAL),
  'delayed_nesterov of Adam': (ADAM, LOCAL),
  'buffered_averaging of Adam': (ADAM, BUFFERED),
  'mix_models of Adam': (ADAM, LOCAL),
}
# Beside the same communication without a method.
PULLING_LATE = {
  'none': (LOWER, LATE),
  'apply_own_push': (LOWER, LATE),
  'torn_reads': (LOWER, LATE),
}
TRIED = UNCHANGED | POLICIES | WITHOUT_ADAM | LOCALLY | PULLING_LATE
CAPTION = (
  'A point is the mean over the seeds of a method at its best rate. Nothing is '
  'better in both than what the line joins.'
)
UNEQUAL = ('half', 'gamma1')


def declare(method: str, rate: float, communication: Communication) -> Settings:
  """Declare a run of a method."""
  return runs.base(
    'transformer', communication, learning_rate=rate, method=method
  )


BASES = {
  'synchronous Adam': [runs.base('transformer', paper.SYNC)],
  'plain asynchronous Adam': [declare('none', r, PLAIN) for r in LOWER],
  '4x global accumulation': [runs.base('transformer', paper.GLOBAL)],
}
FULL = {
  name: [declare(name, rate, communication) for rate in rates]
  for name, (rates, communication) in TRIED.items()
}


# Without warm-up of the rate: a Transformer, and one whose beginning is small.
COLD = {
  (model, communication, rate): runs.base(
    model, communication, learning_rate=rate, warmup_updates=0
  )
  for model in ('transformer', 'tfixup')
  for communication in (paper.SYNC, paper.ASYNC, paper.GLOBAL)
  for rate in (0.00015, 0.0003)
}


def short(run: Settings) -> Settings:
  """The run that decides on a rate: fewer epochs, one validation."""
  usual = scales.SCALES['paper'].models['transformer'].budget
  return dataclasses.replace(
    run, budget=dataclasses.replace(usual, epochs=SHORT)
  )


RUNS = [*(run for of in BASES.values() for run in of), *COLD.values()]
RUNS += [short(run) for of in FULL.values() for run in of]


def chosen(records: Records) -> dict[str, Settings]:
  """The full run of every method that has all its short ones, at its rate."""
  found = {}
  for name, grid in FULL.items():
    scores = {run: records.get(short(run)) for run in grid}
    if all(scores.values()):
      found[name] = max(grid, key=lambda run: best(scores[run]) or 0.0)
  return found


def ranked(records: Records) -> list[str]:
  """Methods by the BLEU of their full run, if all have one; the best first."""
  full = {name: records.get(run) for name, run in chosen(records).items()}
  if len(full) < len(TRIED) or not all(full.values()):
    return []
  return sorted(full, key=lambda name: -best(full[name]))


def _crowded(run: Settings) -> Settings:
  numbers = dataclasses.replace(run.communication, workers=16)
  return dataclasses.replace(run, communication=numbers)


def _summed(run: Settings) -> Settings:
  numbers = dataclasses.replace(run.communication, global_accumulation=4)
  return dataclasses.replace(run, communication=numbers)


def followed(records: Records) -> list[str]:
  """The methods that are tried with more workers and seeds."""
  return ranked(records)[:TOP]


def combined(records: Records) -> list[str]:
  """The methods that are tried with global accumulation."""
  return [name for name in ranked(records) if name in UNCHANGED][:COMBINED]


def then(records: Records) -> list[Settings]:
  """The runs that follow from the records there are."""
  full = chosen(records)
  wanted = [*full.values()]
  wanted += runs.seeds(full[name] for name in followed(records))
  wanted += [_crowded(full[name]) for name in followed(records)]
  wanted += [_summed(full[name]) for name in combined(records)]
  if ranked(records):
    every = [*(full[name] for name in POLICIES), *_bases(records).values()]
    wanted += [
      dataclasses.replace(run, cluster=name)
      for run in every
      for name in UNEQUAL
    ]
    wanted += [_crowded(run) for run in _bases(records).values()]
  return wanted


def _bases(records: Records) -> dict[str, Settings]:
  """What methods are compared with; of plain runs, the best."""
  score = lambda run: records.mean(run) or 0.0
  return {name: max(grid, key=score) for name, grid in BASES.items()}


def goal(records: Records) -> float:
  """95% of the synchronous best of the lowest seed: all seeds reach it."""
  found = records.all(_bases(records)['synchronous Adam'])
  return SHARE * min(map(best, found), default=0.0)


HEADER = ['method', 'learning rate', 'best BLEU', 'mean staleness', 'dropped']
HEADER += ['kB a batch', 'words/s', 'seconds to target', 'synchronous / this']


def _row(records: Records, label: str, run: Settings) -> list[str]:
  """A line of a table; the ratio is over the seeds that both have."""
  waiting = dataclasses.replace(
    _bases(records)['synchronous Adam'], cluster=run.cluster
  )
  to_goal = lambda record: seconds_to(record, goal(records))
  taken = [to_goal(record) for record in records.all(run)]
  slow, fast = records.paired(waiting, run, to_goal)
  known = slow and None not in (*slow, *fast)
  times = ratio(slow, fast).text(digits=2) if known else '-'
  optional = lambda name, share: (
    lambda r: share * r[name] if r.get(name) is not None else float('nan')
  )
  return [
    label,
    f'{run.learning_rate * records.rate_factor:.3g}',
    records.cell(run),
    records.cell(run, lambda r: r['mean_staleness'], 2),
    f'{records.cell(run, optional("dropped_share", 100), 0)}%',
    records.cell(run, optional('bytes_per_batch', 1e-3), 0),
    records.cell(run, virtual_speed, 0),
    spread(taken),
    times,
  ]


def _table(records: Records, lines: Iterable[tuple[str, Settings]]) -> str:
  rows = [_row(records, *line) for line in lines if records.all(line[1])]
  return figures.table(HEADER, rows)


def report(records: Records) -> str:
  """Every method; with more workers; on other clusters; and combined."""
  bases, full = _bases(records), chosen(records)
  parts = [
    f'Four workers; the target is {goal(records):.1f} BLEU.',
    _table(records, [*bases.items(), *full.items()]),
  ]
  missing = [name for name in FULL if name not in full]
  if missing:
    parts.append(f'Without all of their short runs: {", ".join(missing)}.')
  if top := followed(records):
    crowd = [(name, _crowded(run)) for name, run in bases.items()]
    crowd += [(name, _crowded(full[name])) for name in top]
    sums = [(f'{n}, 4x global', _summed(full[n])) for n in combined(records)]
    parts += ['16 workers:', _table(records, crowd)]
    parts += ['With global accumulation:', _table(records, sums)]
    every = bases | {name: full[name] for name in POLICIES}
    for cluster in UNEQUAL:
      there = [
        (name, dataclasses.replace(run, cluster=cluster))
        for name, run in every.items()
      ]
      parts += [f'On the cluster `{cluster}`:', _table(records, there)]
  cold = [
    (f'{model}, {communication}', run)
    for (model, communication, _), run in COLD.items()
  ]
  parts += ['Without warm-up of the rate:', _table(records, cold)]
  parts += ['Short runs, BLEU by learning rate:', _short(records)]
  return '\n\n'.join(parts)


def _short(records: Records) -> str:
  """What decided on the rates."""
  rows = []
  for name, grid in FULL.items():
    cells = [
      f'{run.learning_rate * records.rate_factor:.3g}: '
      f'{records.cell(short(run))}'
      for run in grid
    ]
    rows.append([name, *cells])
  return figures.table(['method', 'lowest', 'middle', 'highest'], rows)


def draw(path: Path, records: Records) -> None:
  """Draw BLEU over raw speed, a point for each method, and the frontier."""
  groups = {
    'compared with': _bases(records),
    'for Adam': {n: r for n, r in chosen(records).items() if n in UNCHANGED},
    'policies': {n: r for n, r in chosen(records).items() if n in POLICIES},
    'local updates': {n: r for n, r in chosen(records).items() if n in LOCALLY},
    'without Adam': {
      n: r for n, r in chosen(records).items() if n in WITHOUT_ADAM
    },
  }
  points = {
    label: {
      name: (records.mean(run, virtual_speed), records.mean(run))
      for name, run in of.items()
      if records.all(run)
    }
    for label, of in groups.items()
  }
  figures.points(path, points, 'words/s by the virtual clock', 'best BLEU')


def possible() -> Sequence[Settings]:
  """Every run that `then` may ask for, whatever the records are."""
  full = [run for of in FULL.values() for run in of]
  bases = [run for of in BASES.values() for run in of]
  every = runs.seeds(full) + [*map(_crowded, full + bases)]
  every += [_summed(run) for n in UNCHANGED for run in FULL[n]]
  policies = bases + [run for n in POLICIES for run in FULL[n]]
  return every + [
    dataclasses.replace(run, cluster=name)
    for run in policies
    for name in UNEQUAL
  ]


if __name__ == '__main__':
  command.main(__name__)
