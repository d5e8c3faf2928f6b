"""What a worker computes: sums at one snapshot, the same whoever does it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import stale_adam as sa
from stale_adam import worker

KEY = jax.random.key(3)


@pytest.fixture
def noisy():
  """The gradient is the key's noise, and nothing else."""

  def loss(params, batch, key):
    del batch
    return jnp.vdot(params, jax.random.normal(key, (5,)))

  init = lambda key: jnp.zeros(5)
  return sa.Problem(init, loss, lambda number: jnp.zeros(1))


@pytest.mark.parametrize('ids', [[0], [4, 1], [2, 2, 9, 0]])
def test_sum_of_gradients_and_mean_of_losses(toy, ids):
  params = toy.init(KEY)
  loss, gradient = worker.Gradient(toy, KEY)(params, ids)
  results = [reference.loss_and_gradient(params, i) for i in ids]
  mean = np.mean([value for value, _ in results])
  summed = {k: sum(g[k] for _, g in results) for k in params}
  np.testing.assert_allclose(loss, mean, rtol=1e-5)
  assert loss.shape == ()
  assert reference.distance(gradient, summed) < 1e-5
  assert jax.tree.structure(gradient) == jax.tree.structure(params)


def test_the_references_gradient_is_the_losss():
  """By central differences, in float64: the reference itself is right."""
  params = {k: x.astype(np.float64) for k, x in reference.initial().items()}
  _, gradient = reference.loss_and_gradient(params, 5)
  for name, leaf in params.items():
    for index in np.ndindex(leaf.shape):
      values = []
      for delta in (1e-6, -1e-6):
        moved = {k: x.copy() for k, x in params.items()}
        moved[name][index] += delta
        values.append(reference.loss_and_gradient(moved, 5)[0])
      slope = (values[0] - values[1]) / 2e-6
      assert abs(slope - gradient[name][index]) < 1e-8


def test_a_batchs_key_depends_on_seed_and_id_alone(noisy):
  params = noisy.init(KEY)
  compute = lambda ids, key=KEY: np.asarray(
    worker.Gradient(noisy, key)(params, ids)[1]
  )
  np.testing.assert_array_equal(compute([8]), compute([8]))
  for ids in ([8, 3], [3, 8]):  # Rounded elsewhere when compiled together.
    summed = compute([8]) + compute([3])
    np.testing.assert_allclose(compute(ids), summed, rtol=1e-5)
  assert not np.any(compute([8]) == compute([3]))
  assert not np.any(compute([8]) == compute([8], jax.random.key(4)))


def test_a_batchs_loss_does_not_depend_on_who_computes_it(noisy, served):
  """At parameters that stay put, batch 5 is batch 5 in any communication."""
  problem = noisy._replace(init=lambda key: jnp.ones(5))
  still = optax.sgd(0.0)

  def losses(numbers, seed=0, threads=2):
    clock = sa.Clock(distribution='gamma', spread=1.0)
    pool = sa.pools.Virtual(clock, threads)
    pushes, _ = served(problem, still, numbers, pool, 24, seed)
    return {p.ids[0]: float(p.loss) for p in pushes}

  alone = losses(sa.Communication(1))
  assert len(set(alone.values())) == 24
  for other in (
    losses(sa.Communication(4), threads=1),
    losses(sa.Communication(4), threads=3),
    losses(sa.Communication(3, synchronous=True)),
  ):
    shared = alone.keys() & other.keys()
    assert len(shared) > 12
    assert all(alone[i] == other[i] for i in shared)
  assert losses(sa.Communication(1), seed=1)[5] != alone[5]


def test_the_gradient_is_computed_where_the_snapshot_is(toy):
  compute = worker.Gradient(toy, KEY)
  assert len(jax.devices()) == 4
  outputs = []
  for device in jax.devices()[:2]:
    params = jax.device_put(toy.init(KEY), device)
    outputs.append(compute(params, [1, 2]))
    assert all(x.devices() == {device} for x in jax.tree.leaves(outputs[-1]))
  jax.tree.map(np.testing.assert_array_equal, *outputs)


@pytest.mark.parametrize('local, traces', [(1, 1), (2, 2), (5, 2)])
def test_the_loss_is_compiled_once(toy, local, traces):
  """And once more for adding to a sum, however long that is."""
  seen = []

  def loss(params, batch, key):
    seen.append(params)
    return toy.loss(params, batch, key)

  compute = worker.Gradient(toy._replace(loss=loss), KEY)
  params = toy.init(KEY)
  for first in range(4):
    _, params = compute(params, [*range(first, first + local)])
  assert len(seen) == traces
