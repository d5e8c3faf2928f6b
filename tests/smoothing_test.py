"""Smoothed parameters against their equation, its laws, and on the server."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import stale_adam as sa
from stale_adam.transforms import smoothing

SGD = optax.sgd(1.0)
START = {'x': jnp.array([1.0, -2.0, 0.5]), 'pair': (jnp.float32(4), {})}


def loop(optimizer, start, gradients, smoothed=sa.smoothed_params):
  """(parameters, `smoothed(state)`) after every call, as one scan."""

  @jax.jit
  def run(start, gradients):
    def call(carry, gradient):
      params, state = carry
      updates, state = optimizer.update(gradient, state, params)
      params = optax.apply_updates(params, updates)
      return (params, state), (params, smoothed(state))

    begin = start, optimizer.init(start)
    return jax.lax.scan(call, begin, gradients)[1]

  return jax.tree.map(np.asarray, run(start, gradients))


def uneven(start, count, seed=0):
  """Gradients of any size; every fourth is zero, and the tenth is huge."""
  rng = np.random.default_rng(seed)
  size = np.exp(rng.normal(size=count)) * (np.arange(count) % 4 > 0)
  size[9] = 1e3

  def draw(x):
    noise = rng.normal(size=(count, *x.shape))
    return np.asarray(noise * size.reshape(-1, *[1] * x.ndim), x.dtype)

  return jax.tree.map(draw, start)


def with_start(start, after):
  """The initial parameters and all later ones, along a leading axis."""
  join = lambda x, rest: np.concatenate([np.asarray(x)[None], rest])
  return jax.tree.map(join, start, after)


@pytest.mark.parametrize('rate', [1e-4, 0.05, 0.3, 0.95])
def test_the_equation_over_uneven_updates(rate):
  """Where the second rate is larger always, at first, and never (0.95)."""
  params, smoothed = loop(sa.smooth(SGD, rate), START, uneven(START, 60))
  versions = with_start(START, params)
  wanted = jax.tree.map(lambda x: reference.smoothed(x, rate)[1:], versions)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4),
    *(smoothed, wanted),
  )


def test_of_rate_1_they_are_the_parameters():
  """Bit for bit, whatever the optimizer does."""
  gradients = uneven(START, 40)
  for inner in (SGD, sa.adam(0.1), optax.sgd(0.1, 0.9)):
    params, smoothed = loop(sa.smooth(inner, 1), START, gradients)
    jax.tree.map(np.testing.assert_array_equal, smoothed, params)


@pytest.mark.parametrize('rate', [1e-4, 0.1, 0.7])
def test_parameters_that_stand_still_are_met(rate):
  """Bit for bit from the beginning, and soon after a jump."""
  still = np.zeros((30, 3), np.float32)
  start = jnp.array([0.1, 1 / 3, -7e5])
  _, smoothed = loop(sa.smooth(SGD, rate), start, still)
  np.testing.assert_array_equal(smoothed, np.broadcast_to(start, (30, 3)))
  still[0] = 1
  params, smoothed = loop(sa.smooth(SGD, rate), start, still)
  left = np.prod(1 - np.maximum(rate, 9 / (np.arange(30) + 10)))
  assert left < 1e-6
  np.testing.assert_allclose(smoothed[-1], params[-1], rtol=1e-5)


@pytest.mark.parametrize('wide', [False, True])
def test_the_lag_is_a_tenth_at_first_and_then_what_the_rate_says(wide):
  """Of parameters that count updates.

  If s = 0.9 t after t updates, then s + 9 / (t + 10) (t + 1 - s) is 0.9 (t +
  1). At a fixed rate c, d = (1 - c) (d + 1) is the lag d = 1 / c - 1.
  """
  with jax.enable_x64(wide):
    start, dtype = jnp.zeros(()), 'float64' if wide else 'float32'
    run = lambda rate: loop(
      sa.smooth(SGD, rate), start.astype(dtype), -np.ones(3000, dtype)
    )
    count, few = run(1e-9)
    assert few.dtype == dtype
    rounding = {'rtol': 1e-12 if wide else 2e-5}
    np.testing.assert_allclose(few, 0.9 * count, **rounding)
    count, many = run(0.02)
    begins = int(9 / 0.02 - 10)  # Updates in which the second rate is larger.
    np.testing.assert_allclose(many[:begins], few[:begins], **rounding)
    assert many[begins + 9] > few[begins + 9]
    np.testing.assert_allclose(count[-1] - many[-1], 1 / 0.02 - 1, rtol=1e-3)


@pytest.mark.parametrize('inner', [sa.adam(0.1), optax.sgd(0.1, 0.9)])
def test_training_does_not_change(inner):
  gradients = uneven(START, 30)
  params, _ = loop(sa.smooth(inner, 0.1), START, gradients)
  wanted, _ = loop(inner, START, gradients, lambda state: 0)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), params, wanted
  )


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_narrow_parameters_are_averaged_in_float32(dtype):
  """The average of the parameters as they are, rounded; not rounded itself.

  They alternate between two neighbours, between which there is no third.
  """
  start = {'x': jnp.ones(2, dtype), 'wide': jnp.ones(2)}
  gap = float(jnp.finfo(dtype).eps)
  turns = -gap * (-1.0) ** np.arange(80).reshape(-1, 1) * np.ones((1, 2))
  gradients = {'x': jnp.asarray(turns, dtype), 'wide': jnp.asarray(turns)}
  optimizer = sa.smooth(SGD, 0.05)
  params, smoothed = loop(optimizer, start, gradients)
  assert {x.dtype for x in jax.tree.leaves(smoothed)} == {jnp.dtype('float32')}
  assert params['x'].dtype == dtype
  assert {*map(float, params['x'][:, 0])} == {1.0, 1.0 + gap}
  versions = with_start(start, params)['x'].astype(np.float64)
  wanted = reference.smoothed(versions, 0.05)[1:]
  # A thousandth of the gap: bfloat16 and float16 have nothing below a half.
  np.testing.assert_allclose(smoothed['x'], wanted, rtol=0, atol=1e-3 * gap)
  np.testing.assert_allclose(smoothed['wide'], smoothed['x'], rtol=1e-6)
  state = optimizer.init(start)
  found = smoothing.evaluated(start, state)
  jax.tree.map(
    lambda x, y: np.testing.assert_equal(x.dtype, y.dtype), *(found, start)
  )


def test_whole_numbers_are_not_averaged():
  params = {'x': jnp.ones(2), 'count': jnp.int32(7)}
  optimizer = sa.smooth(optax.identity(), 0.1)
  add = {'x': jnp.ones(2), 'count': jnp.int32(3)}
  _, state = jax.jit(optimizer.update)(add, optimizer.init(params), params)
  found = sa.smoothed_params(state)
  assert found['count'] == 10 and found['count'].dtype == 'int32'
  np.testing.assert_allclose(found['x'], 1.9, rtol=1e-6)


def test_the_state_may_be_donated_with_the_parameters():
  optimizer = sa.smooth(SGD, 0.1)

  def call(state, params):
    updates, state = optimizer.update(params, state, params)
    return state, optax.apply_updates(params, updates)

  params = jnp.ones(3)
  run = jax.jit(call, donate_argnums=(0, 1))
  state, params = run(optimizer.init(params), params)
  np.testing.assert_allclose(sa.smoothed_params(state), 0.1, rtol=1e-6)


@pytest.mark.parametrize(
  'around',
  [
    lambda o: o,
    lambda o: optax.chain(optax.clip(9.0), o),
    lambda o: optax.apply_if_finite(o, 2),
    lambda o: sa.accumulate(o, 3),
    lambda o: sa.delay(o, 2),
    lambda o: sa.smooth(o, 0.5),
  ],
  ids=['alone', 'chain', 'apply_if_finite', 'accumulate', 'delay', 'smooth'],
)
def test_they_are_found_inside_other_states(around):
  optimizer = around(sa.smooth(SGD, 0.25))
  state = optimizer.init(START)
  wanted = jax.tree.map(np.asarray, START)
  jax.tree.map(np.testing.assert_array_equal, sa.smoothed_params(state), wanted)
  found = smoothing.evaluated(START, state)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_the_outermost_counts():
  optimizer = sa.smooth(sa.smooth(SGD, 0.25), 1)
  params, smoothed = loop(optimizer, START, uneven(START, 20))
  jax.tree.map(np.testing.assert_array_equal, smoothed, params)


def test_accumulated_gradients_are_one_update():
  """Smoothing inside `accumulate` counts updates, not calls."""
  gradients = jnp.arange(12.0).reshape(12, 1)
  start = jnp.zeros(1)
  _, found = loop(sa.accumulate(sa.smooth(SGD, 0.3), 3), start, gradients)
  sums = gradients.reshape(4, 3, 1).sum(1)
  _, wanted = loop(sa.smooth(SGD, 0.3), start, sums)
  np.testing.assert_allclose(found[2::3], wanted, rtol=1e-6)
  np.testing.assert_array_equal(found[3:5], found[[2, 2]])


@pytest.mark.parametrize(
  'optimizer, count',
  [
    (SGD, 0),
    (sa.hold(SGD, 3), 0),
    (optax.chain(sa.smooth(SGD, 0.1), sa.smooth(SGD, 0.2)), 2),
  ],
)
def test_exactly_one_is_wanted(optimizer, count):
  state = optimizer.init(START)
  message = f'found {count} states with smoothed .*: use exactly one smooth'
  with pytest.raises(ValueError, match=message):
    sa.smoothed_params(state)
  if count:
    with pytest.raises(ValueError, match=message):
      smoothing.evaluated(START, state)
  else:
    assert smoothing.evaluated(START, state) is START


def test_an_update_needs_the_parameters():
  optimizer = sa.smooth(SGD, 0.1)
  state = optimizer.init(START)
  message = r'params=None: .*update\(gradient, state, params\)'
  with pytest.raises(ValueError, match=message):
    optimizer.update(START, state)


@pytest.mark.parametrize(
  'communication', [(4, 1, 1), (3, 2, 5), (4, 1, 1, True)], ids=str
)
def test_a_server_smooths_its_versions(toy, communication):
  """One for each update, not for each push; in the memory of the state."""
  optimizer = sa.smooth(sa.adam(0.05), 0.1)
  policy = sa.Communication(*communication)
  versions, found = [jax.tree.map(np.asarray, toy.init(None))], []
  found.append(versions[0])
  with sa.pools.Virtual(threads=1) as pool:
    arrivals = sa.serve(toy, optimizer, policy, pool)
    for _, server in itertools.islice(arrivals, 40):
      if server.version < len(versions):
        continue
      state = server.optimizer_state
      versions.append(jax.tree.map(np.array, server.params))
      found.append(jax.tree.map(np.array, sa.smoothed_params(state)))
  assert len(versions) > 5
  stack = lambda *x: np.stack(x)
  versions, found = (jax.tree.map(stack, *x) for x in (versions, found))
  wanted = jax.tree.map(lambda x: reference.smoothed(x, 0.1), versions)
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, found, wanted)
  assert (
    reference.distance(
      jax.tree.map(lambda x: x[-1], found),
      jax.tree.map(lambda x: x[-1], versions),
    )
    > 1e-3
  )
