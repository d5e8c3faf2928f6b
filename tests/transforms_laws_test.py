"""Transformations of gradient descent, which are exact, and staleness."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from hypothesis import given

from stale_adam import theory, transforms

SGD = optax.sgd(1.0)
KEY = jax.random.key(2)
CALLS = 12


@functools.cache
def compiled(optimizer):
  """`run(gradients) -> params` after every call, from 0; one compilation."""

  @jax.jit
  def run(gradients):
    def call(carry, gradient):
      params, state = carry
      updates, state = optimizer.update(gradient, state, params)
      params = optax.apply_updates(params, updates)
      return (params, state), params

    start = jnp.zeros(())
    return jax.lax.scan(call, (start, optimizer.init(start)), gradients)[1]

  return lambda gradients: np.asarray(run(jnp.array(gradients, jnp.float32)))


EVERY = {n: transforms.accumulate(SGD, n) for n in range(1, 5)}
MEAN = {n: transforms.accumulate(SGD, n, use_mean=True) for n in (2, 4)}
LATE = {n: transforms.delay(SGD, n) for n in range(5)}
FINITE = optax.apply_if_finite(SGD, 100)
DROP = {n: transforms.accumulate(FINITE, n) for n in (1, 3)}
MULTI = {
  n: optax.MultiSteps(SGD, n, use_grad_mean=False).gradient_transformation()
  for n in range(1, 5)
}
# Whole numbers: sums are exact.
GRADIENTS = st.lists(st.integers(-99, 99), min_size=CALLS, max_size=CALLS)


def listening():
  """A transformation whose state is what it was told last."""

  def update(updates, state, params=None, *, pushes, staleness=-1, stalest=-1):
    del state, params
    return updates, jnp.array([pushes, staleness, stalest], jnp.float32)

  init = lambda params: jnp.zeros(3)
  return optax.GradientTransformationExtraArgs(init, update)


@pytest.mark.parametrize('use_mean', [False, True])
@pytest.mark.parametrize('pushes', [None, 2])
def test_the_inner_optimizer_is_told_of_the_whole_sum(use_mean, pushes):
  """Of every sum anew: its pushes, their mean and their largest staleness."""
  optimizer = transforms.accumulate(listening(), 3, use_mean)
  more = {} if pushes is None else {'pushes': pushes}
  state, found = optimizer.init(jnp.zeros(())), []
  for tau in (3, 0, 6, 1, 2, 0):
    known = {'staleness': tau, 'stalest': tau + 1} | more
    _, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()), **known)
    found.append(state.inner_state.tolist())
  count = (pushes or 1) * (1 if use_mean else 3)
  assert found[2] == found[4] == [count, 3, 7]
  assert found[5] == [count, 1, 3]


def test_staleness_that_nobody_knows_is_not_told():
  optimizer = transforms.accumulate(listening(), 2)
  state = optimizer.init(jnp.zeros(()))
  for _ in range(2):
    _, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
  assert state.inner_state.tolist() == [2, -1, -1]


@given(st.sampled_from([*EVERY]), GRADIENTS)
def test_gradient_descent_on_sums(every, gradients):
  """After c calls: minus the sum of the first c - c mod `every`."""
  found = compiled(EVERY[every])(gradients)
  expected = [-sum(gradients[: c - c % every]) for c in range(1, CALLS + 1)]
  assert found.tolist() == expected
  assert found.tolist() == compiled(MULTI[every])(gradients).tolist()
  if every in MEAN:
    assert (every * compiled(MEAN[every])(gradients)).tolist() == expected


@given(st.sampled_from([*LATE]), GRADIENTS)
def test_gradient_descent_on_late_gradients(staleness, gradients):
  """After c calls: minus the sum of the first c - staleness."""
  found = compiled(LATE[staleness])(gradients)
  counts = [max(0, c - staleness) for c in range(1, CALLS + 1)]
  assert found.tolist() == [-sum(gradients[:c]) for c in counts]


@given(
  st.sampled_from([*DROP]),
  GRADIENTS,
  st.integers(0, CALLS - 1),
  st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_what_is_not_finite_stays_in_its_window(every, gradients, where, bad):
  """Nothing leaks before the window is full; the window can be dropped."""
  start = where - where % every
  broken = [*gradients[:where], bad, *gradients[where + 1 :]]
  found = compiled(EVERY[every])(broken)
  before = compiled(EVERY[every])(gradients)[: start + every - 1]
  assert found[: start + every - 1].tolist() == before.tolist()
  assert not np.isfinite(found[start + every - 1])
  kept = [*gradients[:start], *[0] * every, *gradients[start + every :]]
  found = compiled(DROP[every])(broken)
  assert found.tolist() == compiled(EVERY[every])(kept).tolist()


def test_a_nan_stays_in_optax_for_ever():
  """The reason for an `accumulate` of our own: 0 x NaN = NaN."""

  def updates(optimizer):
    state, found = optimizer.init(jnp.zeros(())), []
    for g in (1.0, np.nan, 1.0, 1.0, 1.0, 1.0):
      update, state = jax.jit(optimizer.update)(jnp.float32(g), state)
      found.append(float(update))
    return found

  np.testing.assert_array_equal(
    updates(EVERY[2]), [0.0, np.nan, 0.0, -2.0, 0.0, -2.0]
  )
  assert np.isnan(updates(MULTI[2])[3::2]).all()


def test_the_schedule_runs_once_a_window():
  rates = optax.piecewise_constant_schedule(1.0, {1: 10.0, 2: 10.0})
  descent = optax.sgd(rates)
  summed = compiled(transforms.accumulate(descent, 3))(np.ones(9))
  assert summed.tolist() == [0, 0, -3, -3, -3, -33, -33, -33, -333]
  late = compiled(transforms.delay(descent, 2))(np.ones(5))
  assert late.tolist() == [0, 0, -1, -11, -111]


def staleness(optimizer, updates):
  """Staleness of every gradient, measured on parameters that count versions."""
  start = jnp.zeros(())

  def call(carry, _):
    params, state = carry
    pulled = transforms.pulled_params(state)
    delta, state = optimizer.update(
      jnp.float32(-1), state, params, pulled=pulled
    )
    return (optax.apply_updates(params, delta), state), params - pulled

  start = start, optimizer.init(start)
  run = jax.jit(lambda: jax.lax.scan(call, start, length=updates)[1])
  return np.asarray(run())


@pytest.mark.parametrize('pull_every', [1, 5, 7])
def test_staleness_of_hold(pull_every):
  found = staleness(transforms.hold(SGD, pull_every), 10 * pull_every)
  assert found.tolist() == 10 * [*range(pull_every)]
  assert found.mean() == theory.artificial_staleness(pull_every)
  phases = tuple(np.arange(4) * pull_every // 4)
  found = staleness(transforms.hold(SGD, pull_every, phases), 9 * pull_every)
  expected = reference.staggered(9 * pull_every, pull_every, phases)
  assert found.tolist() == expected
  steady = found[pull_every:]
  assert steady.mean() == theory.artificial_staleness(pull_every)


@pytest.mark.slow
def test_sampled_staleness_has_the_samplers_distribution():
  """Draws of 0..7 are clipped to 0..5, and to the versions that exist."""
  sampler = lambda key: jax.random.bits(key, dtype=jnp.uint8) % 8
  late = lambda key: transforms.delay(SGD, sampler, key, 5)
  found = staleness(late(KEY), 4000)
  assert np.all(found <= np.minimum(np.arange(4000), 5))
  counts = np.bincount(found[5:].astype(int), minlength=6)
  expected = 3995 * np.array([1, 1, 1, 1, 1, 3]) / 8
  # Chi-squared of 5 degrees exceeds 25.7 once in 10,000 keys.
  assert np.sum((counts - expected) ** 2 / expected) < 25.7
  # Independent: neighbours correlate by 0 +- 1 / sqrt(4000).
  assert abs(np.corrcoef(found[5:-1], found[6:])[0, 1]) < 4 / 4000**0.5
  again = staleness(late(jax.random.key(2)), 4000)
  assert again.tolist() == found.tolist()
  other = staleness(late(jax.random.key(3)), 4000)
  assert other.tolist() != found.tolist()


def test_the_state_tells_the_staleness_of_the_next_gradient():
  """It is the measured one, which is at most the version."""
  optimizer = transforms.delay(SGD, [3, 0, 5])
  params, found = jnp.zeros(()), []
  state = optimizer.init(params)
  for _ in range(9):
    pulled = transforms.pulled_params(state)
    assert state.staleness == params - pulled
    found.append(int(params - pulled))
    delta, state = optimizer.update(
      jnp.float32(-1), state, params, pulled=pulled
    )
    params = optax.apply_updates(params, delta)
  assert found == [0, 0, 2, 3, 0, 5, 3, 0, 5]


def test_pulled_params_looks_inside_and_wants_exactly_one():
  params = {'x': jnp.arange(2.0)}
  held = transforms.hold(SGD, 3)
  nested = optax.apply_if_finite(optax.chain(optax.identity(), held), 1)
  outer = transforms.hold(nested, 2, phases=(0, 1, 1))
  for optimizer in (held, nested, transforms.delay(nested, 2)):
    found = transforms.pulled_params(optimizer.init(params))
    np.testing.assert_array_equal(found['x'], params['x'])
  # The outermost counts.
  assert transforms.pulled_params(outer.init(params))['x'].shape == (3, 2)
  several = optax.chain(held, transforms.delay(SGD, [1]))
  for optimizer, count in [(SGD, 0), (LATE[2], 0), (several, 2)]:
    with pytest.raises(ValueError, match=f'found {count} .*exactly one hold'):
      transforms.pulled_params(optimizer.init(params))


def method():
  """Gradient descent that records `staleness` and params - `pulled`."""

  def update(updates, state, params, *, staleness, pulled=None, **others):
    del state, others
    gap = jnp.full((), jnp.nan) if pulled is None else params - pulled
    kept = jnp.asarray(staleness, jnp.float32), gap
    return jax.tree.map(lambda g: -g, updates), kept

  init = lambda params: (jnp.zeros(()), jnp.zeros(()))
  return optax.GradientTransformationExtraArgs(init, update)


def told(optimizer, calls, keeps):
  """What `method` records in every call, in a loop that counts versions."""
  start = jnp.zeros(())

  def call(carry, _):
    params, state = carry
    extra = {'pulled': transforms.pulled_params(state)} if keeps else {}
    updates, state = optimizer.update(jnp.float32(-1), state, params, **extra)
    params = optax.apply_updates(params, updates)
    return (params, state), jax.tree.leaves(state)[-2:]  # The method's.

  start = start, optimizer.init(start)
  run = jax.jit(lambda: jax.lax.scan(call, start, length=calls)[1])
  return [np.asarray(x) for x in run()]


METHODS = {
  'alone': method(),
  'in a chain': optax.chain(optax.clip(2.0), method(), optax.identity()),
}
methods = pytest.mark.parametrize('method', METHODS.values(), ids=METHODS)


@methods
@pytest.mark.parametrize('late', [0, 1, 4])
def test_a_method_under_constant_delay_is_told_the_staleness(method, late):
  """It is min(s, u) in update u; `pulled` is not known and not given."""
  found, gap = told(transforms.delay(method, late), 30, keeps=False)
  assert found[late:].tolist() == [min(late, u) for u in range(30 - late)]
  assert np.isnan(gap[late:]).all()


@methods
@pytest.mark.parametrize(
  'wrap',
  [
    lambda o: transforms.hold(o, 1),
    lambda o: transforms.hold(o, 5),
    lambda o: transforms.delay(o, [3, 0, 5]),
    lambda o: transforms.delay(o, lambda k: jax.random.bits(k) % 7, KEY, 4),
  ],
)
def test_a_method_is_told_where_the_gradient_was_taken(method, wrap):
  """Parameters count versions here: params - pulled is the staleness."""
  optimizer = wrap(method)
  found, gap = told(optimizer, 30, keeps=True)
  assert found.tolist() == gap.tolist() == staleness(optimizer, 30).tolist()


@methods
def test_a_method_under_staggered_hold_is_told_the_mean(method):
  phases = (0, 2, 3, 3)
  found, gap = told(transforms.hold(method, 5, phases), 30, keeps=True)
  expected = np.mean(reference.staggered(30, 5, phases), axis=1)
  assert found.tolist() == expected.tolist()
  assert np.isnan(gap).all()


@methods
def test_a_method_that_needs_the_pulled_parameters_says_so(method):
  """Where they are not known, it does not get others instead."""
  update = lambda g, state, params, *, pulled, **others: (g, state)
  needs = optax.GradientTransformationExtraArgs(method.init, update)
  params = jnp.zeros(())
  for optimizer in (
    transforms.delay(needs, 0),
    transforms.delay(needs, 2),
    transforms.hold(needs, 2, phases=(0, 1)),
  ):
    state = optimizer.init(params)
    with pytest.raises(TypeError, match="argument: 'pulled'"):
      optimizer.update(params, state, params, pulled=jnp.zeros(2))
