"""Optimizers that need the value get the mean loss of the pushes in the sum."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
from optax import contrib

import stale_adam as sa


def noting():
  """SGD that needs a value, and whose state is the last one that it got."""

  def update(updates, state, params=None, *, value, **extra):
    del state, params, extra
    return jax.tree.map(lambda g: -0.02 * g, updates), value

  init = lambda params: jnp.float32(-1)
  return optax.GradientTransformationExtraArgs(init, update)


NOTING = noting()  # One, as a key of jit's cache.
ORDER = [0, 1, 2, 3, 1, 0, 3, 2, 0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3] * 2
POLICIES = [
  sa.Communication(4),
  sa.Communication(4, 2, 3),
  sa.Communication(4, 1, 4, pull_every=2),
  sa.Communication(4, synchronous=True),
  sa.methods.BackupWorkers(4, 2),
]


def served(optimizer, policy, pool, count=24):
  with pool:
    arrivals = sa.serve(toys.PROBLEM, optimizer, policy, pool)
    found = []
    for push, server in itertools.islice(arrivals, count):
      state = jax.device_get(server.optimizer_state)  # Consumed by the next.
      found.append((push, server.version, state, server.params))
    return found


def expected(found):
  """The mean loss of the pushes of every update, in NumPy."""
  losses, version, means = [], 0, []
  for push, now, _, _ in found:
    if push.used:
      losses.append(np.float32(push.loss))
    if now > version:
      means.append(np.mean(losses, dtype=np.float64))
      losses, version = [], now
  return means


@pytest.mark.parametrize('policy', POLICIES, ids=str)
@pytest.mark.parametrize('pool', [sa.pools.Virtual, sa.pools.Threads])
def test_the_value_is_the_mean_loss(policy, pool):
  found = served(NOTING, policy, pool())
  states = [
    state
    for before, (_, version, state, _) in zip(
      [0] + [version for _, version, _, _ in found], found, strict=False
    )
    if version > before
  ]
  means = expected(found)
  assert len(means) > 2
  np.testing.assert_allclose(states, means, rtol=1e-6)


OPTIMIZERS = {
  'noting': NOTING,
  'plateau': optax.chain(
    sa.adam(0.02), contrib.reduce_on_plateau(patience=1, cooldown=1, rtol=0.1)
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', OPTIMIZERS)
@pytest.mark.parametrize('policy', POLICIES[:3], ids=str)
def test_simulate_is_serve(name, policy):
  clock = sa.Clock(1.0, distribution='normal', spread=0.3)
  found = served(OPTIMIZERS[name], policy, sa.pools.Virtual(clock), 30)
  trace = sa.Trace.of([push for push, *_ in found])
  run = sa.simulate(
    *(toys.PROBLEM, OPTIMIZERS[name], policy, trace), devices=jax.devices()[:1]
  )
  jax.tree.map(np.testing.assert_array_equal, run.params, found[-1][-1])


@pytest.mark.slow
def test_several_devices_round_in_another_way():
  run = lambda count: sa.simulate(
    *(toys.PROBLEM, NOTING, POLICIES[1], ORDER),
    devices=jax.devices()[:count],
  )
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, run(1).params, run(2).params)


def test_a_plateau_is_seen():
  """By the loss alone: the scale falls, and the parameters move less."""
  policy = sa.Communication(2)
  plateau = OPTIMIZERS['plateau']
  states = [s for *_, s, _ in served(plateau, policy, sa.pools.Virtual(), 40)]
  assert float(states[-1][1].scale) < 1.0


@pytest.mark.parametrize(
  'optimizer',
  [optax.polyak_sgd(1.0), contrib.momo(0.1), contrib.momo_adam(0.1)],
)
def test_optimizers_of_optax_that_need_the_value(optimizer):
  found = served(optimizer, sa.Communication(2, 1, 2), sa.pools.Virtual())
  losses = [float(push.loss) for push, *_ in found]
  assert np.mean(losses[12:]) < np.mean(losses[:12])


REFUSED = {
  'lbfgs': (optax.lbfgs(0.1), 'value_fn'),
  'line search': (
    optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(3)),
    'value_fn',
  ),
  'sophia': (contrib.sophia(0.1), 'obj_fn'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_needs_more_is_refused_by_name(name):
  optimizer, needed = REFUSED[name]
  wanted = rf'optimizer cannot run on a server: .*{needed}.* sa\.adam'
  with sa.pools.Virtual() as pool, pytest.raises(ValueError, match=wanted):
    next(sa.serve(toys.PROBLEM, optimizer, sa.Communication(2), pool))
  with pytest.raises(ValueError, match=wanted):
    sa.simulate(toys.PROBLEM, optimizer, sa.Communication(2), [0, 1])


def test_others_do_without():
  with sa.pools.Virtual() as pool:
    arrivals = sa.serve(
      toys.PROBLEM, sa.adam(0.1), sa.Communication(2, 1, 2), pool
    )
    assert all(s.loss is None for _, s in itertools.islice(arrivals, 5))


@pytest.mark.parametrize('seed', [-1, 2**32, 1.5, '1', True, np.int32(-1)])
def test_a_seed_that_would_be_another_is_refused(seed):
  policy, wanted = sa.Communication(2), 'seed=.*from 0 to 4294967295'
  with sa.pools.Virtual() as pool, pytest.raises(ValueError, match=wanted):
    next(sa.serve(toys.PROBLEM, sa.adam(0.1), policy, pool, seed=seed))
  with pytest.raises(ValueError, match=wanted):
    sa.simulate(toys.PROBLEM, sa.adam(0.1), policy, [0, 1], seed)
  with pytest.raises(ValueError, match=wanted):
    sa.Clock(seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, 2**32 - 1, np.uint32(7), jnp.uint32(7)])
def test_a_seed_of_any_whole_type(seed):
  run = sa.simulate(
    toys.PROBLEM, sa.adam(0.1), sa.Communication(2), [0, 1], seed
  )
  assert len(run.loss) == 2
