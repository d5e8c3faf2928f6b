"""What methods promise for any order of arrivals, and any gradients."""

import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings

import stale_adam as sa
from stale_adam import methods

WORKERS, CALLS = 3, 10
DRAWS = st.lists(st.integers(0, 9), min_size=1, max_size=24)
# Every push, by worker. Of whole numbers and of halves, sums are exact.
PUSHES = st.lists(
  st.tuples(st.integers(0, WORKERS - 1), st.integers(-50, 50)),
  min_size=CALLS,
  max_size=CALLS,
)
# Its gradient is the distance to its batch.
NEAREST = sa.Problem(
  init=lambda key: jnp.zeros(2),
  loss=lambda x, batch, key: 0.5 * jnp.sum((x - batch) ** 2),
  batch=lambda number: np.array([number, -3 * number % 7], np.float32),
)
SGD = optax.sgd(0.25)
FRESH = (
  methods.DropStale(WORKERS, 0, 2),
  methods.BackupWorkers(WORKERS, 1),
  methods.FreshPushes(WORKERS, 2),
  methods.FirstWorkers(WORKERS, 2),
)


@settings(max_examples=40)
@given(policy=st.sampled_from(FRESH), draws=DRAWS)
def test_without_stale_pushes_it_is_synchronous(scripted, policy, draws):
  """Two pushes per update, at the parameters in force: x <- x - rate (sum)."""
  arrivals = sa.serve(NEAREST, SGD, policy, scripted(draws))
  pushes, servers = zip(*itertools.islice(arrivals, len(draws)), strict=True)
  used = [push for push in pushes if push.used]
  x = np.zeros(2)
  for pair in zip(used[::2], used[1::2], strict=False):
    data = [NEAREST.batch(i) for push in pair for i in push.ids]
    x = x - 0.25 * sum(x - batch for batch in data)
  assert {push.staleness for push in used} <= {0}
  assert servers[-1].version == len(used) // 2
  np.testing.assert_allclose(servers[-1].params, x, rtol=1e-5, atol=1e-6)


def scanned(arguments):
  """`run(workers, pushes)`: the server's parameters and its table, compiled.

  Parameters begin at 0. A worker pulls when it has pushed, and gets its reply.
  """
  per_push, optimizer = arguments['per_push'], arguments['optimizer']

  @jax.jit
  def run(workers, pushes):
    def arrive(carry, arrival):
      params, table, state, held = carry
      worker, push = arrival
      message, table = per_push.update(
        push, table, params, pulled=held[worker], worker=worker
      )
      updates, state = optimizer.update(message, state, params)
      params = optax.apply_updates(params, updates)
      visible = sa.server.Visible(params, params, state, table, jnp.int32(0))
      held = held.at[worker].set(arguments['reply'](visible, worker))
      return (params, table, state, held), params

    x = jnp.zeros(())
    start = x, per_push.init(x), optimizer.init(x), jnp.zeros(WORKERS)
    end, _ = jax.lax.scan(arrive, start, (workers, pushes))
    return end[0], end[1].entries

  return lambda arrivals: run(
    *(np.array(x, t) for x, t in zip(arrivals, 'if', strict=True))
  )


DANA = scanned(methods.dana(1.0, WORKERS, 0.5))
ELASTIC = scanned(methods.elastic_average(WORKERS, 0.5))


@given(PUSHES)
def test_dana_adds_what_every_worker_would_have_done_alone(pushes):
  """Gradient descent with momentum, whoever pushes in between; exactly."""
  params, _ = DANA(zip(*pushes, strict=True))
  total = 0.0
  for worker in range(WORKERS):
    velocity = 0.0
    for g in (g for w, g in pushes if w == worker):
      velocity = 0.5 * velocity + g
      total += velocity
  assert params == -total


@given(PUSHES)
def test_elastic_averaging_moves_and_loses_nothing(pushes):
  """All parameters together change by what the workers did; exactly."""
  params, own = ELASTIC(zip(*pushes, strict=True))
  assert params + own.sum() == -sum(change for _, change in pushes)


WEIGHTS = {
  'adapt_to_delay': methods.adapt_to_delay(2),
  'reduce_by_gap': methods.reduce_by_gap(0.9),
  'scale_by_distance': methods.scale_by_distance(2.0),
  'scale_by_staleness': methods.scale_by_staleness(),
  'weight_by_staleness': methods.weight_by_staleness(),
  'hinge': methods.weight_by_staleness('hinge', 0.5, 1.0),
  'exponential': methods.weight_by_staleness('exponential'),
}
START = np.zeros(3, np.float32)


def weighed(method):
  """`run(push, params, pulled, staleness)`: the push as it is summed."""

  @jax.jit
  def run(push, params, pulled, staleness):
    about = {'pulled': pulled, 'staleness': staleness}
    state = method.init(START)
    return method.update(push, state, params, **about)[0]

  return run


WEIGHED = {name: weighed(method) for name, method in WEIGHTS.items()}
# XLA's arithmetic flushes subnormal numbers to 0.
NUMBERS = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
VECTORS = st.lists(NUMBERS, min_size=3, max_size=3).map(np.float32)


@pytest.mark.slow
@given(
  st.sampled_from([*WEIGHTS]), VECTORS, VECTORS, VECTORS, st.integers(0, 9)
)
def test_weights_turn_no_push_and_enlarge_none(name, push, x, pulled, tau):
  """Element by element; a fresh push is left as it is, bit for bit."""
  found = WEIGHED[name](push, x, pulled, np.int32(tau))
  assert (found * push >= 0).all()
  assert (abs(found) <= abs(push)).all()
  fresh = WEIGHED[name](push, x, x, np.int32(0))
  np.testing.assert_array_equal(fresh, push)
