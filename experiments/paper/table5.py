"""Table 5: 4x global accumulation at rising learning rates, Transformer.

  python -m experiments.paper.table5 --scale=tiny

Claim (section 5.2): with 4x global accumulation the asynchronous Transformer
learns at higher rates about as well as the synchronous one; it fails only at
the highest. The score is the best validation BLEU; three seeds or more at the
first two rates. 31 runs, 20 of them also in Tables 1 and 3; about an hour on
two processor cores at `tiny`.
"""

import itertools

from experiments import command
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from experiments.render.report import by_rate

COMMUNICATIONS = (paper.SYNC, paper.ASYNC, paper.GLOBAL)


def cell(rate: float, communication: str) -> Settings:
  """Declare the run of a cell of the table."""
  return runs.base('transformer', communication, learning_rate=rate)


FIRST, SECOND, *OTHERS = paper.TABLE5
RUNS = runs.seeds(
  itertools.starmap(cell, itertools.product((FIRST, SECOND), COMMUNICATIONS))
) + list(itertools.starmap(cell, itertools.product(OTHERS, COMMUNICATIONS)))
RUNS += runs.seeds([cell(SECOND, paper.ASYNC)], runs.MORE_SEEDS)


def report(records: Records) -> str:
  """One table: a line per learning rate, ours beside the paper's."""
  columns = [('transformer', c) for c in COMMUNICATIONS]
  return by_rate(records, paper.TABLE5, columns)


if __name__ == '__main__':
  command.main(__name__)
