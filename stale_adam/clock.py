"""Virtual time: how long compute, push, pull and update take."""

import dataclasses
import functools
import math

import numpy as np

from stale_adam import checks

DISTRIBUTIONS = ('equal', 'normal', 'gamma')


@dataclasses.dataclass(frozen=True)
class Clock:
  """Virtual seconds that compute, push, pull and update take.

  Attributes:
    compute_seconds: mean time of one batch on a worker of speed 1.
    push_seconds: time that a whole gradient takes to the server; a compressed
      one takes less, in proportion to its bytes.
    pull_seconds: time that a snapshot takes to the worker.
    update_seconds: time of one update. The server does one thing at a time;
      arrivals wait in a queue.
    distribution: of the compute time: 'equal', 'normal' or 'gamma'.
    spread: standard deviation of the compute time / its mean.
    speeds: one factor per worker, repeated if there are fewer; a worker of
      speed 2 computes twice as fast.
    seed: of the draws.

  Raises:
    ValueError: if a duration or the spread is negative; if a speed is not
      positive; if equal workers have a spread; if the distribution is none of
      the three; if the seed is not from 0 to 2**32 - 1.
  """

  compute_seconds: float = 1.0
  push_seconds: float = 0.0
  pull_seconds: float = 0.0
  update_seconds: float = 0.0
  distribution: str = 'equal'
  spread: float = 0.0
  speeds: tuple[float, ...] = (1.0,)
  seed: int = 0

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      duration = field.name.endswith('_seconds') or field.name == 'spread'
      if duration:
        checks.real(field.name, value)
    checks.seed(self.seed)
    if self.distribution not in DISTRIBUTIONS:
      raise ValueError(
        f'distribution={self.distribution!r}: use one of {DISTRIBUTIONS}'
      )
    if self.distribution == 'equal' and self.spread:
      raise ValueError(
        f"spread={self.spread}, but distribution='equal': use 'normal' or "
        "'gamma', or a spread of 0"
      )
    if not self.speeds or not all(0 < s < math.inf for s in self.speeds):
      raise ValueError(
        f'speeds={self.speeds}: use one or more finite positive numbers'
      )

  def compute(self, worker: int, batch_id: int) -> float:
    """Seconds that a worker takes for a batch, a pure function of both.

    The normal distribution is cut off at a hundredth of the mean, so that every
    time is positive.
    """
    mean = self.compute_seconds / self.speeds[worker % len(self.speeds)]
    if self.distribution == 'equal' or self.spread == 0:
      return mean
    return mean * _drawn(self.distribution, self.spread, self.seed, batch_id)


# A generator costs more than all else that an arrival does, and clocks that
# differ in speeds or exchange draw the same.
@functools.lru_cache(maxsize=2**14)
def _drawn(distribution: str, spread: float, seed: int, batch_id: int) -> float:
  """Seconds for a batch, over their mean."""
  draw = np.random.default_rng((seed, batch_id))
  if distribution == 'normal':
    return max(0.01, draw.normal(1.0, spread))
  return draw.gamma(spread**-2, spread**2)


@functools.cache
def largest_of(workers: int) -> float:
  """Expected largest of N standard normal draws: 0, 0.564, 0.846, ...

    E max = integral of x d(Phi(x)^N)

  Args:
    workers: N.

  Returns:
    The integral, to 1e-10 for up to a million workers. The trapezoidal rule is
    that exact: the integrand is smooth and vanishes at both ends.
  """
  x, width = np.linspace(-10.0, 10.0, 1001, retstep=True)
  below = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x])
  density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
  return float(np.sum(x * workers * below ** (workers - 1) * density) * width)


def fit(
  plain: float,
  local: float,
  local_accumulation: int,
  synchronous: float,
  workers: int,
  target_words: float,
) -> Clock:
  """Fit a clock to three measured speeds, in target words per second.

  With W target words per batch, compute time c, exchange time e (a push and a
  pull) and a normal spread s of c, the speed of N workers is

    asynchronous, L locally:  N L W / (L c + e)
    synchronous:              N W / (c + c s E[largest of N] + e)

  The two asynchronous speeds determine c and e, and the synchronous one s. The
  time of an update cannot be separated from the exchange and is set to 0.

  Args:
    plain: asynchronous, L = 1.
    local: asynchronous, L = local_accumulation.
    local_accumulation: L of `local`, 2 or more.
    synchronous: synchronous, L = 1.
    workers: N.
    target_words: W, of the batches that the clock will be used for.

  Raises:
    ValueError: if there is no such clock: `local` must be between `plain` and L
      times `plain`, and `plain` must not be below `synchronous`.

  Source: the paper's Table 3, "speed (wps)".
  """
  rising = local_accumulation * plain > local > plain >= synchronous > 0
  if local_accumulation >= 2 and rising:
    batches = workers * target_words
    cycle, shared = batches / plain, batches / local
    exchange = (cycle - shared) / (1 - 1 / local_accumulation)
    compute = cycle - exchange
    wait = batches / synchronous - cycle
    if compute > 0:  # Rounding may leave nothing.
      return Clock(
        compute_seconds=compute,
        push_seconds=exchange / 2,
        pull_seconds=exchange / 2,
        distribution='normal',
        spread=wait / (compute * largest_of(workers)) if workers > 1 else 0.0,
      )
  raise ValueError(
    f'plain={plain}, local={local} at local_accumulation='
    f'{local_accumulation}, synchronous={synchronous}: no clock has these '
    'speeds; they must rise from synchronous to plain to local, and local '
    f'must be below {local_accumulation} times plain'
  )
