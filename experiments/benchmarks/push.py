"""Speed of the server's push, against a memory copy and an update leaf by leaf.

A push that updates reads the gradient, both moments and the parameters, and
writes both moments and the parameters: 28 bytes per parameter, with 4-byte
floats. Four workers hold snapshots meanwhile, so that no parameter's memory may
be reused.

`copy` is NumPy's (the C library's) copy of one float per parameter, read and
written. `push` is the server's on parameters as the training loop has them:
small arrays joined to vectors. `leaves` is the server's on the arrays as the
model has them. `usual` is the same optimizer jitted in the obvious way,
`(gradient, state, params) -> (params, state)`, the last two donated and no
snapshot held.

  python -m experiments.benchmarks.push          # about a minute
  python -m experiments.benchmarks.push --parameters=168000 --arrays=37

The second is a model as small as `tiny`, where starting loops decides.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

import stale_adam as sa
from experiments import launch
from experiments.benchmarks import timed
from stale_adam import policy, server, worker
from stale_adam.training import flat_problem

PARAMETERS = flags.DEFINE_integer(
  'parameters', 20_000_000, 'Number of parameters.', 1000
)
ARRAYS = flags.DEFINE_integer(
  'arrays', 20, 'Number of square matrices that they are in.', 2
)
REPEATS = flags.DEFINE_integer(
  'repeats', 30, 'Number of pushes and copies timed.', 1
)


def matrices(parameters: int, arrays: int):
  """Parameters of a model."""
  side = max(1, int((parameters / arrays) ** 0.5))
  matrix = lambda i: jax.random.normal(jax.random.key(i), (side, side))
  return {f'matrix_{i:03}': matrix(i) for i in range(arrays)}


def usual(optimizer, params):
  """Prepare one update at a time, with results in the usual order."""
  params, state = jax.tree.map(jnp.copy, params), optimizer.init(params)

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

  return once


def held_push(optimizer, params):
  """Prepare one push at a time to a server with four snapshots held."""
  update = policy.Decision(update=True)
  state = server.init(optimizer, params)
  held = [state.published] * 4

  def once() -> float:
    nonlocal state
    gradient = jax.block_until_ready(jax.tree.map(jnp.copy, state.params))
    began = time.perf_counter()
    push = worker.Push(0, 0, (), 0.0, None, gradient)
    state = server.apply(state, push, update, optimizer)
    jax.block_until_ready((state.params, state.optimizer_state))
    seconds = time.perf_counter() - began
    held.append(state.published)
    held.pop(0)
    return seconds

  return once


def copy(count: int):
  """Prepare one copy at a time between two existing buffers."""
  source = np.ones(count, np.float32)
  target = np.zeros_like(source)

  def once() -> float:
    began = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - began

  return once


def joined(optimizer, params):
  """The parameters as the training loop has them."""
  nothing = lambda *_: jnp.float32(0)
  problem = sa.Problem(lambda key: params, nothing, nothing)
  form = flat_problem.form(problem, optimizer)
  return form.problem.init(jax.random.key(0))


def main(_):
  optimizer = sa.adam(1e-3)
  params = matrices(PARAMETERS.value, ARRAYS.value)
  vectors = joined(optimizer, params)
  count = sum(x.size for x in params.values())
  sides = {
    'copy': copy(count),
    'push': held_push(optimizer, vectors),
    'leaves': held_push(optimizer, params),
    'usual': usual(optimizer, params),
  }
  found = timed.turns(sides, REPEATS.value)
  print(f'{count:,} parameters in {len(params)} arrays')
  print(f'push: the same in {len(jax.tree.leaves(vectors))} arrays')
  seconds, rate = {}, {}
  for name, times in found.items():
    seconds[name] = float(np.median(times))
    rate[name] = (8 if name == 'copy' else 28) * count / seconds[name] / 1e9
    print(
      f'{name}: {1e3 * seconds[name]:.3f} ms (at least {1e3 * times.min():.3f}'
      f'), {rate[name]:.1f} GB/s'
    )
  print(f'GB/s, push / copy: {rate["push"] / rate["copy"]:.2f}')
  for name in ('leaves', 'usual'):
    print(f'time, {name} / push: {seconds[name] / seconds["push"]:.2f}')
  print(timed.load())


if __name__ == '__main__':
  launch.main(main)
