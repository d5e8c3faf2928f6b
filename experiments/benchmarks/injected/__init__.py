"""Faults, injected one by one: `experiments.benchmarks.faults` runs them all.

Tests run the same functions with smaller numbers.
"""

from typing import NamedTuple


class Row(NamedTuple):
  """A line of the table.

  Attributes:
    fault: what was injected.
    tried: how often.
    failed: how often the result was wrong, missing or not in time.
    lost: what it cost, or what the failures were.
  """

  fault: str
  tried: int
  failed: int
  lost: str
