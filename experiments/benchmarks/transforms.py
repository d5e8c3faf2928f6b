"""Speed of the transformations, against the memory traffic that they need.

Calls each one as a training loop does, update and optax.apply_updates in one
jitted function, with state and parameters donated. The gradient is the same at
every call. The milliseconds of a call are divided by those that a copy (of the
C library) takes to move the bytes that the call has to read and write:

  adam           28 bytes a parameter: gradient, two moments and parameters are
                 read, moments and parameters written
  delay 3        36: the gradient is written to the queue, another one read
  delay [3]      32: the new version is written to the ring
  hold 4         30: every fourth version is read and written once more
  accumulate 4   16: the first gradient is read and written (8), two are added
                 to the sum (12), the last is added and used (32)
  smooth         36: Adam's 28, and the smoothed parameters are read and written
  MultiSteps 4   as accumulate, by optax, which runs Adam at every call

  python -m experiments.benchmarks.transforms     # about a minute
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

import stale_adam as sa
from experiments import launch
from experiments.benchmarks import timed
from stale_adam.transforms import pulled

PARAMETERS = flags.DEFINE_integer(
  'parameters', 10_000_000, 'Number of parameters, in 20 matrices.', 1000
)
CALLS = flags.DEFINE_integer('calls', 8, 'Number of calls in a turn.', 4)
TURNS = flags.DEFINE_integer('turns', 10, 'Number of turns.', 1)

_MULTIPLE = optax.MultiSteps(sa.adam(1e-3), 4, use_grad_mean=False)
# (Transformation, bytes a parameter and call.)
SIDES = {
  'adam': (sa.adam(1e-3), 28),
  'delay 3': (sa.delay(sa.adam(1e-3), 3), 36),
  'delay [3]': (sa.delay(sa.adam(1e-3), [3]), 32),
  'hold 4': (sa.hold(sa.adam(1e-3), 4), 30),
  'accumulate 4': (sa.accumulate(sa.adam(1e-3), 4), 16),
  'smooth': (sa.smooth(sa.adam(1e-3), 1e-4), 36),
  'MultiSteps 4': (_MULTIPLE.gradient_transformation(), 16),
}


def matrices(seed: int):
  side = int((PARAMETERS.value / 20) ** 0.5)
  keys = jax.random.split(jax.random.key(seed), 20)
  return [jax.random.normal(key, (side, side)) for key in keys]


def calls(transformation, params, gradient):
  """Prepare a turn of several calls."""
  state = jax.tree.map(jnp.copy, transformation.init(params))
  keeps = isinstance(state, pulled.HoldState | pulled.VersionsState)
  params = jax.tree.map(jnp.copy, params)

  def update(state, params):
    more = {'pulled': sa.pulled_params(state)} if keeps else {}
    updates, state = transformation.update(gradient, state, params, **more)
    return state, optax.apply_updates(params, updates)

  run = jax.jit(update, donate_argnums=(0, 1))

  def turn() -> float:
    nonlocal state, params
    began = time.perf_counter()
    for _ in range(CALLS.value):
      state, params = run(state, params)
    jax.block_until_ready(params)
    return time.perf_counter() - began

  return turn


def copy(count: int):
  """Prepare a copy of one float a parameter: 8 bytes."""
  source = np.ones(count, np.float32)
  target = np.zeros_like(source)
  return lambda: np.copyto(target, source)


def main(_):
  params, gradient = matrices(0), matrices(1)
  count = sum(x.size for x in params)
  sides = {
    name: calls(transformation, params, gradient)
    for name, (transformation, _) in SIDES.items()
  }
  found = timed.turns({'copy': copy(count), **sides}, TURNS.value, 1)
  milliseconds = {k: 1e3 * float(np.median(v)) for k, v in found.items()}
  print(f'{count:,} parameters; copy: {milliseconds["copy"]:.1f} ms')
  adam = milliseconds['adam'] / CALLS.value
  for name, (_, needed) in SIDES.items():
    call = milliseconds[name] / CALLS.value
    ratio = call / (milliseconds['copy'] * needed / 8)
    print(
      f'{name}: {call:.1f} ms a call, {call / adam:.2f} times that of adam, '
      f'{ratio:.2f} times what a copy takes to move {needed} bytes a parameter'
    )
  print(timed.load())


if __name__ == '__main__':
  launch.main(main)
