"""Pools that are closed while a server waits for them."""

import collections
import itertools
import random
import threading
from collections.abc import Callable, Iterator

import jax

import stale_adam as sa
from experiments.benchmarks.injected import Row, toys
from stale_adam.pools.contract import Pool

PATIENCE = 60.0  # Seconds until something counts as hung.
POOLS: dict[str, Callable[[], Pool]] = {
  'threads': lambda: sa.pools.Threads(jax.devices()[:4]),
  'virtual': lambda: sa.pools.Virtual(threads=2),
}


def threads_left() -> list[threading.Thread]:
  """Threads of pools that still live."""
  ours = ('stale_adam', 'ThreadPoolExecutor')
  return [t for t in threading.enumerate() if t.name.startswith(ours)]


def close(make: Callable[[], Pool], workers: int, rng: random.Random) -> str:
  """Close a pool at a random moment, from one other thread or from two at once.

  Returns:
    How `serve` ended: the name of what it raised, 'hung' or 'threads left'.
  """
  pool, after = make(), rng.randrange(6)
  reached, ended = threading.Event(), []

  def consume() -> None:
    numbers = sa.Communication(workers)
    try:
      arrivals = sa.serve(toys.LINEAR, toys.SGD, numbers, pool)
      for count, _ in enumerate(arrivals, 1):
        if count == after:
          reached.set()
      ended.append('an end')
    except BaseException as error:
      ended.append(type(error).__name__)
    reached.set()

  consumer = threading.Thread(target=consume, daemon=True)
  if not after:  # While it compiles, or even before.
    reached.set()
  consumer.start()
  reached.wait()
  for _ in range(int(rng.expovariate(1 / 5000))):  # Less than a push, or more.
    pass
  closers = [threading.Thread(target=pool.close) for _ in range(1 + after % 2)]
  for thread in closers:
    thread.start()
  for thread in [*closers, consumer]:
    thread.join(PATIENCE)
  if consumer.is_alive() or any(thread.is_alive() for thread in closers):
    return 'hung'
  return 'threads left' if threads_left() else ended[0]


def closes(name: str, workers: int, count: int, seed: int) -> Row:
  """Close `count` pools of a kind."""
  rng = random.Random(seed)
  found = collections.Counter(
    close(POOLS[name], workers, rng) for _ in range(count)
  )
  wrong = {how: n for how, n in found.items() if how != 'PoolClosed'}
  return Row(
    f'close, {name}, {workers} workers',
    count,
    sum(wrong.values()),
    ', '.join(f'{how}: {n}' for how, n in wrong.items()) or 'nothing',
  )


def rows(count: int, seed: int) -> Iterator[Row]:
  """Both pools, with one worker and with four."""
  for name, workers in itertools.product(POOLS, (1, 4)):
    yield closes(name, workers, count, seed)
