"""Table 5: 4x global accumulation at rising learning rates, Transformer.

  python -m experiments.table5 --scale=tiny

Claim (section 5.2): with 4x global accumulation the asynchronous Transformer
learns at higher rates, comparably to the synchronous one; it gives way only at
the highest. Best validation BLEU, three seeds at the first two rates. 20 runs,
of which other tables share 11, about 15 minutes on two processor cores.
"""

import itertools

from experiments import command, paper, runs
from experiments.records import Records
from stale_adam import figures

COMMUNICATIONS = (paper.SYNC, paper.ASYNC, paper.GLOBAL)


def run(rate: float, communication: str) -> runs.Run:
  """The table's cell."""
  return runs.base('transformer', communication, learning_rate=rate)


FIRST, SECOND, *OTHERS = paper.TABLE5
RUNS = runs.seeds(
  itertools.starmap(run, itertools.product((FIRST, SECOND), COMMUNICATIONS))
) + list(itertools.starmap(run, itertools.product(OTHERS, COMMUNICATIONS)))


def report(records: Records) -> str:
  """One table: a line a learning rate, ours beside the paper's."""
  header = ['learning rate, paper', 'ours']
  for communication in COMMUNICATIONS:
    header += [f'{communication}, paper', 'ours']
  rows = []
  for rate, printed in paper.TABLE5.items():
    row = [f'{rate:g}', f'{rate * records.rate_factor:.3g}']
    for communication in COMMUNICATIONS:
      theirs = printed['transformer', communication]
      row += [f'{theirs:.2f}', records.cell(run(rate, communication))]
    rows.append(row)
  return figures.table(header, rows)


if __name__ == '__main__':
  command.main(__name__)
