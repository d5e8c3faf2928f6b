"""The server's hot path beside a memory copy: gigabytes a second, and a ratio.

A push that updates reads the gradient, both moments and the parameters, and
writes both moments and the parameters: 28 bytes a parameter, of 4-byte floats.
Four workers hold snapshots meanwhile, so that no parameter's memory may be
reused. `copy` is NumPy's (the C library's) copy of as many bytes as there are
parameters, read and written.

  python -m experiments.benchmark_push          # about a minute
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import stale_adam as sa
from stale_adam import server

PARAMETERS = flags.DEFINE_integer(
  'parameters', 20_000_000, 'Parameters of the model, in twenty matrices.', 1000
)
REPEATS = flags.DEFINE_integer('repeats', 30, 'Pushes and copies timed.', 1)


def held_push(parameters: int):
  """One push at a time to a server whose last four snapshots are held."""
  side = int((parameters / 20) ** 0.5)
  matrix = lambda i: jax.random.normal(jax.random.key(i), (side, side))
  params = {f'matrix_{i}': matrix(i) for i in range(20)}
  optimizer = sa.adam(1e-3)
  communication = sa.Communication(workers=4)
  state = server.init(optimizer, params)
  held = [server.pull(state)] * 4

  def once() -> float:
    nonlocal state
    gradient = jax.block_until_ready(jax.tree.map(jnp.copy, params))
    began = time.perf_counter()
    state = server.push(optimizer, communication, state, gradient)
    jax.block_until_ready((state.params, state.optimizer_state))
    seconds = time.perf_counter() - began
    held.append(server.pull(state))
    held.pop(0)
    return seconds

  return once, 28 * 20 * side**2


def copy(parameters: int):
  """One copy at a time between two buffers that exist already."""
  source = np.ones(parameters, np.float32)
  target = np.zeros_like(source)

  def once() -> float:
    began = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - began

  return once, 2 * source.nbytes


def main(_):
  sides = {'copy': copy(PARAMETERS.value), 'push': held_push(PARAMETERS.value)}
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


if __name__ == '__main__':
  app.run(main)
