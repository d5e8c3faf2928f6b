"""The order of arrivals: all that a run is, beside its problem and numbers."""

import collections
import dataclasses
import hashlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Trace:
  """Who arrived, and when.

  Attributes:
    worker: worker of the i-th arrival, int32.
    seconds: when it arrived, by the pool's clock, float64.
  """

  worker: np.ndarray
  seconds: np.ndarray

  def digest(self) -> str:
    """SHA-256 of the order of workers, in hexadecimal.

    Seconds are left out: the order alone determines a run's parameters.
    """
    return hashlib.sha256(self.worker.astype('<i4').tobytes()).hexdigest()


def staleness_histogram(staleness: list[int]) -> dict[int, int]:
  """How many pushes had each staleness, in ascending order."""
  return dict(sorted(collections.Counter(staleness).items()))
