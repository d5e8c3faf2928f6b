"""Ratios of means: their standard errors and what they decide."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from experiments.paper.ratios import Outcome, Ratio, ratio

SCORES = st.floats(1.0, 100.0)


@hypothesis.given(st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=10))
def test_the_error_is_that_of_the_delta_method(pairs):
  """The gradient of x / y, times the covariance of the means, squared."""
  x, y = np.array(pairs).T
  gradient = np.array([1 / y.mean(), -x.mean() / y.mean() ** 2])
  variance = gradient @ np.cov(x, y) @ gradient / len(pairs)
  found = ratio(x.tolist(), y.tolist())
  assert found.value == pytest.approx(x.mean() / y.mean())
  # A difference of nearly equal numbers: the square is exact to rounding.
  rounding = 1e-12 * (gradient**2 @ [x @ x, y @ y])
  assert found.error**2 == pytest.approx(variance, rel=1e-9, abs=rounding)


@pytest.mark.parametrize(
  'seeds, outside', [(2, 0.30), (3, 0.18), (5, 0.12), (10, 0.08)]
)
def test_two_errors_miss_the_true_ratio_as_often_as_stated(seeds, outside):
  """Of normal scores whose seeds are correlated, by drawing 3,000 times."""
  rng = np.random.default_rng(seeds)
  shared, own, other = rng.normal(size=(3, 3000, seeds))
  x, y = 50 + shared + own, 100 + shared + 2 * other
  found = [ratio(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]
  missed = np.mean([abs(r.value - 0.5) > 2 * r.error for r in found])
  chance = math.sqrt(outside * (1 - outside) / len(found))
  assert abs(missed - outside) < 3 * chance + 0.005  # It has two digits.


def test_scores_in_proportion_have_no_error():
  assert ratio([1.0, 2.0, 4.0], [2.0, 4.0, 8.0]) == (0.5, 0.0)
  assert ratio([3.0, 3.0], [2.0, 2.0]) == (1.5, 0.0)


def test_one_seed_has_no_interval():
  found = ratio([3.0], [2.0])
  assert found == (1.5, None) and found.text() == '1.5'
  assert found.outcome(low=1.5) is Outcome.HOLDS
  assert found.outcome(high=1.5) is Outcome.FAILS


@pytest.mark.parametrize(
  'bounds, outcome',
  [
    # The interval is [0.25, 0.75]. Bounds include the lower one only.
    ({'low': 0.25}, Outcome.HOLDS),
    ({'low': 0.26}, Outcome.UNDECIDED),
    ({'low': 0.75}, Outcome.UNDECIDED),
    ({'low': 0.76}, Outcome.FAILS),
    ({'high': 0.76}, Outcome.HOLDS),
    ({'high': 0.75}, Outcome.UNDECIDED),
    ({'high': 0.26}, Outcome.UNDECIDED),
    ({'high': 0.25}, Outcome.FAILS),
    ({'low': 0.2, 'high': 0.8}, Outcome.HOLDS),
    ({'low': 0.4, 'high': 0.6}, Outcome.UNDECIDED),
    ({}, Outcome.HOLDS),
  ],
)
def test_the_interval_decides(bounds, outcome):
  assert Ratio(0.5, 0.125).outcome(**bounds) is outcome


def test_an_interval_below_zero_is_below_a_bound():
  """Scores near zero have an interval that reaches below it."""
  found = ratio([0.0, 0.0, 3.0], [20.0] * 3)
  assert found == pytest.approx((0.05, 0.05))
  assert found.outcome(high=0.2) is Outcome.HOLDS
  assert found.outcome(high=0.1) is Outcome.UNDECIDED


def test_text():
  assert Ratio(1.0316, 0.00712).text(unit=0.01) == '103.2 ± 1.4'
  assert Ratio(1.0316, 0.00712).text(digits=2) == '1.03 ± 0.01'
  assert Ratio(12.345, None).text(unit=0.01, digits=0) == '1,234'


def test_what_makes_no_ratio_is_refused():
  for pair in (([], []), ([1.0], []), ([1.0, 2.0], [1.0])):
    with pytest.raises(ValueError, match='needs pairs'):
      ratio(*pair)
  for nothing in ([0.0], [math.nan, 1.0], [-2.0, 1.0]):
    with pytest.raises(ValueError, match='divide nothing'):
      ratio([1.0] * len(nothing), nothing)
