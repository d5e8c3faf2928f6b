"""What is measured of a push, against NumPy, from every pool."""

import itertools

import jax
import numpy as np
import optax
import pytest
import reference

import stale_adam as sa

RATE = 0.02
ADAM = sa.adam(RATE)  # One for all tests: it is a key of jit's cache.
POOLS = {
  'virtual': lambda: sa.pools.Virtual(
    sa.Clock(distribution='gamma', spread=0.5)
  ),
  'threads': lambda: sa.pools.Threads(jax.devices()[:2]),
}


def flat(tree):
  return np.concatenate(
    [np.ravel(np.asarray(tree[k], np.float64)) for k in sorted(tree)]
  )


@pytest.mark.parametrize('pool', POOLS)
@pytest.mark.parametrize('case', [(4,), (3, 2, 2), (2, 1, 1, False, 3)])
def test_distance_cosine_and_noise_are_their_formulas(toy, served, pool, case):
  numbers = sa.Communication(*case)
  arrivals = sa.serve(toy, ADAM, numbers, POOLS[pool](), measure=sa.Measure())
  pushes, states = zip(*itertools.islice(arrivals, 40), strict=True)
  arrivals.close()
  order = [p.worker for p in pushes]
  local, every = numbers.local_accumulation, numbers.global_accumulation
  adam = reference.Adam(lambda update: RATE)
  run = reference.serve(
    adam, order, numbers.workers, local, every, False, numbers.pull_every
  )
  replay = reference.Adam(lambda update: RATE)
  summed, params = {}, run.versions[0]
  for i, push in enumerate(pushes):
    version = i // every
    now, pulled = run.versions[version], run.versions[push.pulled_version]
    gradient = {}
    for number in push.ids:
      slope = reference.loss_and_gradient(pulled, number)[1]
      gradient = {k: g + gradient.get(k, 0.0) for k, g in slope.items()}
    found = push.measured
    distance = np.linalg.norm(flat(now) - flat(pulled))
    np.testing.assert_allclose(found['distance'], distance, atol=1e-5)
    if version:
      moved = flat(now) - flat(run.versions[version - 1])
      g = flat(gradient)
      cosine = g @ moved / np.linalg.norm(g) / np.linalg.norm(moved)
      np.testing.assert_allclose(found['cosine'], cosine, atol=1e-3)
      for name in ('inner', 'outer'):
        t = replay.updates
        m = replay.m[name] / (1 - 0.9**t)
        v = replay.v[name] / (1 - 0.98**t)
        noise = np.sum(v - m**2) / np.sum(m**2)
        np.testing.assert_allclose(
          found[f'noise/{name}'], noise, rtol=1e-3, atol=1e-4
        )
    else:
      assert np.isnan(found['cosine']) and np.isnan(found['noise/inner'])
    summed = {k: g + summed.get(k, 0.0) for k, g in gradient.items()}
    if (i + 1) % every == 0:
      params = replay.update(params, summed)
      summed = {}


@pytest.mark.parametrize('pool', POOLS)
def test_age_is_counted_in_updates_pushes_and_seconds(toy, served, pool):
  """Between two pushes of a worker lie all pushes of the others."""
  numbers = sa.Communication(3, global_accumulation=2)
  pushes, _ = served(toy, ADAM, numbers, POOLS[pool](), 40)
  last = {}
  for i, push in enumerate(pushes):
    since, then = last.get(push.worker, (0, 0.0))
    assert push.staleness_pushes == i - since
    assert push.age_seconds == push.seconds - then
    assert push.staleness == i // 2 - push.pulled_version
    last[push.worker] = i + 1, push.seconds
    assert push.measured is None


def test_equal_workers_push_after_all_others(toy, served):
  """Staleness in pushes is N - 1 whatever G, a round's seconds its age."""
  numbers = sa.Communication(4, global_accumulation=4)
  pushes, _ = served(toy, ADAM, numbers, sa.pools.Virtual(), 40)
  assert {p.staleness_pushes for p in pushes[4:]} == {3}
  assert {p.age_seconds for p in pushes[4:]} == {1.0}


def test_pure_noise_measures_what_the_docstring_says():
  """E v_hat / E m_hat^2 - 1 = (1 + b1) / (1 - b1) - 1 without a mean."""
  draw = np.random.default_rng(0)
  optimizer = sa.adam(1e-3)
  params = {'x': np.zeros(100_000, np.float32)}
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  for _ in range(100):
    g = {'x': draw.normal(size=100_000).astype(np.float32)}
    _, state = update(g, state, params)
  held = sa.server.init(optimizer, params)._replace(optimizer_state=state)
  noise = sa.Measure()(params, params, held, g)['noise/x']
  np.testing.assert_allclose(noise, 18, rtol=0.03)


def test_other_optimizers_have_no_moments_to_measure(toy):
  arrivals = sa.serve(
    *(toy, optax.sgd(0.1), sa.Communication(2), sa.pools.Virtual()),
    measure=sa.Measure(),
  )
  push, _ = next(arrivals)
  assert set(push.measured) == {'distance', 'cosine'}
