"""Keeps `make check` fast: tests without the mark `slow` have a budget."""

import os

import pytest

# The first time a test compiles for up to six, and for twice that where other
# programs share the cores.
SECONDS = 15.0
FAST = 'not slow'  # As in `pytest -m 'not slow'`; other runs have no budget.


def processor_seconds():
  """What this process used so far, and the children that it waited for."""
  times = os.times()
  own = times.user + times.system
  return own + times.children_user + times.children_system


class Budget:
  """Fails a test that is not slow by its mark, but by its processor time.

  Counted is from its fixtures to its end, and not by the wall clock: so a busy
  machine fails no test. What several tests share counts for the first of them.
  """

  def __init__(self, spent=processor_seconds):
    self._spent = spent
    self._start = 0.0

  @pytest.hookimpl(tryfirst=True)
  def pytest_runtest_setup(self):
    self._start = self._spent()

  @pytest.hookimpl(wrapper=True, tryfirst=True)
  def pytest_runtest_call(self, item):
    result = yield
    seconds = self._spent() - self._start
    if item.config.option.markexpr == FAST and seconds > SECONDS:
      pytest.fail(
        f'{seconds:.1f} s of processor time, {SECONDS:g} s allowed: make the '
        'test faster, or mark it with @pytest.mark.slow',
        pytrace=False,
      )
    return result
