"""The compiled simulation beside a plain training loop, and sweeps beside runs.

One side trains a Transformer by the ordinary loop: one jitted function, a
gradient and Adam, called batch after batch. The other is `sa.simulate` of N
asynchronous workers in a random order, all of it but the compilation: the dry
run, the laying out of batches, the scan. Turns alternate; milliseconds a
gradient, medians, ratio to the plain loop. Then a sweep of learning rates: one
vmapped program against one simulation after another.

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

PUSHES = flags.DEFINE_integer('pushes', 512, 'Gradients of every turn.', 1)
TURNS = flags.DEFINE_integer('turns', 5, 'Of each side.', 1)
WORKERS = flags.DEFINE_list('workers', ['4', '16', '64', '256'], 'N of each.')
RATES = flags.DEFINE_integer('rates', 8, 'Learning rates of the sweep.', 1)


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
  """Workers arrive at random times, none twice before all others did twice."""
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
  """(all in one vmapped program, one after another) of four workers."""
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
  """Median milliseconds a gradient by side; the first turn only warms up."""
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
