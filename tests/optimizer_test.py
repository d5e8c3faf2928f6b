"""Adam against the paper's Table 2 and NumPy; rates; what a run reduces to."""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import stale_adam as sa
from experiments.paper import printed as paper
from experiments.paper import table2
from stale_adam.optimizer import NAMED


@pytest.mark.parametrize('name', paper.TABLE2)
def test_table_2(name):
  """Every printed number, to half of its last digit."""
  table = paper.TABLE2[name]
  found = table2.adam(table['g'])
  assert found.keys() == table.keys() - {'g'}
  for k, values in found.items():
    np.testing.assert_allclose(values, table[k], rtol=0, atol=5e-4, err_msg=k)


@pytest.mark.parametrize('eps', [1e-9, 1e-2])
def test_adam_is_the_references(eps):
  """Random gradients of many sizes, under a schedule, compiled."""
  draw = np.random.default_rng(0)
  sizes = 10.0 ** draw.uniform(-3, 2, (4, 3))
  gradients = (draw.normal(0.2, 1.0, (50, 4, 3)) * sizes).astype(np.float32)
  optimizer = sa.adam(sa.inverse_sqrt(0.1, 8), b1=0.8, b2=0.95, eps=eps)
  rate = lambda u: 0.1 * min(u / 8, math.sqrt(8 / u))
  expected = reference.Adam(rate, b1=0.8, b2=0.95, eps=eps)
  params = {'x': jnp.ones((4, 3))}
  state, wanted = optimizer.init(params), {'x': np.ones((4, 3))}
  update = jax.jit(optimizer.update)
  for gradient in gradients:
    updates, state = update({'x': gradient}, state, params)
    params = optax.apply_updates(params, updates)
    wanted = expected.update(wanted, {'x': gradient.astype(np.float64)})
    np.testing.assert_allclose(params['x'], wanted['x'], rtol=1e-5, atol=1e-5)


def test_the_defaults_are_the_papers():
  defaults = sa.adam(1e-3)
  explicit = reference.Adam(lambda u: 1e-3, b1=0.9, b2=0.98, eps=1e-9)
  params, state = {'x': jnp.zeros(3)}, defaults.init({'x': jnp.zeros(3)})
  wanted = {'x': np.zeros(3)}
  # The last gradient is as small as epsilon, which then halves the update.
  for g in ([1.0, -2.0, 1e-9], [0.5, 3.0, 1e-9]):
    updates, state = defaults.update({'x': jnp.array(g)}, state)
    params = optax.apply_updates(params, updates)
    wanted = explicit.update(wanted, {'x': np.array(g)})
  np.testing.assert_allclose(params['x'], wanted['x'], rtol=1e-5)
  np.testing.assert_allclose(wanted['x'][2], -0.001, rtol=1e-6)


def formula(peak, warmup, decay_after, update):
  """The rate of update u = 1, 2, ..., piece by piece."""
  rate = peak
  if update < warmup:
    rate *= update / warmup
  if update > decay_after:
    rate *= math.sqrt(decay_after / update)
  return rate


@pytest.mark.parametrize(
  'warmup, decay_after, effective',
  [(16, None, 16), (1, None, 1), (0, 25, 25), (10, 40, 40), (40, 50, 50)],
)
def test_inverse_sqrt_is_its_formula(warmup, decay_after, effective):
  schedule = sa.inverse_sqrt(3e-4, warmup, decay_after)
  found = [float(schedule(jnp.int32(u - 1))) for u in range(1, 200)]
  expected = [formula(3e-4, warmup, effective, u) for u in range(1, 200)]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_inverse_sqrt_at_the_corners():
  """optax counts from 0: the first update counts, and the peak is reached."""
  schedule = sa.inverse_sqrt(3e-4, 16000)
  at = lambda update: float(schedule(jnp.int32(update - 1)))
  assert math.isclose(at(1), 3e-4 / 16000, rel_tol=1e-6)
  assert at(16000) == np.float32(3e-4) > max(at(15990), at(16010))
  assert math.isclose(at(64000), 1.5e-4, rel_tol=1e-6)
  no_warmup = sa.inverse_sqrt(6e-4, 0, decay_after=16000)
  assert float(no_warmup(0)) == float(no_warmup(15999)) == np.float32(6e-4)
  for argument in ({'warmup_updates': -1}, {'warmup_updates': -2}):
    (name, value) = (*argument.items(),)[0]
    with pytest.raises(ValueError, match=f'{name}={value}.*use 0 or more'):
      sa.inverse_sqrt(**{'peak': 1.0, 'warmup_updates': 4, **argument})


def test_the_schedule_is_counted_in_updates(toy, served):
  """Neither in pushes nor in batches: 12 batches make 3 updates."""
  optimizer = optax.sgd(sa.inverse_sqrt(1.0, 10))
  problem = toy._replace(
    init=lambda key: {'x': jnp.zeros(())},
    loss=lambda params, batch, key: params['x'],
  )
  numbers = sa.Communication(2, 2, 2)
  _, states = served(problem, optimizer, numbers, sa.pools.Virtual(), 6)
  # The gradient of an update is 4, the rates are 0.1, 0.2 and 0.3.
  np.testing.assert_allclose(states[-1].params['x'], -2.4, rtol=1e-6)


def loop(problem, optimizer, updates, staleness=0):
  """Gradient descent on late gradients, with an explicit queue.

  The u-th update uses batch u and the parameters of `staleness` updates ago,
  or the initial ones until there are that many.
  """
  params = problem.init(None)
  state = optimizer.init(params)
  queue = collections.deque([params] * (staleness + 1))
  gradient = jax.jit(jax.grad(problem.loss))
  update = jax.jit(optimizer.update)
  for number in range(updates):
    late = gradient(queue.popleft(), problem.batch(number), jax.random.key(0))
    delta, state = update(late, state, params)
    params = optax.apply_updates(params, delta)
    queue.append(params)
    yield params


@pytest.mark.slow
@pytest.mark.parametrize(
  'numbers, staleness',
  [
    ((1,), 0),
    ((1, 1, 1, True), 0),
    ((2,), 1),
    ((4,), 3),
    ((9,), 8),
  ],
)
def test_round_robin_is_delayed_gradient_descent(
  toy, served, numbers, staleness
):
  """One worker is an ordinary loop; N equal ones make a delay of N - 1.

  They are compiled separately and round differently: 1e-5 over 60 updates.
  """
  optimizer = sa.adam(sa.inverse_sqrt(0.02, 10))
  pool = sa.pools.Virtual()
  pushes, states = served(toy, optimizer, sa.Communication(*numbers), pool, 60)
  expected = loop(toy, optimizer, 60, staleness)
  for state, params in zip(states, expected, strict=True):
    assert reference.distance(state.params, params) < 1e-5
  assert [p.staleness for p in pushes] == [min(i, staleness) for i in range(60)]


def test_the_rate_reaches_its_peak_or_is_refused():
  with pytest.raises(ValueError, match='decay_after=400 .*use 1000 or more'):
    sa.inverse_sqrt(1.0, 1000, 400)


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMED)
def test_a_named_optimizer_learns_under_a_schedule(name):
  """Each reaches the least squares solution with warm-up and decay."""
  rates = {'momentum': 0.03, 'adafactor': 0.2, 'muon': 0.3}
  schedule = sa.inverse_sqrt(rates.get(name, 0.03), 10, 50)
  tx = NAMED[name](schedule)
  keys = jax.random.split(jax.random.key(0))
  goal = {
    'matrix': jax.random.normal(keys[0], (64, 64)),
    'vector': jax.random.normal(keys[1], (64,)),
  }
  loss = lambda params: sum(
    jnp.sum((params[k] - goal[k]) ** 2) / 2 for k in goal
  )
  params = jax.tree.map(lambda x: 0.9 * x + 0.3, goal)
  state, before = tx.init(params), loss(params)

  @jax.jit
  def update(params, state):
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  for _ in range(300):
    params, state = update(params, state)
  assert loss(params) < 0.1 * before


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMED)
def test_no_named_optimizer_decays_weights(name):
  tx = NAMED[name](0.1)
  params = {'matrix': jnp.ones((64, 64)), 'vector': jnp.ones(64)}
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zero, tx.init(params), params)
  assert all(not jnp.any(leaf) for leaf in jax.tree.leaves(updates))


def test_adafactor_factors_the_matrices_of_small_models():
  params = {'matrix': jnp.ones((64, 64))}
  state = NAMED['adafactor'](0.1).init(params)
  assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 64 * 64
