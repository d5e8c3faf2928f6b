"""Ratios of means over seeds: their standard errors, and what they decide."""

import enum
import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple


class Outcome(enum.Enum):
  """What records say of a comparison; the value is its mark in a table."""

  HOLDS = '✓'
  FAILS = '✗'
  UNDECIDED = '?'
  MISSING = ''


class Ratio(NamedTuple):
  """A ratio of two means over seeds.

  Attributes:
    value: the ratio.
    error: its standard error; None if there is one seed.
  """

  value: float
  error: float | None

  def outcome(self, low: float = -math.inf, high: float = math.inf) -> Outcome:
    """Decide whether the ratio lies in [low, high).

    The interval of two standard errors to both sides decides: it holds if all
    of the interval does, fails if none of it does, and is undecided otherwise.
    A ratio of one seed has no interval: its value alone decides.
    """
    margin = 2 * (self.error or 0.0)
    least, most = self.value - margin, self.value + margin
    if low <= least and most < high:
      return Outcome.HOLDS
    outside = most < low or high <= least
    return Outcome.FAILS if outside else Outcome.UNDECIDED

  def text(self, unit: float = 1.0, digits: int = 1) -> str:
    """The ratio and two standard errors, such as '103.2 ± 1.4'.

    Args:
      unit: what is counted; 0.01 for percent.
      digits: decimals of both numbers.
    """
    numbers = [self.value]
    numbers += [] if self.error is None else [2 * self.error]
    return ' ± '.join(f'{number / unit:,.{digits}f}' for number in numbers)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
  """Divide the means of two scores over the same seeds.

  The scores x_s and y_s of a seed s are a pair: both runs begin with the same
  parameters and read the same text in the same order. With n of them,

    r = mean(x) / mean(y),
    standard error = sd(x_s - r y_s) / (mean(y) sqrt(n)),

  where sd is the standard deviation of a sample, over n - 1. This is the delta
  method: to first order, r deviates from the true ratio by the mean of the
  residuals over the mean of y. It assumes that mean(y) is many of its own
  standard errors from zero. For few seeds two standard errors are a narrow
  interval. If the residuals are normal, the true ratio lies outside in 30% of
  all cases with two seeds, 18% with three, 12% with five and 8% with ten
  (Student's t with n - 1 degrees of freedom).

  Args:
    ours: x, a number for each seed, one at least.
    theirs: y, for the same seeds in the same order; their mean is positive.

  Raises:
    ValueError: if there are not as many numbers of both, or none, or if the
      mean of `theirs` is not positive.

  Source: W. G. Cochran, Sampling Techniques, 3rd edition, chapter 6.
  """
  if len(ours) != len(theirs) or not ours:
    raise ValueError(
      f'{len(ours)} and {len(theirs)} scores; a ratio needs pairs, one at '
      'least: give both scores of the same seeds'
    )
  below = fmean(theirs)
  if not below > 0:
    raise ValueError(f'scores of mean {below} divide nothing; it must be > 0')
  value = fmean(ours) / below
  if len(ours) == 1:
    return Ratio(value, None)
  rest = [x - value * y for x, y in zip(ours, theirs, strict=True)]
  return Ratio(value, stdev(rest) / (below * math.sqrt(len(rest))))
