"""Clusters that a run can be timed on: the paper's, and changes of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from stale_adam.clock import Clock

PAPER = 'paper'


def _with(**changes: Any) -> Callable[[Clock], Clock]:
  return lambda fitted: dataclasses.replace(fitted, **changes)


def _gamma(spread: float) -> Callable[[Clock], Clock]:
  return _with(distribution='gamma', spread=spread)


def _exchange(share: float) -> Callable[[Clock], Clock]:
  """Push and pull together take this share of the mean compute time."""

  def change(fitted: Clock) -> Clock:
    half = share * fitted.compute_seconds / 2
    return dataclasses.replace(fitted, push_seconds=half, pull_seconds=half)

  return change


# What each makes of the clock that is fitted to the paper's four workers. The
# fastest comes first: a fifth worker is another one of that speed.
CLUSTERS: Mapping[str, Callable[[Clock], Clock]] = {
  PAPER: _with(),
  'gamma0.25': _gamma(0.25),
  'gamma0.5': _gamma(0.5),
  'gamma1': _gamma(1.0),
  'half': _with(speeds=(1.0, 1.0, 1.0, 0.5)),
  'mixed': _with(speeds=(2.6, 2.0, 1.3, 1.0)),
  'exchange0.05': _exchange(0.05),
  'exchange0.1': _exchange(0.1),
  'exchange0.25': _exchange(0.25),
  'exchange0.5': _exchange(0.5),
}
