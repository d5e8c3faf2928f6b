"""What a push costs through a Ray cluster, and how many workers a server takes.

  python -m experiments.benchmarks.cluster   # three minutes; needs Ray

Gradients cost next to nothing here, so that a push is what its transport and
the server's update take. All actors are on this machine.

First: one worker, on a host thread and on an actor, in turns; parameters of a
size are in 20 matrices. `overhead` is the difference of the two medians. In it
parameters and gradient cross the object store once each; bytes a second are
held against NumPy's copy of as many bytes.

Second: `--workers` actors that sleep `--compute_seconds` for each gradient of
--served parameters. `free` is what they would push without any overhead, and
`server` the processor time that the server's process takes for a push: its
inverse is what a server on cores of its own can take. The actors' processes
share the cores with it here.
"""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import stale_adam as sa
from experiments import launch
from experiments.benchmarks import timed
from stale_adam.training import flat_problem

SIZES = flags.DEFINE_list(
  'sizes',
  ['168000', '1000000', '20000000'],
  'Parameters: by default about those of tiny and small, and 20 million.',
)
ARRAYS = 20
REPEATS = flags.DEFINE_integer('repeats', 200, 'Pushes timed, by pool.', 10)
WORKERS = flags.DEFINE_list(
  'workers', ['1', '2', '4', '8', '32'], 'Counts of actors that sleep.'
)
SERVED = flags.DEFINE_integer(
  'served', 1_000_000, 'Parameters that they train.', 1000
)
COMPUTE_SECONDS = flags.DEFINE_float(
  'compute_seconds', 0.1, 'That they sleep for a gradient.', 0.0
)
ADAM = sa.adam(1e-3)


def first(params, batch, key):
  """A loss whose gradient is written and not computed."""
  del key
  return batch * sum(jnp.sum(x) for x in jax.tree.leaves(params))


def problem(parameters: int, seconds: float = 0.0) -> sa.Problem:
  """So many parameters, as they are trained, whose batches take so long."""
  side = max(1, int((parameters / ARRAYS) ** 0.5))

  def init(key):
    del key
    return {f'matrix_{i:02}': jnp.zeros((side, side)) for i in range(ARRAYS)}

  def batch(number):
    time.sleep(seconds)
    return np.float32(1 + number % 3)

  return flat_problem.form(sa.Problem(init, first, batch), ADAM).problem


def copies(count: int):
  """Prepare one copy at a time of so many floats."""
  source = np.ones(count, np.float32)
  target = np.zeros_like(source)
  return lambda: np.copyto(target, source)


def pushes(pool, trained, workers=1):
  """Prepare to receive one push at a time."""
  arrivals = sa.serve(trained, ADAM, sa.Communication(workers), pool)

  def once():
    _, server = next(arrivals)
    jax.block_until_ready(server.params)

  return once


def overhead(parameters: int) -> str:
  """One line: a push of this size by thread and by actor."""
  trained = problem(parameters)
  with (
    sa.pools.Threads(jax.devices()[:1]) as threads,
    sa.pools.Ray() as cluster,
  ):
    sides = {
      'copy': copies(2 * parameters),
      'threads': pushes(threads, trained),
      'ray': pushes(cluster, trained),
    }
    # A large push takes as long as many small ones.
    count = max(10, min(REPEATS.value, 10**9 // parameters))
    found = timed.turns(sides, count, 20)
  copy, threads, ray = (float(np.median(found[name])) for name in sides)
  more = ray - threads
  speed = 8 * parameters / more / 1e9
  return (
    f'{parameters:,} parameters: a push by threads {1e3 * threads:.2f} ms, by '
    f'actor {1e3 * ray:.2f} ms; overhead {1e3 * more:.2f} ms, '
    f'{speed:.2f} GB/s, {100 * copy / more:.0f}% of a memory copy'
  )


def capacity(workers: int, parameters: int, seconds: float) -> str:
  """One line: pushes a second of workers that sleep, and the server's share."""
  trained = problem(parameters, seconds)
  with sa.pools.Ray() as pool:
    arrivals = sa.serve(trained, ADAM, sa.Communication(workers), pool)
    count = max(50, 20 * workers)
    for _ in itertools.islice(arrivals, 4 * workers):
      pass
    began, processor = time.monotonic(), time.process_time()
    (*_, (_, server)) = itertools.islice(arrivals, count)
    jax.block_until_ready(server.params)
    took = time.monotonic() - began
    processor = (time.process_time() - processor) / count
  free = workers / seconds if seconds else np.inf
  return (
    f'{workers} workers: {count / took:.1f} pushes/s, free {free:.1f}; server '
    f'{1e3 * processor:.2f} ms of processor a push: at most '
    f'{1 / processor:.0f} pushes/s'
  )


def main(_):
  for parameters in map(int, SIZES.value):
    print(overhead(parameters), flush=True)
  print(
    f'\nworkers that sleep {COMPUTE_SECONDS.value:g} s, {SERVED.value:,} '
    'parameters'
  )
  for workers in map(int, WORKERS.value):
    found = capacity(workers, SERVED.value, COMPUTE_SECONDS.value)
    print(found, flush=True)
  print(timed.load())


if __name__ == '__main__':
  launch.main(main)
