"""Beyond the paper: more workers, hence more staleness.

  python -m experiments.beyond.workers --scale=tiny

Question (section 7): what happens with N = 2 to 64 workers, whose gradients are
stale by (N - 1) / G updates, if the server sums G = 1, N / 2 or N pushes? All
runs see the same words: with 64 batches per update there are a sixteenth of the
updates that four batches give, and warm-up and decay last for the same words.
Synchronous runs of N workers show what the large batch alone costs. One seed,
more where other tables have them. The server of the virtual clock answers
without delay, so speed grows with N without limit: it is an upper bound. 23
runs, 3 of them also in Table 3; about 40 minutes on two processor cores at
`tiny`.
"""

from pathlib import Path

from experiments import command
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.ledger.settings import Settings
from experiments.render import figures
from stale_adam.policy import Communication
from stale_adam.training.record import best, virtual_speed

WORKERS = (2, 4, 8, 16, 32, 64)
PUSHES = {  # Pushes that an update sums, for N workers.
  'synchronous': lambda n: n,
  'G = N': lambda n: n,
  'G = N / 2': lambda n: n // 2,
  'G = 1': lambda n: 1,
}


def declare(workers: int, kind: str) -> Settings:
  """Declare a run of `workers` workers; `kind` is a key of PUSHES."""
  synchronous = kind == 'synchronous'
  count = PUSHES[kind](workers)
  return runs.base('transformer', Communication(workers, 1, count, synchronous))


RUNS = [declare(n, kind) for n in WORKERS for kind in PUSHES]


def report(records: Records) -> str:
  """A line per number of workers and way to sum their pushes."""
  header = ['workers', 'pushes per update', 'mean staleness', '(N - 1) / G']
  header += ['updates', 'best BLEU', 'virtual seconds', 'virtual words/s']
  last = lambda field: lambda record: record['curve'][-1][field]
  rows = []
  for made in dict.fromkeys(RUNS):
    workers = made.communication.workers
    count = made.communication.pushes_per_update
    synchronous = made.communication.synchronous
    expected = 0.0 if synchronous else (workers - 1) / count
    rows.append(
      [
        str(workers),
        f'{count}, synchronous' if synchronous else str(count),
        records.cell(made, lambda r: r['mean_staleness'], 2),
        f'{expected:.2f}',
        records.cell(made, last('updates'), 0),
        records.cell(made),
        records.cell(made, last('virtual_seconds')),
        records.cell(made, virtual_speed, 0),
      ]
    )
  return figures.table(header, rows)


def draw(path: Path, records: Records) -> None:
  """Draw quality and time over the number of workers."""
  panels = {}
  for title, score in (
    ('best validation BLEU', best),
    ('virtual seconds of the run', lambda r: r['curve'][-1]['virtual_seconds']),
  ):
    panels[title] = {}
    for kind in PUSHES:
      found = {n: records.mean(declare(n, kind), score) for n in WORKERS}
      found = {n: value for n, value in found.items() if value is not None}
      panels[title][kind] = list(found), list(found.values())
  figures.curves(path, panels, 'workers N', '', log=True)


if __name__ == '__main__':
  command.main(__name__)
