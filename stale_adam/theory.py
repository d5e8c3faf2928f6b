"""Closed forms to compare measurements with."""

import math
from typing import Any

import numpy as np


def mean_staleness(workers: int, global_accumulation: int = 1) -> float:
  """Mean staleness of asynchronous pushes, in updates.

    (N - 1) / G

  Between a worker's pull and its push, the pushes of N - 1 others arrive, and
  every G-th push makes an update. This is exact for equal workers once each has
  pushed, for any local accumulation. For other workers it is the limit of the
  mean over pushes.

  Args:
    workers: N.
    global_accumulation: G, pushes per update.

  Returns:
    The mean over pushes.

  Raises:
    ValueError: if a number is below 1.

  Source: the paper's section 2.3 for G = 1, Table 3 for others.
  """
  _check('workers', workers)
  _check('global_accumulation', global_accumulation)
  return (workers - 1) / global_accumulation


def artificial_staleness(pull_every: int) -> float:
  """Mean staleness with snapshots renewed every U updates: (U - 1) / 2.

  The staleness is uniform on 0..U-1.

  Args:
    pull_every: U.

  Returns:
    The mean over updates, in updates.

  Raises:
    ValueError: if pull_every is below 1.

  Source: the paper's section 4.3.
  """
  _check('pull_every', pull_every)
  return (pull_every - 1) / 2


def staleness_sum(workers: int, updates: int) -> int:
  """Staleness of all pushes so far + outstanding staleness: (N - 1) updates.

  The outstanding staleness is that of the snapshots in flight: the current
  version minus the snapshot's, summed. Every update makes N - 1 snapshots one
  older, and a push moves its staleness from one term to the other. So this is
  exact after every arrival of asynchronous workers, for any order, local and
  global accumulation.

  Args:
    workers: N.
    updates: the current version.

  Returns:
    A sum over pushes and snapshots, in updates.

  Raises:
    ValueError: if workers is below 1.

  Source: ours.
  """
  _check('workers', workers)
  return (workers - 1) * updates


def adam_pace(mean: Any, variance: Any) -> Any:
  """Adam's mean update, in learning rates.

    E g / sqrt(E g^2) = sign(E g) / sqrt(Var g / (E g)^2 + 1)

  This is the limit for b2 near 1, epsilon near 0 and independent gradients; it
  is 0 where the mean is 0. The sum of n gradients has n times the mean and n
  times the variance, so its update is larger.

  Args:
    mean: E g, a number or an array.
    variance: Var g, likewise.

  Returns:
    Numbers in -1..1, with the shape that mean and variance broadcast to.

  Raises:
    ValueError: if a variance is negative.

  Source: the paper's section 3.
  """
  if np.any(np.asarray(variance) < 0):
    raise ValueError(f'variance={variance}: use 0 or more')
  size = np.hypot(mean, np.sqrt(variance))
  return mean / np.where(size == 0, 1.0, size)


def stable_rate(curvature: float, delay: int) -> float:
  """The learning rate below which delayed gradient descent converges.

    x_{u+1} = x_u - rate curvature x_{u-d}:   2 sin(pi / (4 d + 2)) / curvature

  At this rate the largest root of z^(d+1) - z^d + rate curvature leaves the
  unit circle. Without delay the rate is 2 / curvature; with a long delay it is
  about pi / (2 d + 1) / curvature.

  Args:
    curvature: of a quadratic loss, curvature x^2 / 2; the largest if several.
    delay: d, the staleness of every gradient, in updates.

  Returns:
    The rate at which the loss neither grows nor shrinks.

  Raises:
    ValueError: if curvature is not positive or delay is negative.

  Source: Levin and May (1976), "A note on difference-delay equations".
  """
  if not curvature > 0:
    raise ValueError(f'curvature={curvature}: use a positive number')
  if delay < 0:
    raise ValueError(f'delay={delay}: it counts updates, use 0 or more')
  return 2 * math.sin(math.pi / (4 * delay + 2)) / curvature


def _check(name: str, value: float) -> None:
  if value < 1:
    raise ValueError(f'{name}={value}: use 1 or more')
