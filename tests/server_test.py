"""The server against NumPy, and what must hold for any order of arrivals."""

import contextlib
import dataclasses
import re

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
import toys
from hypothesis import given, settings

import stale_adam as sa

# float32 against float64 over a hundred Adam updates makes 7e-7; two arrivals
# that trade places make more than CONFUSED.
TOLERANCE = 1e-5
CONFUSED = 1e-3
RATE = 0.02
ADAM = sa.adam(RATE)  # One for all tests: it is a key of jit's cache.
SGD = optax.sgd(0.1)

CASES = toys.COMMUNICATIONS
CLOCKS = {
  'equal': sa.Clock(),
  'gamma': sa.Clock(distribution='gamma', spread=0.8, seed=1),
  'normal': sa.Clock(0.9, 0.1, 0.2, 0.15, 'normal', 0.5, (1.0, 2.0, 0.7)),
}
DRAWS = st.lists(st.integers(0, 9), min_size=1, max_size=40)


def adam():
  return reference.Adam(lambda update: RATE)


def worst(states, run):
  """The largest distance of any version from the reference's."""
  found = {s.version: s.params for s in states}
  return max(reference.distance(p, run.versions[v]) for v, p in found.items())


def agree(pushes, states, case):
  """Everything about a run is the reference's; returns the reference's."""
  run = reference.serve(adam(), [p.worker for p in pushes], *case)
  assert [p.staleness for p in pushes] == run.staleness
  assert [p.pulled_version for p in pushes] == run.pulled
  assert [list(p.ids) for p in pushes] == run.ids
  assert all(p.message is None for p in pushes)
  assert states[-1].version == len(run.versions) - 1
  losses = np.array([p.loss for p in pushes])
  np.testing.assert_allclose(losses, run.loss, rtol=1e-4)
  assert worst(states, run) < TOLERANCE


@pytest.mark.parametrize('clock', CLOCKS.values(), ids=CLOCKS)
@pytest.mark.parametrize('case', CASES, ids=str)
def test_every_version_is_the_references(toy, served, case, clock):
  pool = sa.pools.Virtual(clock)
  pushes, states = served(toy, ADAM, sa.Communication(*case), pool, 120)
  agree(pushes, states, case)


@settings(max_examples=40)
@given(case=st.sampled_from(CASES), draws=DRAWS)
def test_any_order_is_the_references(toy, served, scripted, case, draws):
  pool = scripted(draws)
  agree(
    *served(toy, ADAM, sa.Communication(*case), pool, len(draws)), case=case
  )


def test_one_wrong_snapshot_would_be_noticed(toy, served):
  """The checks above can fail: the neighbours of a run are CONFUSED away."""
  pool = sa.pools.Virtual(CLOCKS['gamma'])
  pushes, states = served(toy, ADAM, sa.Communication(4), pool, 120)
  order = [p.worker for p in pushes]
  first = next(i for i in range(60, 119) if order[i] != order[i + 1])
  swapped = [*order]
  swapped[first : first + 2] = order[first + 1], order[first]
  others = [
    reference.serve(adam(), swapped, 4),
    reference.serve(adam(), order, 4, pull_every=2),
    reference.serve(adam(), [0] * 120, 1),
    reference.serve(reference.Adam(lambda u: RATE, b2=0.99), order, 4),
    reference.serve(reference.Adam(lambda u: RATE, eps=1e-2), order, 4),
  ]
  assert min(worst(states, run) for run in others) > CONFUSED


def test_batch_ids_follow_the_answers(linear, served, scripted):
  pool = scripted([2, 0, 2, 1])
  pushes, _ = served(linear, SGD, sa.Communication(3, 2), pool, 4)
  assert [(worker, list(work.ids)) for worker, work in pool.answers] == [
    *[(0, [0, 1]), (1, [2, 3]), (2, [4, 5])],
    *[(2, [6, 7]), (0, [8, 9]), (2, [10, 11]), (1, [12, 13])],
  ]
  assert [(p.worker, p.ids) for p in pushes] == [
    *[(2, [4, 5]), (0, [0, 1]), (2, [6, 7]), (1, [2, 3])]
  ]


def test_synchronous_workers_are_answered_in_order_of_id(
  linear, served, scripted
):
  pool = scripted([2, 0, 0, 1, 1, 0])  # 2, 0, 1; then 1, 2, 0.
  numbers = sa.Communication(3, 2, synchronous=True)
  pushes, states = served(linear, SGD, numbers, pool, 6)
  assert [p.worker for p in pushes] == [2, 0, 1, 1, 2, 0]
  assert [(worker, work.ids[0]) for worker, work in pool.answers] == [
    *[(0, 0), (1, 2), (2, 4)],
    *[(0, 6), (1, 8), (2, 10)],
    *[(0, 12), (1, 14), (2, 16)],
  ]
  assert [work.version for _, work in pool.answers] == 3 * [0] + 3 * [1] + 3 * [
    2
  ]
  assert [s.version for s in states] == [0, 0, 1, 1, 1, 2]


def test_the_reply_to_a_push_contains_the_update_it_made(
  linear, served, scripted
):
  """By hand: rate 0.1, gradient (1, id), sums of two pushes."""
  pool = scripted([1, 0, 0])
  numbers = sa.Communication(2, global_accumulation=2)
  pushes, states = served(linear, SGD, numbers, pool, 3)
  assert [p.ids for p in pushes] == [[1], [0], [3]]
  held = [(w, work.snapshot.version) for w, work in pool.answers]
  assert held == [(0, 0), (1, 0), (1, 0), (0, 1), (0, 1)]
  snapshot = pool.answers[-1][1].snapshot.params
  np.testing.assert_allclose(snapshot, [-0.2, -0.1], rtol=1e-6)
  assert [s.version for s in states] == [0, 1, 1]
  assert [sum(s.pushes) for s in states] == [1, 2, 3]


def test_seed_decides_the_start_and_communication_does_not(toy, served):
  problem = toy._replace(init=lambda key: {'x': jax.random.normal(key, (3,))})
  problem = problem._replace(loss=lambda p, batch, key: jnp.sum(p['x']))
  zero = optax.sgd(0.0)

  def start(numbers, seed):
    pool = sa.pools.Virtual()
    _, states = served(problem, zero, numbers, pool, 1, seed)
    return np.asarray(states[0].params['x'])

  first = start(sa.Communication(1), 5)
  np.testing.assert_array_equal(first, start(sa.Communication(3, 2, 2), 5))
  assert not np.array_equal(first, start(sa.Communication(1), 6))


@pytest.mark.parametrize(
  'field',
  ['workers', 'local_accumulation', 'global_accumulation', 'pull_every'],
)
@pytest.mark.parametrize('value', [0, -3, 1.5, True])
def test_numbers_must_be_whole_and_positive(field, value):
  wanted = f'{re.escape(f"{field}={value}")}.*whole number from 1 to 65536'
  with pytest.raises(ValueError, match=wanted):
    sa.Communication(**{'workers': 4, field: value})


def test_synchronous_updates_use_all_workers():
  for accumulation in (1, 4):
    numbers = sa.Communication(4, 2, accumulation, synchronous=True)
    assert numbers.pushes_per_update == 4
    assert numbers.batches_per_update == 8
    assert numbers == sa.Communication(4, 2, synchronous=True)
  assert sa.Communication(4, 2, 3).pushes_per_update == 3
  assert sa.Communication(4, 2, 3).batches_per_update == 6
  with pytest.raises(ValueError, match='=2: .*all 4 workers; leave it at 1'):
    sa.Communication(4, 1, 2, synchronous=True)


def test_settings_cannot_change_under_a_run():
  with pytest.raises(dataclasses.FrozenInstanceError):
    sa.Communication(4).workers = 5


@pytest.mark.parametrize('threads', [1, 3])
def test_what_a_worker_raises_surfaces_at_its_arrival(linear, threads):
  def batch(number):
    if number == 7:
      raise OSError('batch 7 is unreadable')
    return linear.batch(number)

  pool = sa.pools.Virtual(threads=threads)
  broken = linear._replace(batch=batch)
  seen = []
  with (
    contextlib.closing(pool),
    pytest.raises(OSError, match='batch 7 is unreadable'),
  ):
    for push, _ in sa.serve(broken, SGD, sa.Communication(2), pool):
      seen.extend(push.ids)
      assert len(seen) < 20, 'the error was swallowed'
  assert seen == [*range(7)]


def test_a_pool_serves_one_run(linear):
  with sa.pools.Virtual(threads=1) as pool:
    next(sa.serve(linear, sa.adam(1e-3), sa.Communication(2), pool))
    with pytest.raises(ValueError, match='worker 0 is busy.*make a new one'):
      next(sa.serve(linear, sa.adam(1e-3), sa.Communication(2), pool))


@pytest.mark.parametrize('value', ['no', 1, None])
def test_synchronous_is_true_or_false(value):
  with pytest.raises(ValueError, match='synchronous=.*True or False'):
    sa.Communication(2, synchronous=value)
