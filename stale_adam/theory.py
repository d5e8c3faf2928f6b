"""Closed forms to compare measurements with."""

import collections
import math
from typing import Any

import numpy as np

from stale_adam.clock import Clock


def mean_staleness(
  workers: int, global_accumulation: int = 1, pull_every: int = 1
) -> float:
  """Mean staleness of asynchronous pushes, in updates.

    (N - 1) / G + (U - 1) / 2

  Between a worker's pull and its push, the pushes of N - 1 others arrive, and
  every G-th push makes an update. A pull follows every push, and so finds each
  of the ages 0..U-1 of the published snapshot equally often. This is exact for
  equal workers over N G U pushes once each has pushed, for any local
  accumulation. For other workers it is the limit of the mean over pushes.

  Args:
    workers: N.
    global_accumulation: G, pushes per update.
    pull_every: U, updates between two published snapshots.

  Returns:
    The mean over pushes.

  Raises:
    ValueError: if a number is below 1.

  Source: the paper's section 2.3 for G = 1, Table 3 for others, section 4.3 for
    the snapshot's age; their sum is ours.
  """
  _check('workers', workers)
  _check('global_accumulation', global_accumulation)
  in_flight = (workers - 1) / global_accumulation
  return in_flight + artificial_staleness(pull_every)


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


def largest_compute(clock: Clock, workers: int) -> float:
  """Expected largest compute time of one batch on each of N workers.

    E max = integral from 0 of 1 - P(time of worker 1 < x) ... P(... N < x) dx

  Args:
    clock: compute times and speeds; the workers' times are independent.
    workers: N.

  Returns:
    Virtual seconds, to about 1e-5 of the value.

  Raises:
    ValueError: if workers is below 1.

  Source: the distribution of an order statistic, such as David and Nagaraja
    (2003), "Order Statistics", section 3.1.
  """
  _check('workers', workers)
  speeds = [clock.speeds[i % len(clock.speeds)] for i in range(workers)]
  slowest = min(speeds)
  if clock.spread == 0:
    return clock.compute_seconds / slowest
  # In mean times of the slowest worker, on a logarithmic scale: the integrand
  # is smooth there, and 1 below the grid.
  first, last = 1e-9, 1 + 10 * clock.spread + 40 * clock.spread**2
  x = np.geomspace(first, last, 20_001)
  below = np.ones_like(x)
  for speed, count in collections.Counter(speeds).items():
    below *= _below(clock, x * speed / slowest) ** count
  return (
    clock.compute_seconds / slowest * float(first + np.trapezoid(1 - below, x))
  )


def _below(clock: Clock, x: np.ndarray) -> np.ndarray:
  """P(compute time < x), for mean 1; x is a geometric sequence."""
  if clock.distribution == 'normal':
    z = (x - 1) / clock.spread / math.sqrt(2)
    found = np.array([math.erfc(-one) / 2 for one in z.tolist()])
    return np.where(x < 0.01, 0.0, found)  # Where the clock cuts it off.
  shape = clock.spread**-2
  # Of log x; its sum from above, because it may be large below the grid.
  density = np.exp(
    shape * np.log(shape * x) - shape * x - math.lgamma(shape)
  ) * math.log(x[1] / x[0])
  above = np.cumsum(density[::-1])[::-1] - density / 2
  return np.clip(1 - above, 0.0, 1.0)


def synchronous_seconds(clock: Clock, workers: int) -> float:
  """Mean virtual seconds of a synchronous update of N batches.

    E max of N compute times + pull + push + update

  Args:
    clock: the cluster.
    workers: N; local accumulation is 1.

  Raises:
    ValueError: if workers is below 1.

  Source: the clock's definition; Chen et al. (2016), "Revisiting Distributed
    Synchronous SGD", measure the same.
  """
  exchange = clock.pull_seconds + clock.push_seconds
  return largest_compute(clock, workers) + exchange + clock.update_seconds


def asynchronous_rate(
  clock: Clock, workers: int, global_accumulation: int = 1
) -> float:
  """Asynchronous pushes in a virtual second, at most.

    min(sum over workers of 1 / (mean compute + pull + push), G / update)

  No worker waits for another. The server makes an update of every G pushes, one
  at a time. Without update time this is the exact limit for any speeds and
  distribution; otherwise, a push also waits for the server, which the two
  bounds leave out.

  Args:
    clock: the cluster. The normal distribution's cut-off, which raises its mean
      where the spread is above a third, is left out too.
    workers: N; local accumulation is 1.
    global_accumulation: G, pushes per update.

  Returns:
    Pushes per virtual second; infinite if nothing takes any time.

  Raises:
    ValueError: if a number is below 1.

  Source: the elementary renewal theorem, for every worker.
  """
  _check('workers', workers)
  _check('global_accumulation', global_accumulation)
  exchange = clock.pull_seconds + clock.push_seconds
  speeds = [clock.speeds[i % len(clock.speeds)] for i in range(workers)]
  rounds = [clock.compute_seconds / speed + exchange for speed in speeds]
  sent = sum(1 / r if r else math.inf for r in rounds)
  update = clock.update_seconds / global_accumulation
  return min(sent, 1 / update if update else math.inf)


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
