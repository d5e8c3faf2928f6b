"""What the paper prints, in the form of records, to compare with ours."""

from math import nan

from experiments.ledger.records import Record, Records
from experiments.ledger.runs import COMMUNICATIONS, base
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from stale_adam.policy import Communication


class Printed(Records):
  """Best BLEU, speed, and time to a BLEU: Tables 1, 3, 4 and 5, section 4.3.

  One seed. What only a figure shows is missing. A curve has only the points
  whose time Table 3 gives; the paper does not give their updates.
  """

  missing = 'in a figure'

  def __init__(self):
    super().__init__('paper')
    self._printed = _tables()

  def get(self, run: Settings) -> Record | None:
    """What the paper prints for a run; None if it prints nothing."""
    return self._printed.get(run)


def _tables() -> dict[Settings, Record]:
  found = {}
  for table in (paper.TABLE1, paper.TABLE5):
    for rate, cells in table.items():
      for (model, communication), bleu in cells.items():
        run = base(model, communication, learning_rate=rate)
        found[run] = {'best_bleu': bleu, 'curve': []}
  for (model, communication), cells in paper.TABLE4.items():
    for (pair, part), bleu in cells.items():
      if part == 'validation':
        run = base(model, communication, pair=pair)
        found[run] = {'best_bleu': bleu, 'curve': []}
  rate, stale = 2 * paper.LEARNING_RATE['transformer'], paper.PULL_EVERY[3]
  for communication in (
    Communication(paper.WORKERS, synchronous=True, pull_every=stale),
    COMMUNICATIONS[paper.LOCAL],
  ):
    run = base('transformer', communication, learning_rate=rate)
    found[run] = {'best_bleu': paper.BLEU_OF_STALENESS_3_DOUBLED, 'curve': []}
  for (model, communication), row in paper.TABLE3.items():
    found[base(model, communication)] = {
      'best_bleu': row.best_bleu,
      'words_per_second': {'virtual': row.words_per_second},
      'curve': [
        {'updates': nan, 'virtual_seconds': 3600 * hours, 'bleu': bleu}
        for bleu, hours in row.hours.items()
        if hours
      ],
    }
  return found
