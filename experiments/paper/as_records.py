"""What the paper prints, in the form of records, to stand beside ours."""

from math import nan
from pathlib import Path
from typing import Any

from experiments.ledger.records import Records
from experiments.ledger.runs import COMMUNICATIONS, Run, base
from experiments.paper import printed as paper
from stale_adam.policy import Communication


class Printed(Records):
  """Best BLEU, speed, and time to a BLEU: Tables 1, 3, 4 and 5, section 4.3.

  One seed; what only a figure shows is missing. A curve has the points that
  Table 3 times, no others, and does not know after how many updates they came.
  """

  missing = 'in a figure'

  def __init__(self):
    super().__init__('paper', Path())
    self._found = _tables()

  def get(self, run: Run) -> dict[str, Any] | None:
    """What the paper prints for it, as far as it does."""
    return self._found.get(run)


def _tables() -> dict[Run, dict[str, Any]]:
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
  rate = 2 * paper.LEARNING_RATE['transformer']
  for communication in (
    Communication(4, synchronous=True, pull_every=paper.PULL_EVERY[3]),
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
