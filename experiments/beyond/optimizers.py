"""Beyond the paper: other optimizers in plain asynchronous training.

  python -m experiments.beyond.optimizers --scale=tiny

Question (section 7): can an optimizer other than Adam train a plain
asynchronous Transformer, with four workers and no accumulation? Each optimizer
has a grid of learning rates; its best is compared with synchronous Adam. One
seed, or more where a deviation is shown: other tables have those. 37 runs, 3 of
them also in Tables 1 and 3; about an hour on two processor cores at `tiny`.
"""

from pathlib import Path

from experiments import command
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from experiments.render import figures
from experiments.render.report import draw as draw_curves

# On the paper's scale: another scale multiplies them as it does Adam's.
ADAM = (0.0001, 0.0002, 0.0003)
HIGHER = (*ADAM, 0.00045, 0.0006)
RATES = {
  'adam': ADAM,
  'adam b1=0.99': (0.00005, *ADAM),
  'nadam': HIGHER,
  'amsgrad': HIGHER,
  'lion': (0.00001, 0.00002, 0.00003, 0.000045, 0.00006),
  'momentum': (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
  'adafactor': (0.0003, 0.001, 0.003, 0.01),
  'muon': (0.0001, 0.0003, 0.001, 0.003),
}


def declare(optimizer: str, rate: float) -> Settings:
  """Declare a plain asynchronous run."""
  return runs.base(
    'transformer', paper.ASYNC, learning_rate=rate, optimizer=optimizer
  )


SYNCHRONOUS = runs.base('transformer', paper.SYNC)
RUNS = [SYNCHRONOUS]
RUNS += [declare(name, rate) for name, grid in RATES.items() for rate in grid]


def best(records: Records, name: str) -> Settings | None:
  """The run of an optimizer with the highest BLEU; None without records."""
  grid = [declare(name, rate) for rate in RATES[name]]
  found = [r for r in grid if records.all(r)]
  return max(found, key=records.mean, default=None)


def report(records: Records) -> str:
  """A line per optimizer: its rates, and its best beside Adam's."""
  reference = records.mean(SYNCHRONOUS)
  header = ['optimizer', 'learning rate: best BLEU', 'of synchronous Adam']
  shown = lambda r: (
    f'{r.learning_rate * records.rate_factor:.3g}: {records.cell(r)}'
  )

  def share(made):
    ours = made and records.mean(made)
    return (
      ''
      if None in (ours, reference) or not reference
      else (f'{ours / reference:.0%}')
    )

  rows = [['synchronous adam', shown(SYNCHRONOUS), share(SYNCHRONOUS)]]
  for name, grid in RATES.items():
    cells = ', '.join(shown(declare(name, rate)) for rate in grid)
    rows.append([name, cells, share(best(records, name))])
  return figures.table(header, rows)


def draw(path: Path, records: Records) -> None:
  """Draw BLEU over updates, each optimizer at its best rate."""
  tops = {name: best(records, name) for name in RATES}
  lines = {name: run for name, run in tops.items() if run}
  title = 'plain asynchronous, four workers, each optimizer at its best rate'
  draw_curves(path, records, {title: lines})


if __name__ == '__main__':
  command.main(__name__)
