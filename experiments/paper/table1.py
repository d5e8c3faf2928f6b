"""Table 1: eight learning rates, synchronous and asynchronous, both models.

  python -m experiments.paper.table1 --scale=tiny

Claim (section 2.1): at every learning rate the asynchronous Transformer is
worse than the synchronous one, and at most rates it translates nothing. The RNN
loses little. The grid has the paper's ratios; its second value is near the
synchronous Transformer's best. The score is the best validation BLEU of one
seed, or of all where other tables have more; of three where the asynchronous
RNN has the highest rate, because it fails there at `tiny`. 34 runs, about an
hour and a half on two processor cores at `tiny`.
"""

import itertools

from experiments import command
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.paper import printed as paper
from experiments.render.report import by_rate

COMMUNICATIONS = (paper.SYNC, paper.ASYNC)
RUNS = [
  runs.base(model, communication, learning_rate=rate)
  for model, rate, communication in itertools.product(
    paper.LEARNING_RATE, paper.TABLE1, COMMUNICATIONS
  )
]
RUNS += runs.seeds(RUNS[-1:])[1:]


def report(records: Records) -> str:
  """One table: a line per learning rate, ours beside the paper's."""
  columns = list(itertools.product(paper.LEARNING_RATE, COMMUNICATIONS))
  return by_rate(records, paper.TABLE1, columns)


if __name__ == '__main__':
  command.main(__name__)
