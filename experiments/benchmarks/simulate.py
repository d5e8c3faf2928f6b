"""Speed of the compiled simulation against a plain loop.

One side trains a Transformer in an ordinary loop: one jitted function, a
gradient and Adam, called for each batch. The other is `sa.simulate` of N
asynchronous workers in a random order: the dry run, the layout of batches and
the scan, without compilation. The sides take turns. Prints the median
milliseconds per gradient and the ratio to the plain loop.

  python -m experiments.benchmarks.simulate       # about three minutes
"""

import functools

import jax
import numpy as np
import optax
from absl import flags

import stale_adam as sa
from experiments import launch
from experiments.benchmarks import timed
from experiments.ledger import execute, scales, texts
from stale_adam import server, worker

PUSHES = flags.DEFINE_integer('pushes', 512, 'Number of gradients per turn.', 1)
TURNS = flags.DEFINE_integer('turns', 5, 'Number of turns per side.', 1)
WORKERS = flags.DEFINE_list(
  'workers', ['4', '16', '64', '256'], 'Numbers of workers.'
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

  def run():
    known = problem, optimizer, communication, arrivals
    jax.block_until_ready(sa.simulate(*known, devices=devices))

  return run


def main(_):
  settings = scales.settings('tiny', 'transformer')
  task = execute.make_task(settings, texts.load('tiny', settings.pair, None))
  problem, pushes = task.problem, PUSHES.value
  optimizer = settings.transformation()
  sides = {'plain': plain(problem, optimizer, pushes)}
  for workers in map(int, WORKERS.value):
    sides[f'N={workers}'] = simulation(problem, optimizer, workers, pushes)
  found = timed.turns(sides, TURNS.value, 1)
  each = {name: 1e3 * np.median(x) / pushes for name, x in found.items()}
  for name, value in each.items():
    print(f'{name}: {value:.2f} ms a gradient, {value / each["plain"]:.3f}')
  print(timed.load())


if __name__ == '__main__':
  launch.main(main)
