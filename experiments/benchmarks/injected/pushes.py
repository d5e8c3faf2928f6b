"""Workers that raise, come late and send NaN, on real threads."""

import itertools
import threading
import time

import jax
import numpy as np
import optax

import stale_adam as sa
from experiments.benchmarks.injected import Row, closes, toys

NUMBERS = sa.Communication(4, global_accumulation=3)
# Entries that are not numbers stay out of the sum.
ZERO_NANS = optax.zero_nans()
_PART = 2000  # Pushes that are held as arrays of JAX.


class Fault(Exception):
  """What an unreliable worker raises."""


class Unreliable:
  """Batches that cannot be read at first, come late, or are not numbers.

  Args:
    seed: of which.
    raises: share of the batches that cannot be read the first time.
    sleeps: share that comes late.
  """

  def __init__(self, seed: int, raises: float, sleeps: float = 0.1):
    self._seed, self._raises, self._sleeps = seed, raises, sleeps
    self._lock = threading.Lock()
    self.raised: set[int] = set()

  def batch(self, number: int) -> np.ndarray:
    """The batch, if it can be read."""
    raises, sleeps, late = self._draws(number)[1:]
    with self._lock:
      first = raises < self._raises and number not in self.raised
      if first:
        self.raised.add(number)
    if first:
      raise Fault(f'batch {number} cannot be read')
    if sleeps < self._sleeps:
      time.sleep(0.002 * late)
    return self.value(number)

  def value(self, number: int) -> np.ndarray:
    """The batch as it is, at once."""
    value = toys.LINEAR.batch(number)
    if self._draws(number)[0] < 0.05:
      value[number % 2] = np.nan
    return value

  def _draws(self, number: int) -> np.ndarray:
    return np.random.default_rng((self._seed, number)).random(4)


def serve(batches, count, seed):
  """Serve until `count` pushes have arrived, in a new pool after every fault.

  Returns:
    (ids in order of arrival, the trace, the last server).
  """
  problem = toys.LINEAR._replace(batch=batches.batch)
  server, state, ids, parts, pushes = None, None, [], [], []
  while len(ids) < count:
    with sa.pools.Threads(jax.devices()[:4]) as pool:
      if state:
        pool.restore(state)
      arrivals = sa.serve(
        *(problem, toys.SGD, NUMBERS, pool, seed),
        per_push=ZERO_NANS,
        resume=server,
      )
      try:
        for push, after in itertools.islice(arrivals, count - len(ids)):
          server = after
          ids += push.ids
          pushes.append(push)
          state = pool.state()
          if len(pushes) == _PART:
            parts.append(sa.Trace.of(jax.device_get(pushes)))
            pushes = []
      except Fault:
        continue
  if pushes:
    parts.append(sa.Trace.of(jax.device_get(pushes)))
  return ids, sa.Trace.joined(parts), server


def row(count: int, seed: int, raises: float = 0.002) -> Row:
  """Serve `count` pushes, and hold them against four laws.

  Every batch arrives once or is still in flight. Parameters and sum are minus
  and plus the sum of all that arrived, whatever the order. No thread is left.
  The trace replays to the same bits.
  """
  batches = Unreliable(seed, raises)
  ids, trace, server = serve(batches, count, seed)
  flying = [i for held in server.held.values() for i in held.ids]
  broken = []
  if sorted([*ids, *flying]) != [*range(server.next_id)]:
    broken.append('a batch was lost or used twice')
  summed = 0.0 if server.accumulator is None else server.accumulator
  expected = np.nansum([batches.value(i) for i in ids], axis=0)
  if not np.array_equal(summed - server.params, expected):
    broken.append('the sum is not that of the pushes')
  if closes.threads_left():
    broken.append('threads are left')
  again = sa.simulate(
    *(toys.LINEAR._replace(batch=batches.value), toys.SGD, NUMBERS),
    *(trace, seed),
    per_push=ZERO_NANS,
    devices=jax.devices()[:1],
  )
  same = (
    np.array_equal(again.params, server.params)
    and np.array_equal(again.loss, trace.columns['loss'], equal_nan=True)
    and np.array_equal(again.staleness, trace.columns['staleness'])
  )
  if not same:
    broken.append('the trace does not replay')
  nans = int(np.isnan(trace.columns['loss']).sum())
  return Row(
    f'workers that raise ({len(batches.raised)} times), sleep, send NaN '
    f'({nans})',
    len(ids),
    len(broken),
    '; '.join(broken) or 'no push',
  )
