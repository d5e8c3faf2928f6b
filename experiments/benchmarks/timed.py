"""Timing for benchmarks: sides take turns, so that the load is the same."""

import os
import time
from collections.abc import Callable, Mapping

import numpy as np


def turns(
  sides: Mapping[str, Callable[[], float | None]],
  count: int,
  warm_up: int = 3,
) -> dict[str, np.ndarray]:
  """Run every side `warm_up + count` times, in turn.

  Args:
    sides: by name, what to time. What it returns are its seconds, so that it
      can prepare something first; if it returns None, the whole call is timed.
    count: turns that are timed.
    warm_up: turns before, in which everything is compiled.

  Returns:
    The seconds of every turn, by side.
  """
  seconds: dict[str, list[float]] = {name: [] for name in sides}
  for _ in range(warm_up + count):
    for name, run in sides.items():
      began = time.perf_counter()
      found = run()
      whole = time.perf_counter() - began
      seconds[name].append(whole if found is None else found)
  return {name: np.array(found[warm_up:]) for name, found in seconds.items()}


def load() -> str:
  """The processes that want a core, to be printed beside every figure."""
  return f'load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores'
