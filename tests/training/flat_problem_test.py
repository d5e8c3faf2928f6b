"""Parameters joined to vectors: the same run, bit for bit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

import stale_adam as sa
from stale_adam import methods
from stale_adam.training import flat_problem

CLOCK = sa.Clock(0.9, 0.1, 0.2, 0.15, 'normal', 0.5, (1.0, 2.0, 0.7), seed=4)
POLICY = sa.Communication(4, 2, 2)


def layers(key):
  """Parameters of a small network with leaves of several sizes."""
  sizes = ((6, 40), (40,), (40, 600), (600,), (600, 300), (300,), (300, 1))
  keys = jax.random.split(key, len(sizes))
  return {
    f'leaf {i}': 0.1 * jax.random.normal(k, size)
    for i, (k, size) in enumerate(zip(keys, sizes, strict=True))
  }


def loss(params, batch, key):
  x, y = batch
  a, b, c, d, e, f, g = params.values()
  x = jnp.tanh(x @ a + b[None])
  keep = jax.random.bernoulli(key, 0.9, x.shape)
  x = jnp.tanh(jnp.where(keep, x, 0) @ c + d[None])
  x = jnp.tanh(x @ e + f[None])
  return jnp.mean((x @ g - y) ** 2)


def batch(number):
  draw = np.random.default_rng(number)
  x = draw.normal(size=(16, 6)).astype('float32')
  return x, np.sin(x.sum(1, keepdims=True))


NETWORK = sa.Problem(layers, loss, batch)


def trained(form, optimizer, per_push=None, count=40):
  with sa.pools.Virtual(CLOCK) as pool:
    arrivals = sa.serve(
      *(form.problem, optimizer, POLICY, pool, 3), per_push=per_push
    )
    pushes, servers = zip(*itertools.islice(arrivals, count), strict=True)
  return [float(p.loss) for p in pushes], form.params(servers[-1].params)


def sizes(form):
  shapes = jax.eval_shape(form.problem.init, jax.random.key(0))
  return [x.shape for x in jax.tree.leaves(shapes)]


@pytest.mark.slow
@pytest.mark.parametrize(
  'per_push', [None, methods.compensate_delay()], ids=['sum', 'compensated']
)
def test_a_run_on_vectors_is_the_run_on_the_tree(per_push):
  optimizer = sa.adam(sa.inverse_sqrt(0.01, 10))
  form = flat_problem.form(NETWORK, optimizer, per_push)
  assert form.problem is not NETWORK
  found = trained(form, optimizer, per_push)
  wanted = trained(flat_problem.unchanged(NETWORK), optimizer, per_push)
  assert found[0] == wanted[0]
  jax.tree.map(np.testing.assert_array_equal, found[1], wanted[1])


def test_small_leaves_are_joined_and_large_ones_stay():
  optimizer = sa.adam(0.01)
  form = flat_problem.form(NETWORK, optimizer)
  small = 6 * 40 + 40 + 40 * 600 + 600 + 300 + 300
  assert sizes(form) == [(small,), (600, 300)]
  # Never a single vector: XLA would divide it by multiplying.
  init = lambda key: [jnp.ones(3)] * 5
  few = flat_problem.form(NETWORK._replace(init=init), optimizer)
  assert sizes(few) == [(9,), (6,)]
  # Two leaves are two vectors.
  assert flat_problem.form(toys.PROBLEM, optimizer).problem is toys.PROBLEM


def test_types_are_not_mixed():
  init = lambda key: {
    'a': jnp.ones(3),
    'b': jnp.ones(4, 'bfloat16'),
    'c': jnp.ones(5),
    'd': jnp.ones(6, 'bfloat16'),
  }
  total = lambda params, batch, key: sum(
    jnp.sum(batch * x.astype('float32') ** 2) for x in params.values()
  )
  problem = sa.Problem(init, total, jnp.float32)
  form = flat_problem.form(problem, sa.adam(0.01))
  assert sizes(form) == [(8,), (10,)]
  key = jax.random.key(0)
  jax.tree.map(
    np.testing.assert_array_equal,
    form.params(form.problem.init(key)),
    init(key),
  )


@pytest.mark.parametrize(
  'optimizer, per_push',
  [
    (optax.chain(optax.clip_by_global_norm(1.0), sa.adam(0.01)), None),
    (sa.adam(0.01), optax.clip_by_global_norm(1.0)),
  ],
  ids=['optimizer', 'per_push'],
)
def test_what_mixes_elements_trains_the_tree(optimizer, per_push):
  form = flat_problem.form(NETWORK, optimizer, per_push)
  assert form.problem is NETWORK


def test_equal_problems_share_a_program():
  optimizer = sa.adam(0.01)
  first, second = (flat_problem.form(NETWORK, optimizer) for _ in range(2))
  assert first.problem.loss == second.problem.loss
  assert hash(first.problem.loss) == hash(second.problem.loss)
