"""What works element by element: found out, and held against computing it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import stale_adam as sa
from stale_adam import elementwise, optimizer, update
from stale_adam import methods as methods_lib

SCHEDULE = sa.inverse_sqrt(0.01, 5)
SHAPES = {'a': (4, 5), 'b': (7,), 'c': {'d': (2, 3, 2), 'e': (5, 4)}}
KEY = jax.random.key(0)


def tree(seed):
  shapes, structure = jax.tree.flatten(
    SHAPES, is_leaf=lambda x: isinstance(x, tuple)
  )
  keys = jax.random.split(jax.random.fold_in(KEY, seed), len(shapes))
  draw = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
  return jax.tree.unflatten(structure, draw)


def large_only(params):
  return jax.tree.map(lambda x: x.ndim > 1, params)


WORKS = {
  **{
    name: optimizer.NAMED[name](SCHEDULE)
    for name in ('adam', 'nadam', 'amsgrad', 'lion', 'momentum')
  },
  'rmsprop': optax.rmsprop(0.01, momentum=0.9),
  'adamw': optax.adamw(0.01),
  'adadelta': optax.adadelta(1.0),
  'adopt': contrib.adopt(0.01),
  'schedule free': contrib.schedule_free_adamw(0.01),
  'clip': optax.chain(optax.clip(0.1), sa.adam(0.01)),
  'ema': optax.chain(sa.adam(0.01), optax.ema(0.9)),
  'injected': optax.inject_hyperparams(optax.adam)(SCHEDULE),
  'accumulate': sa.accumulate(sa.adam(SCHEDULE), 3),
  'MultiSteps': optax.MultiSteps(sa.adam(0.01), 3).gradient_transformation(),
  'start_on_zero': optimizer.start_on_zero(sa.adam(SCHEDULE)),
  'smooth': sa.smooth(sa.adam(SCHEDULE), 0.2),
  'by staleness': methods_lib.scale_by_staleness(),
}
FAILS = {
  'norm': optax.chain(optax.clip_by_global_norm(1.0), sa.adam(0.01)),
  'a norm each': optax.lamb(0.01),
  'factored': optimizer.NAMED['adafactor'](SCHEDULE),
  'matrices': contrib.muon(0.01),
  'mask': optax.masked(optax.sgd(1.0), large_only),
  'decay of matrices': optax.adamw(0.01, mask=large_only),
  'noise': optax.chain(optax.sgd(0.1), optax.add_noise(0.1, 0.5, KEY)),
  'mean': optax.centralize(),
  'if finite': optax.apply_if_finite(sa.adam(0.01), 3),
  'a ring': sa.delay(sa.adam(0.01), 3),
  'by name': optax.multi_transform(
    {'sgd': optax.sgd(0.1), 'adam': sa.adam(0.1)},
    {'a': 'sgd', 'b': 'adam', 'c': {'d': 'adam', 'e': 'adam'}},
  ),
}


def told(params):
  return {'staleness': jnp.float32(2)}


def reverse(updates, params=None):
  """Exchanges two leaves of the same number of elements."""
  a, e = updates['a'], updates['c']['e']
  rest = {**updates['c'], 'e': a.reshape(e.shape)}
  return {**updates, 'a': e.reshape(a.shape), 'c': rest}


def by_leaf(updates, params=None):
  """Doubles one leaf."""
  return {**updates, 'b': 2 * updates['b']}


def by_place(updates, params=None):
  """Weighs every element by where it lies."""
  weigh = lambda x: x * jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)
  return jax.tree.map(weigh, updates)


def shifted(updates, params=None):
  """Moves every element on by one."""
  return jax.tree.map(
    lambda x: jnp.roll(x.reshape(-1), 1).reshape(x.shape), updates
  )


def by_shape(updates, params=None):
  """Divides every leaf by its length."""
  return jax.tree.map(lambda x: x / x.shape[0], updates)


def with_largest(updates, params=None):
  """Scales every element by the largest of its leaf."""
  return jax.tree.map(lambda x: x * jnp.max(jnp.abs(x)), updates)


def where_all(updates, params=None):
  """Decides for all by one element."""
  flip = lambda x: jax.lax.cond(x.reshape(-1)[0] > 0, jnp.negative, jnp.abs, x)
  return jax.tree.map(flip, updates)


FAILS |= {
  function.__name__: optax.stateless(function)
  for function in (
    *(reverse, by_leaf, by_place, shifted, by_shape),
    *(with_largest, where_all),
  )
}


def runs(transformation, params, gradients, count=7):
  """Parameters and all updates of a few calls."""
  more = {}
  if update.takes_more(transformation):
    more = told(params)
  call = jax.jit(transformation.update)
  state, found = transformation.init(params), []
  for i in range(count):
    updates, state = call(gradients(i), state, params, **more)
    params = optax.apply_updates(params, updates)
    found.append(updates)
  return params, found


def joined(params):
  return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(params)])


def in_halves(params):
  """Two vectors: XLA divides a single one by multiplying with a reciprocal."""
  vector = joined(params)
  return {'first': vector[:20], 'second': vector[20:]}


@pytest.mark.parametrize('name', WORKS)
def test_what_works_computes_the_same_numbers_on_vectors(name):
  """Adam bit for bit; others to the rounding of a loop that XLA fuses anew."""
  transformation, params = WORKS[name], tree(0)
  assert elementwise.on_vectors(transformation, params, told)
  wanted = runs(transformation, params, lambda i: tree(i + 1))
  found = runs(
    transformation, in_halves(params), lambda i: in_halves(tree(i + 1))
  )
  for ours, theirs in zip(
    (found[0], *found[1]), (wanted[0], *wanted[1]), strict=True
  ):
    # Of the parameters: some updates are differences of these.
    rounding = 0 if name == 'adam' else 5e-7
    np.testing.assert_allclose(
      joined(ours), joined(theirs), rtol=0, atol=rounding
    )


@pytest.mark.parametrize('name', FAILS)
def test_what_mixes_or_distinguishes_elements_is_found_out(name):
  assert not elementwise.on_vectors(FAILS[name], tree(0), told)


def test_shapes_suffice():
  shapes = jax.eval_shape(lambda: tree(0))
  assert elementwise.on_vectors(sa.adam(0.01), shapes)
  assert not elementwise.on_vectors(optax.lamb(0.01), shapes)


def test_types_may_differ():
  params = {'a': jnp.ones((2, 2)), 'b': jnp.ones(3, 'bfloat16')}
  assert elementwise.on_vectors(sa.adam(0.01), params)
  double = lambda updates, params=None: {**updates, 'b': 2 * updates['b']}
  # Each type has a leaf of its own, and yet vectors have no 'b'.
  assert not elementwise.on_vectors(optax.stateless(double), params)


def test_a_transformation_of_pushes_gets_what_was_pulled():
  about = lambda params: update.about_push(params, 0, 0)
  compensate = methods_lib.compensate_delay()
  assert elementwise.on_vectors(compensate, tree(0), about)
  assert not elementwise.on_vectors(compensate, tree(0))  # It lacks `pulled`.


def test_a_rate_that_is_traced_has_no_value_to_compare():
  found = []

  def run(rate):
    found.append(elementwise.on_vectors(sa.adam(rate), tree(0)))
    return rate

  jax.jit(run)(0.1)
  assert found == [True]
