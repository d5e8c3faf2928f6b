"""How stale the pushes are: the paper's averages, and the law behind them."""

import hypothesis.strategies as st
import numpy as np
import optax
import pytest
from hypothesis import given, settings

import stale_adam as sa
from stale_adam import trace

SGD = optax.sgd(0.1)  # One for all tests: it is a key of jit's cache.
DRAWS = st.lists(st.integers(0, 9), min_size=1, max_size=40)


@pytest.mark.parametrize('local', [1, 2, 4])
@pytest.mark.parametrize(
  'every, expected',
  [(1, {3: 64}), (2, {1: 32, 2: 32}), (4, {0: 16, 1: 48})],
)
def test_four_equal_workers(linear, served, local, every, expected):
  """Table 3's average staleness, (N - 1) / G whatever L, and its spread."""
  numbers = sa.Communication(4, local, every)
  pushes, _ = served(linear, SGD, numbers, sa.pools.Virtual(), 80)
  staleness = [p.staleness for p in pushes[16:]]
  assert trace.staleness_histogram(staleness) == expected
  assert np.mean(staleness) == 3 / every


@settings(max_examples=30)
@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 9))
def test_equal_workers_from_the_first_push(
  linear, served, workers, local, every
):
  """Push i, counted from 0, meets floor(i / G) updates.

  Its snapshot was the reply to push i - N, so it has those of i - N + 1 pushes.
  The mean of the difference over any G pushes is (N - 1) / G.
  """
  count = workers + 3 * every
  numbers = sa.Communication(workers, local, every)
  pushes, _ = served(linear, SGD, numbers, sa.pools.Virtual(threads=1), count)
  assert [p.worker for p in pushes] == [i % workers for i in range(count)]
  expected = [
    i // every - max(0, (i - workers + 1) // every) for i in range(count)
  ]
  staleness = [p.staleness for p in pushes]
  assert staleness == expected
  for start in range(workers, count - every + 1):
    window = staleness[start : start + every]
    assert sum(window) == workers - 1


@pytest.mark.parametrize('pull_every', [1, 5, 7])
def test_artificial_staleness_is_uniform(linear, served, pull_every):
  """Section 4.3: U = 5 has mean 2, U = 7 has mean 3; synchronous has 0."""
  workers = 4
  clock = sa.Clock(distribution='gamma', spread=0.5)
  numbers = sa.Communication(workers, synchronous=True, pull_every=pull_every)
  pushes, _ = served(
    *(linear, SGD, numbers, sa.pools.Virtual(clock)), workers * pull_every * 3
  )
  staleness = [p.staleness for p in pushes]
  expected = {s: 3 * workers for s in range(pull_every)}
  assert trace.staleness_histogram(staleness) == expected
  assert np.mean(staleness) == (pull_every - 1) / 2
  assert {p.pulled_version % pull_every for p in pushes} == {0}


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), DRAWS)
def test_synchronous_staleness_is_the_snapshots_age_in_any_order(
  linear, served, scripted, workers, local, pull_every, draws
):
  numbers = sa.Communication(
    workers, local, synchronous=True, pull_every=pull_every
  )
  pool = scripted(draws)
  pushes, _ = served(linear, SGD, numbers, pool, len(draws))
  expected = [i // workers % pull_every for i in range(len(draws))]
  assert [p.staleness for p in pushes] == expected
  for start in range(0, len(draws) - workers + 1, workers):
    together = pushes[start : start + workers]
    assert sorted(p.worker for p in together) == [*range(workers)]


@settings(max_examples=60)
@given(
  workers=st.integers(1, 6),
  local=st.integers(1, 3),
  every=st.integers(1, 8),
  pull_every=st.integers(1, 4),
  draws=DRAWS,
)
def test_staleness_is_conserved(
  linear, scripted, workers, local, every, pull_every, draws
):
  """Whoever arrives when, updates make staleness at one fixed pace.

  Outstanding is, summed over the workers, the version in force - the version
  of the snapshot in flight. A push of staleness s takes s from it. If the push
  makes an update, each of the N - 1 other snapshots ages by 1. The pusher's
  next snapshot brings the age it is handed out with: 0, or, under artificial
  staleness, version mod U. Summed up from nothing outstanding at the start,

    staleness of all pushes + outstanding = (N - 1) updates + ages handed out

  exactly, after every single arrival, for any order, L and G. (Synchronous
  workers are no case of this: those that wait hold nothing that ages.)
  """
  numbers = sa.Communication(workers, local, every, pull_every=pull_every)
  pool = scripted(draws)
  total = 0
  age = lambda work, now: now - work.snapshot.version
  arrivals = sa.serve(linear, SGD, numbers, pool)
  for count, (push, state) in enumerate(arrivals, start=1):
    total += push.staleness
    handed_out = sum(age(work, work.version) for _, work in pool.answers)
    outstanding = sum(age(w, state.version) for w in pool.flights.values())
    assert len(pool.flights) == workers
    assert state.version == count // every
    assert total + outstanding == (workers - 1) * state.version + handed_out
    assert handed_out == 0 or pull_every > 1
    if count == len(draws):
      break
