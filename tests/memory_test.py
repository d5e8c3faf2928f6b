"""Memory is reused at every push, but never while anybody holds it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import stale_adam as sa


@jax.custom_vjp
def _own_slope(x):
  """A loss whose value and gradient both are the very argument."""
  return x


# Not a copy of it, nor a product with 1.
_own_slope.defvjp(lambda x: (x, x), lambda x, tangent: (x,))


@pytest.mark.parametrize('alone', [True, False])
@pytest.mark.parametrize('numbers', [(1, 1, 1), (1, 3, 1), (1, 2, 2)])
def test_a_gradient_that_is_the_snapshot(served, alone, numbers):
  """theta <- theta - 0.01 G L theta_pulled, in closed form.

  When all its results are arguments (`alone`), jit may hand them out uncopied.
  """
  more = {} if alone else {'other': jnp.float32(0.0)}
  problem = sa.Problem(
    init=lambda key: {'x': jnp.float32(3.0), **more},
    loss=lambda p, batch, key: _own_slope(p['x']) + sum(p[k] for k in more),
    batch=lambda number: np.zeros(1, np.float32),
  )
  numbers, pool = sa.Communication(*numbers), sa.pools.Virtual()
  pushes, states = served(problem, optax.sgd(0.01), numbers, pool, 24)
  shrink = 1 - 0.01 * numbers.batches_per_update
  expected = [3 * shrink**state.version for state in states]
  found = [state.params['x'] for state in states]
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  if alone:
    found = [push.loss for push in pushes]
    expected = [3 * shrink**push.pulled_version for push in pushes]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize('numbers', [(3, 1, 1), (3, 2, 1), (3, 1, 2)])
@pytest.mark.parametrize('array', [np.array, jnp.array])
def test_a_gradient_that_is_the_batch(served, array, numbers):
  """Twice, even: two leaves have one gradient, which is the batch."""
  batches = [array([1.0, i], np.float32) for i in range(80)]
  problem = sa.Problem(
    init=lambda key: {'a': jnp.zeros(2), 'b': jnp.ones(2)},
    loss=lambda params, x, key: jnp.vdot(params['a'] + params['b'], x),
    batch=lambda number: batches[number],
  )
  numbers, pool = sa.Communication(*numbers), sa.pools.Virtual()
  pushes, states = served(problem, optax.sgd(0.5), numbers, pool, 30)
  ids = [i for p in pushes for i in p.ids]
  moved = -0.5 * np.array([len(ids), sum(ids)])
  assert states[-1].version * numbers.batches_per_update == len(ids)
  np.testing.assert_allclose(states[-1].params['a'], moved, rtol=1e-6)
  np.testing.assert_allclose(states[-1].params['b'], moved + 1, rtol=1e-6)
  for number, batch in enumerate(batches):
    np.testing.assert_array_equal(batch, [1.0, number])


@pytest.mark.parametrize('numbers', [(4, 1, 1), (4, 2, 3), (4, 1, 1, True, 3)])
def test_no_snapshot_is_ever_overwritten(toy, served, numbers):
  """What was yielded, and what workers held, is the same after many pushes."""
  copied, kept = [], []

  def gradient_seen(work):
    kept.append(work.snapshot.params)
    copied.append(jax.tree.map(np.array, kept[-1]))

  class Watching(sa.pools.Virtual):
    def send(self, worker, work):
      gradient_seen(work)
      super().send(worker, work)

  numbers = sa.Communication(*numbers)
  served(toy, sa.adam(0.1), numbers, Watching(), 60)
  assert len(kept) == 64
  jax.tree.map(np.testing.assert_array_equal, kept, copied)
  assert not np.array_equal(copied[0]['inner'], copied[-1]['inner'])


def _echo():
  """Gradient descent whose state is all it sees: what is hardest to place."""

  def update(gradient, state, params):
    last = state['new']
    updates = jax.tree.map(
      lambda g, x, y: -0.1 * g + x - y, gradient, last, params
    )
    new = optax.apply_updates(params, updates)
    return updates, {'old': params, 'new': new, 'gradient': gradient}

  init = lambda params: {'old': params, 'new': params, 'gradient': params}
  return optax.GradientTransformation(init, update)


@pytest.mark.parametrize(
  'optimizer',
  [
    contrib.schedule_free(sa.adam(0.02), 0.02, b1=0.9),
    contrib.prodigy(),
    _echo(),
  ],
  ids=['schedule_free', 'prodigy', 'echo'],
)
def test_optimizers_that_keep_the_parameters(toy, served, optimizer):
  """Their state and the snapshots share no memory: as in an ordinary loop."""
  pool = sa.pools.Virtual()
  _, states = served(toy, optimizer, sa.Communication(1), pool, 20)
  params = toy.init(None)
  state = optimizer.init(params)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  gradient, update = jax.jit(jax.grad(toy.loss)), jax.jit(optimizer.update)
  for number, found in enumerate(states):
    slope = gradient(params, toy.batch(number), None)
    updates, state = update(slope, state, params)
    params = optax.apply_updates(params, updates)
    jax.tree.map(close, found.params, params)
  jax.tree.map(close, states[-1].optimizer_state, state)
