"""Closed forms against simulation; where the authors' code differs."""

import dataclasses
import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from hypothesis import given, settings

import stale_adam as sa
from stale_adam import optimizer as optimizers
from stale_adam import theory, transforms
from stale_adam.clock import largest_of
from stale_adam.compiled import decisions
from stale_adam.pools.virtual import Dry

SGD = optax.sgd(0.1)  # One for all tests: it is a key of jit's cache.


def dry(policy, clock, count):
  """The first pushes of workers on a clock that compute nothing."""
  with Dry(clock) as pool:
    arrivals = itertools.islice(decisions.dry(policy, pool), count)
    return [push for _, push, _ in arrivals]


@pytest.mark.parametrize('workers, every', [(1, 1), (4, 1), (4, 2), (3, 5)])
def test_mean_staleness_of_equal_workers(linear, served, workers, every):
  numbers = sa.Communication(workers, 2, every)
  window = workers * every
  pushes, _ = served(linear, SGD, numbers, sa.pools.Virtual(), 3 * window)
  found = np.mean([p.staleness for p in pushes[window:]])
  assert found == pytest.approx(theory.mean_staleness(workers, every))


def test_mean_staleness_of_unequal_workers(linear, served):
  """Some are much staler than others; the mean over pushes is as predicted.

  The outstanding staleness makes a difference of at most 1% after 900 pushes.
  """
  clock = sa.Clock(distribution='gamma', spread=0.7, speeds=(1.0, 3.0, 0.5))
  pool = sa.pools.Virtual(clock)
  pushes, _ = served(linear, SGD, sa.Communication(3), pool, 900)
  by_worker = [
    np.mean([p.staleness for p in pushes if p.worker == w]) for w in range(3)
  ]
  assert max(by_worker) > 2 * min(by_worker)
  found = np.mean([p.staleness for p in pushes])
  assert found == pytest.approx(theory.mean_staleness(3), rel=0.01)


@pytest.mark.parametrize('workers, every', [(1, 2), (4, 1), (3, 4), (7, 2)])
@pytest.mark.parametrize('pull_every', [2, 5])
def test_mean_staleness_of_held_snapshots(workers, every, pull_every):
  """Asynchronous workers that find a snapshot of U updates."""
  window = workers * every * pull_every
  numbers = sa.Communication(workers, 1, every, pull_every=pull_every)
  pushes = dry(numbers, sa.Clock(), 4 * window)
  found = np.mean([p.staleness for p in pushes[window:]])
  expected = theory.mean_staleness(workers, every, pull_every)
  assert found == pytest.approx(expected)


def test_mean_staleness_of_held_snapshots_and_unequal_workers():
  clock = sa.Clock(distribution='gamma', spread=0.7, speeds=(1.0, 3.0, 0.5))
  pushes = dry(sa.Communication(3, 1, 2, pull_every=5), clock, 4000)
  found = np.mean([p.staleness for p in pushes])
  assert found == pytest.approx(theory.mean_staleness(3, 2, 5), rel=0.01)


@pytest.mark.parametrize('pull_every', [1, 5, 7])
def test_artificial_staleness(linear, served, pull_every):
  numbers = sa.Communication(2, synchronous=True, pull_every=pull_every)
  pool = sa.pools.Virtual()
  pushes, _ = served(linear, SGD, numbers, pool, 6 * pull_every)
  found = np.mean([p.staleness for p in pushes])
  assert found == theory.artificial_staleness(pull_every)


@settings(max_examples=20)
@given(
  workers=st.integers(1, 6),
  local=st.integers(1, 2),
  every=st.integers(1, 5),
  draws=st.lists(st.integers(0, 9), min_size=1, max_size=30),
)
def test_staleness_sum_in_any_order(
  linear, scripted, workers, local, every, draws
):
  numbers = sa.Communication(workers, local, every)
  pool, total = scripted(draws), 0
  arrivals = sa.serve(linear, SGD, numbers, pool)
  for push, state in itertools.islice(arrivals, len(draws)):
    total += push.staleness
    flights = pool.flights.values()
    outstanding = sum(state.version - w.snapshot.version for w in flights)
    expected = theory.staleness_sum(workers, state.version)
    assert total + outstanding == expected


def test_largest_compute_by_hand():
  """Exponential times: 1 + 1/2 + ... + 1/N, and by inclusion and exclusion."""
  clock = sa.Clock(3.0, distribution='gamma', spread=1.0)
  for workers in (1, 2, 4, 16, 64):
    expected = 3 * sum(1 / i for i in range(1, workers + 1))
    found = theory.largest_compute(clock, workers)
    assert found == pytest.approx(expected, rel=1e-5)
  unequal = dataclasses.replace(clock, speeds=(1.0, 2.0))
  expected = 3 * (1 + 1 / 2 - 1 / 3)
  assert theory.largest_compute(unequal, 2) == pytest.approx(expected, rel=1e-5)
  fixed = sa.Clock(3.0, speeds=(2.0, 0.5, 1.0))
  found = [theory.largest_compute(fixed, workers) for workers in (1, 2, 3, 7)]
  assert found == [1.5, 6.0, 6.0, 6.0]


@pytest.mark.parametrize('spread', [0.01, 0.12, 0.25])
@pytest.mark.parametrize('workers', [1, 2, 4, 64])
def test_largest_compute_of_normal_times(workers, spread):
  clock = sa.Clock(2.0, distribution='normal', spread=spread)
  expected = 2 * (1 + spread * largest_of(workers))
  found = theory.largest_compute(clock, workers)
  assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('spread', [0.01, 0.1, 0.5, 1.0, 2.0])
def test_the_mean_of_gamma_times(spread):
  clock = sa.Clock(2.0, distribution='gamma', spread=spread)
  assert theory.largest_compute(clock, 1) == pytest.approx(2, rel=1e-5)


CLOCK = sa.Clock(2.0, 0.25, 0.5)  # Compute, push, pull.
CLUSTERS = {
  'gamma': dict(distribution='gamma', spread=0.5),
  'normal': dict(distribution='normal', spread=0.3),
  'unequal': dict(speeds=(1.0, 1.3, 2.0, 2.6)),
  'both': dict(distribution='gamma', spread=1.0, speeds=(3.0, 1.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', CLUSTERS)
@pytest.mark.parametrize('workers', [2, 5])
def test_seconds_and_rate_of_a_dry_run(name, workers):
  """Within four standard errors of the means, which are at most 3%."""
  clock = dataclasses.replace(CLOCK, **CLUSTERS[name])
  timed = dataclasses.replace(clock, update_seconds=0.125)
  waiting = sa.Communication(workers, synchronous=True)
  pushes = dry(waiting, timed, 600 * workers)
  rounds = np.diff([p.seconds for p in pushes[workers - 1 :: workers]])
  error = rounds.std() / np.sqrt(len(rounds))
  expected = theory.synchronous_seconds(timed, workers)
  assert abs(rounds.mean() - expected) <= 4 * error + 1e-9
  assert error < 0.03 * expected
  pushes = dry(sa.Communication(workers), clock, 600 * workers)
  rate = len(pushes) / pushes[-1].seconds
  expected = theory.asynchronous_rate(clock, workers)
  # What is in flight at the end is less than a round of every worker.
  error = 4 * clock.spread / np.sqrt(len(pushes)) + workers / len(pushes)
  assert rate == pytest.approx(expected, rel=error)


@pytest.mark.parametrize('every, expected', [(1, 2.0), (2, 4.0), (8, 16.0)])
def test_a_server_bounds_the_rate(every, expected):
  """Sixteen workers send 64 pushes in a second; an update takes half of one."""
  clock = sa.Clock(0.25, update_seconds=0.5)
  numbers = sa.Communication(16, 1, every)
  assert theory.asynchronous_rate(clock, 16, every) == expected
  pushes = dry(numbers, clock, 1600)
  rate = len(pushes) / pushes[-1].seconds
  assert rate == pytest.approx(expected, rel=0.1 if every > 2 else 0.02)
  assert theory.asynchronous_rate(clock, 16, 100) == 64
  assert theory.asynchronous_rate(sa.Clock(0.0), 3) == np.inf


@pytest.mark.slow
@pytest.mark.parametrize(
  'mean, variance', [(1, 0), (1, 1), (-2, 1), (0.5, 4), (0.1, 1), (0, 1)]
)
def test_adam_pace_is_its_long_run_average(mean, variance):
  """It is averaged over T updates of R parameters, after v has settled.

  A mean of R T independent gradients, over their size: its standard error is
  at most 1 / sqrt(R T). That v still varies, by (1 - b2) / 2 Var g^2, and
  correlates with m, shifts the pace by no more than 2 (1 - b2).
  """
  b2, settle, updates, parameters = 0.999, 3000, 2000, 200
  adam = sa.adam(1.0, b2=b2, eps=1e-30)
  draw = np.random.default_rng(0)
  shape = settle + updates, parameters
  gradients = mean + np.sqrt(variance) * draw.standard_normal(shape, np.float32)

  def call(state, gradient):
    updates, state = adam.update(gradient, state)
    return state, updates.mean()

  start = adam.init(jnp.zeros(parameters))
  run = jax.jit(lambda g: jax.lax.scan(call, start, g)[1])
  found = -run(np.float32(gradients))[settle:].mean()
  tolerance = 4 / np.sqrt(updates * parameters) + 2 * (1 - b2)
  assert abs(found - theory.adam_pace(mean, variance)) < tolerance < 0.01


def test_adam_pace_at_the_corners():
  mean = np.array([0.0, 0.0, 1e-30, -3.0, 1e200])
  variance = np.array([0.0, 1.0, 0.0, 0.0, 1.0])
  found = theory.adam_pace(mean, variance)
  np.testing.assert_allclose(found, [0, 0, 1, -1, 1])
  # Sums of 4 gradients whose noise is as large as their mean.
  assert theory.adam_pace(4, 4) == pytest.approx(np.sqrt(4 / 5))
  # The last pairs of Table 2: 0.5 and 1.5, then -1 and 2.
  assert theory.adam_pace(1, 0.25) == pytest.approx(1 / np.sqrt(1.25))
  assert theory.adam_pace(0.5, 2.25) == pytest.approx(0.5 / np.sqrt(2.5))


@pytest.mark.parametrize('delay', range(13))
def test_stable_rate_is_where_the_roots_leave_the_circle(delay):
  def largest_root(rate):
    polynomial = np.zeros(delay + 2)
    polynomial[:2] = 1, -1  # z^(d+1) - z^d
    polynomial[-1] += 2.5 * rate
    return np.abs(np.roots(polynomial)).max()

  rate = theory.stable_rate(2.5, delay)
  assert largest_root(0.999 * rate) < 1 < largest_root(1.001 * rate)


@pytest.mark.parametrize('delay', [0, 1, 3, 8])
def test_delayed_descent_converges_below_the_stable_rate(delay):
  """It converges at 0.97 of the rate and diverges at 1.03, on 2.5 x^2 / 2."""

  def end(rate):
    optimizer = transforms.delay(optax.sgd(rate), delay)
    start = jnp.ones(())

    def call(carry, _):
      params, state = carry
      updates, state = optimizer.update(2.5 * params, state)
      return (optax.apply_updates(params, updates), state), None

    carry = start, optimizer.init(start)
    return jax.lax.scan(call, carry, length=3000)[0][0]

  rates = theory.stable_rate(2.5, delay) * jnp.array([0.97, 1.03])
  below, above = jax.jit(jax.vmap(end))(rates)
  assert abs(below) < 0.01
  assert not abs(above) < 100  # Or infinite.


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: theory.mean_staleness(0), 'workers=0: .*1 or more'),
    (lambda: theory.mean_staleness(2, 0), 'global_accumulation=0: .*1 or more'),
    (lambda: theory.mean_staleness(2, 1, 0), 'pull_every=0: .*1 or more'),
    (lambda: theory.artificial_staleness(0), 'pull_every=0: .*1 or more'),
    (lambda: theory.largest_compute(CLOCK, 0), 'workers=0: .*1 or more'),
    (lambda: theory.asynchronous_rate(CLOCK, 2, 0), 'accumulation=0: .*1'),
    (lambda: theory.staleness_sum(-1, 3), 'workers=-1: .*1 or more'),
    (lambda: theory.adam_pace(1.0, -0.5), 'variance=-0.5: use 0 or more'),
    (lambda: theory.stable_rate(0.0, 3), 'curvature=0.0: .*positive'),
    (lambda: theory.stable_rate(1.0, -1), 'delay=-1: .*use 0 or more'),
    (lambda: optimizers.ticking(abs, 0), 'ticks_per_update=0: use 1'),
  ],
)
def test_what_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_ticking_is_the_schedule_of_a_faster_clock():
  """The peak comes L times earlier."""
  schedule = sa.inverse_sqrt(1.0, 16)
  fast = optimizers.ticking(schedule, 4)
  found = [float(fast(jnp.int32(u))) for u in range(100)]
  assert found == [float(schedule(4 * u)) for u in range(100)]
  assert found[0] == schedule(0) == 1 / 16
  assert np.argmax(found) == 4 and found[1] == 5 / 16
  plain = optimizers.ticking(schedule, 1)
  assert [plain(u) for u in range(20)] == [schedule(u) for u in range(20)]


def test_ticking_under_local_accumulation(toy, served):
  """Gradient 1 a batch, L = 4: only the rates differ, as said."""
  problem = toy._replace(
    init=lambda key: {'x': jnp.zeros(())},
    loss=lambda params, batch, key: params['x'],
  )
  rate = sa.inverse_sqrt(1.0, 16)
  for ticks, expected in [(1, [1, 2, 3, 4]), (4, [1, 5, 9, 13])]:
    optimizer = optax.sgd(optimizers.ticking(rate, ticks))
    pool = sa.pools.Virtual()
    _, states = served(problem, optimizer, sa.Communication(2, 4), pool, 4)
    moved = np.diff([0.0, *(-float(s.params['x']) for s in states)])
    np.testing.assert_allclose(moved, 4 * np.array(expected) / 16, rtol=1e-6)


def test_start_on_zero_is_one_update_ahead():
  rates = sa.inverse_sqrt(1.0, 4)
  optimizer = optimizers.start_on_zero(sa.adam(rates, eps=1e-30))
  params = {'x': jnp.zeros(2)}
  state = optimizer.init(params)
  assert int(state[0].count) == 1
  assert not np.any([state[0].mu['x'], state[0].nu['x']])
  # The second of Adam's updates, after a gradient of 0.
  expected = reference.Adam(lambda u: min(1, u / 4), eps=1e-30)
  expected.update({'x': np.zeros(2)}, {'x': np.full(2, 0.0)})
  wanted = {'x': np.zeros(2)}
  for gradient in ([1.0, -3.0], [2.0, 5.0], [-1.0, 0.5]):
    updates, state = optimizer.update({'x': jnp.array(gradient)}, state, params)
    params = optax.apply_updates(params, updates)
    wanted = expected.update(wanted, {'x': np.array(gradient)})
    np.testing.assert_allclose(params['x'], wanted['x'], rtol=1e-5)


def test_the_first_update_after_zero_is_smaller():
  """By sqrt(1 + b2) / (1 + b1) at a constant rate."""
  optimizer = optimizers.start_on_zero(sa.adam(1.0, eps=1e-30))
  params = jnp.zeros(2)
  gradient = jnp.array([1.0, -3.0])
  updates, _ = optimizer.update(gradient, optimizer.init(params))
  pace = np.sqrt(1.98) / 1.9
  np.testing.assert_allclose(updates, [-pace, pace], rtol=1e-5)
