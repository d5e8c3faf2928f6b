"""Speed of the compiled simulation and of sweeps, against plain loops.

One side trains a Transformer in an ordinary loop: one jitted function, a
gradient and Adam, called for each batch. The other is `sa.simulate` of N
asynchronous workers in a random order: the dry run, the layout of batches and
the scan, without compilation. The sides take turns. Prints the median
milliseconds per gradient and the ratio to the plain loop, then the same for a
sweep of learning rates: one vmapped program against one simulation at a time.

  python -m experiments.benchmarks.simulate       # about four minutes
"""

import functools
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

import stale_adam as sa
from experiments import launch
from experiments.ledger import execute, scales, texts
from stale_adam import server, worker

PUSHES = flags.DEFINE_integer('pushes', 512, 'Number of gradients per turn.', 1)
TURNS = flags.DEFINE_integer('turns', 5, 'Number of turns per side.', 1)
WORKERS = flags.DEFINE_list(
  'workers', ['4', '16', '64', '256'], 'Numbers of workers.'
)
RATES = flags.DEFINE_integer(
  'rates', 8, 'Number of learning rates in the sweep.', 1
)


def plain(problem, optimizer, pushes):
  """An ordinary training loop."""
  init_key, key = server.keys(0)
  params = jax.jit(problem.init)(init_key)
  state = optimizer.init(params)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def update(state, params, batch, batch_id):
    loss, gradient = worker.add(
      problem.loss, None, params, batch, key, batch_id
    )
    updates, state = optimizer.update(gradient, state, params)
    return state, optax.apply_updates(params, updates), loss

  def train():
    nonlocal params, state
    for batch_id in range(pushes):
      batch = problem.batch(batch_id)
      state, params, _ = update(state, params, batch, batch_id)
    jax.block_until_ready(params)

  return train


def order(workers: int, pushes: int) -> np.ndarray:
  """Workers in order of arrival, at gamma-distributed intervals."""
  draw = np.random.default_rng(0)
  seconds = draw.gamma(9.0, size=(pushes // workers + 2, workers)).cumsum(0)
  return np.argsort(seconds, axis=None)[:pushes] % workers


def simulation(problem, optimizer, workers, pushes):
  """`sa.simulate` of asynchronous workers."""
  communication, arrivals = sa.Communication(workers), order(workers, pushes)
  devices = jax.devices()[:1]
  return lambda: jax.block_until_ready(
    sa.simulate(problem, optimizer, communication, arrivals, devices=devices)
  )


def sweep(problem, rates, pushes):
  """A sweep with four workers: (one vmapped program, one run at a time)."""
  arrivals = order(4, pushes)

  def run(rate):
    optimizer = sa.adam(rate)
    return sa.simulate(problem, optimizer, sa.Communication(4), arrivals).loss

  together, one = jax.jit(jax.vmap(run)), jax.jit(run)
  return (
    lambda: jax.block_until_ready(together(rates)),
    lambda: [jax.block_until_ready(one(rate)) for rate in rates],
  )


def measure(sides, gradients: int):
  """Median milliseconds per gradient by side; the first turn only warms up."""
  seconds = {name: [] for name in sides}
  for _ in range(TURNS.value + 1):
    for name, turn in sides.items():
      began = time.perf_counter()
      turn()
      seconds[name].append(time.perf_counter() - began)
  return {
    name: 1e3 * float(np.median(values[1:])) / gradients
    for name, values in seconds.items()
  }


def main(_):
  settings = scales.settings('tiny', 'transformer')
  task = execute.make_task(settings, texts.load('tiny', settings.pair, None))
  problem, pushes = task.problem, PUSHES.value
  optimizer = settings.transformation()
  sides = {'plain': plain(problem, optimizer, pushes)}
  for workers in map(int, WORKERS.value):
    sides[f'N={workers}'] = simulation(problem, optimizer, workers, pushes)
  found = measure(sides, pushes)
  for name, value in found.items():
    print(f'{name}: {value:.2f} ms a gradient, {value / found["plain"]:.3f}')
  rates = jnp.geomspace(1e-4, 1e-3, RATES.value)
  part = max(1, pushes // 8)
  together, apart = sweep(problem, rates, part)
  found = measure({'vmap': together, 'one by one': apart}, part * len(rates))
  for name, value in found.items():
    print(f'{len(rates)} rates, {name}: {value:.2f} ms a gradient')
  print(f'one by one / vmap: {found["one by one"] / found["vmap"]:.2f}')
  print(f'load {os.getloadavg()[0]:.1f}')


if __name__ == '__main__':
  launch.main(main)
