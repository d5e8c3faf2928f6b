"""Speed of the server's push against a memory copy, in gigabytes per second.

A push that updates reads the gradient, both moments and the parameters, and
writes both moments and the parameters: 28 bytes per parameter, with 4-byte
floats. Four workers hold snapshots meanwhile, so that no parameter's memory may
be reused. `copy` is NumPy's (the C library's) copy of one float per parameter,
read and written. `usual` is the same optimizer jitted in the obvious way,
`(gradient, state, params) -> (params, state)`, the last two donated and no
snapshot held.

  python -m experiments.benchmarks.push          # about a minute
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
from stale_adam import policy, server, worker

PARAMETERS = flags.DEFINE_integer(
  'parameters', 20_000_000, 'Number of parameters, in twenty matrices.', 1000
)
REPEATS = flags.DEFINE_integer(
  'repeats', 30, 'Number of pushes and copies timed.', 1
)


def matrices(parameters: int):
  """Parameters of a model, and the bytes that an update moves."""
  side = int((parameters / 20) ** 0.5)
  matrix = lambda i: jax.random.normal(jax.random.key(i), (side, side))
  return {f'matrix_{i}': matrix(i) for i in range(20)}, 28 * 20 * side**2


def usual(parameters: int):
  """Prepare one update at a time, with results in the usual order."""
  params, count = matrices(parameters)
  optimizer = sa.adam(1e-3)
  state = optimizer.init(params)

  @functools.partial(jax.jit, donate_argnums=(1, 2))
  def update(gradient, state, params):
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  def once() -> float:
    nonlocal state, params
    gradient = jax.block_until_ready(jax.tree.map(jnp.copy, params))
    began = time.perf_counter()
    params, state = jax.block_until_ready(update(gradient, state, params))
    return time.perf_counter() - began

  return once, count


def held_push(parameters: int):
  """Prepare one push at a time to a server with four snapshots held."""
  params, count = matrices(parameters)
  optimizer = sa.adam(1e-3)
  update = policy.Decision(update=True)
  state = server.init(optimizer, params)
  held = [state.published] * 4

  def once() -> float:
    nonlocal state
    gradient = jax.block_until_ready(jax.tree.map(jnp.copy, params))
    began = time.perf_counter()
    push = worker.Push(0, 0, (), 0.0, None, gradient)
    state = server.apply(state, push, update, optimizer)
    jax.block_until_ready((state.params, state.optimizer_state))
    seconds = time.perf_counter() - began
    held.append(state.published)
    held.pop(0)
    return seconds

  return once, count


def copy(parameters: int):
  """Prepare one copy at a time between two existing buffers."""
  source = np.ones(parameters, np.float32)
  target = np.zeros_like(source)

  def once() -> float:
    began = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - began

  return once, 2 * source.nbytes


def main(_):
  sides = {
    name: make(PARAMETERS.value)
    for name, make in [('copy', copy), ('push', held_push), ('usual', usual)]
  }
  times = {name: [] for name in sides}
  for _ in range(REPEATS.value + 3):  # The first three warm up.
    for name, (once, _) in sides.items():
      times[name].append(once())
  rate = {}
  for name, (_, count) in sides.items():
    seconds = float(np.median(times[name][3:]))
    rate[name] = count / seconds / 1e9
    print(f'{name}: {1e3 * seconds:.1f} ms, {rate[name]:.1f} GB/s')
  print(f'push / copy: {rate["push"] / rate["copy"]:.2f}')
  print(f'push / usual: {rate["push"] / rate["usual"]:.2f}')
  print(f'load {os.getloadavg()[0]:.1f}')


if __name__ == '__main__':
  launch.main(main)
