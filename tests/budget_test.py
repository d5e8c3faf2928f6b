"""Tests without the mark `slow` are fast, by a clock that they turn here."""

import budget
import pytest

pytest_plugins = ['pytester']

TESTS = """
import pytest

@pytest.fixture
def costly(clock):
  clock.append(8)

def test_cheap(clock):
  clock.append(14)

def test_with_its_fixture(costly, clock):
  clock.append(8)

@pytest.mark.slow
def test_marked(clock):
  clock.append(100)

def test_that_fails_by_itself(clock):
  clock.append(100)
  assert not clock
"""


class Clock:
  """Seconds that the tests add."""

  def __init__(self):
    self.seconds = []

  def __call__(self):
    return sum(self.seconds)

  @pytest.fixture
  def clock(self):
    return self.seconds


@pytest.fixture
def outcomes(pytester):
  """Runs TESTS; reports of those that passed, and of those that failed."""
  pytester.makeini('[pytest]\nmarkers = slow')
  pytester.makepyfile(TESTS)

  def run(*arguments):
    clock = Clock()
    plugins = [clock, budget.Budget(clock)]
    passed, _, failed = pytester.inline_run(
      *arguments, plugins=plugins
    ).listoutcomes()
    return passed, failed

  return run


def test_a_test_above_the_budget_says_what_to_do(outcomes):
  (passed,), (over, own) = outcomes('-m', 'not slow')
  assert passed.head_line == 'test_cheap'
  assert over.head_line == 'test_with_its_fixture'
  assert '16.0 s of processor time, 15 s allowed' in over.longreprtext
  assert '@pytest.mark.slow' in over.longreprtext
  assert 'assert not' in own.longreprtext


def test_other_runs_have_no_budget(outcomes):
  passed, (own,) = outcomes()
  assert len(passed) == 3
  assert own.head_line == 'test_that_fails_by_itself'
