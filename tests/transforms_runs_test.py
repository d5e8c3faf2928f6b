"""Transformations in training loops, against NumPy and against the server."""

import itertools

import jax
import numpy as np
import optax
import pytest
import reference

import stale_adam as sa
from stale_adam import methods, transforms

# TOLERANCE is for float32 against float64, or against another compilation, over
# 60 updates. Gradients one update older make a difference above CONFUSED.
TOLERANCE = 1e-5
CONFUSED = 1e-3
RATE, WARMUP = 0.02, 8
ADAM = sa.adam(sa.inverse_sqrt(RATE, WARMUP))

at_params = lambda params, state: params
at_pulled = lambda params, state: transforms.pulled_params(state)
# Ids of the batches, by call, or by call and worker.
one_each = lambda calls: [[i] for i in range(calls)]
each = lambda calls, workers: np.reshape(range(calls * workers), (calls, -1))


def train(toy, optimizer, ids, where=at_params, axis=None):
  """Parameters after every call; call t sums the gradients of batches ids[t].

  They are taken at `where(params, state)`: `axis` is that of its workers.
  """
  gradient = jax.vmap(
    jax.grad(lambda params, data: toy.loss(params, data, None)),
    in_axes=(axis, 0),
  )
  shape = lambda x: np.reshape(x, (*np.shape(ids), *x.shape[1:]))
  data = jax.tree.map(
    lambda *x: shape(np.stack(x)), *map(toy.batch, np.ravel(ids).tolist())
  )

  def call(carry, data):
    params, state = carry
    late = where(*carry)
    summed = jax.tree.map(lambda g: g.sum(0), gradient(late, data))
    extra = {'pulled': late} if where is at_pulled else {}
    updates, state = optimizer.update(summed, state, params, **extra)
    params = optax.apply_updates(params, updates)
    return (params, state), params

  run = jax.jit(lambda s: jax.lax.scan(call, (s, optimizer.init(s)), data)[1])
  found = jax.device_get(run(toy.init(None)))
  return [{k: x[t] for k, x in found.items()} for t in range(len(ids))]


def worst(found, expected):
  pairs = zip(found, expected, strict=True)
  return max(reference.distance(*pair) for pair in pairs)


def agree(found, ages):
  """Every version is the reference's, and not that of older gradients."""

  def expected(ages):
    rate = lambda u: RATE * min(1, u / WARMUP) * min(1, (WARMUP / u) ** 0.5)
    return reference.late(reference.Adam(rate), ages)[1:]

  assert worst(found, expected(ages)) < TOLERANCE
  older = [[age + 1 for age in several] for several in ages]
  assert worst(found, expected(older)) > CONFUSED


@pytest.mark.parametrize('every', [1, 2, 5])
def test_accumulate_is_the_references(toy, every):
  found = train(toy, transforms.accumulate(ADAM, every), one_each(40))
  agree(found[every - 1 :: every], [[0] * every] * (40 // every))
  for t, (before, after) in enumerate(itertools.pairwise(found), start=1):
    still = all(np.array_equal(before[k], after[k]) for k in before)
    assert still == (t % every != every - 1)


@pytest.mark.parametrize('staleness', [0, 1, 3, 6])
def test_delay_is_the_references(toy, staleness):
  found = train(toy, transforms.delay(ADAM, staleness), one_each(40))
  agree(found[staleness:], [[staleness]] * (40 - staleness))
  for params in found[:staleness]:
    jax.tree.map(np.testing.assert_array_equal, params, reference.initial())


@pytest.mark.slow
@pytest.mark.parametrize('size, largest', [(1, 2), (40, 6), (7, 4), (90, 0)])
def test_delay_by_array_is_the_references(toy, size, largest):
  draw = np.random.default_rng(size)
  staleness = draw.integers(0, largest, size, endpoint=True)
  optimizer = transforms.delay(ADAM, staleness)
  found = train(toy, optimizer, one_each(40), at_pulled)
  agree(found, [[staleness[u % size]] for u in range(40)])


def test_delay_by_sampler_is_the_references(toy):
  key, sampler = jax.random.key(5), lambda key: jax.random.bits(key) % 5
  drawn = [min(int(sampler(jax.random.fold_in(key, u))), 3) for u in range(40)]
  assert {*drawn} == {*range(4)}
  optimizer = transforms.delay(ADAM, sampler, key, largest=3)
  found = train(toy, optimizer, one_each(40), at_pulled)
  agree(found, [[s] for s in drawn])


@pytest.mark.parametrize('pull_every, workers', [(1, 1), (5, 1), (7, 4)])
def test_hold_is_the_references(toy, pull_every, workers):
  optimizer = transforms.hold(ADAM, pull_every)
  found = train(toy, optimizer, each(40, workers), at_pulled)
  agree(found, [[u % pull_every] * workers for u in range(40)])


@pytest.mark.slow
@pytest.mark.parametrize(
  'pull_every, phases', [(1, (0, 0)), (5, (3,)), (7, (0, 2, 4, 6)), (3, (1, 1))]
)
def test_staggered_hold_is_the_references(toy, pull_every, phases):
  optimizer = transforms.hold(ADAM, pull_every, phases)
  found = train(toy, optimizer, each(40, len(phases)), at_pulled, axis=0)
  agree(found, reference.staggered(40, pull_every, phases))


@pytest.mark.slow
def test_reduces_to_the_inner_optimizer(toy):
  expected = train(toy, ADAM, one_each(20))
  for optimizer, where in [
    (transforms.accumulate(ADAM, 1), at_params),
    (transforms.accumulate(ADAM, 1, use_mean=True), at_params),
    (transforms.delay(ADAM, 0), at_params),
    (transforms.delay(ADAM, [0, 0]), at_pulled),
    (transforms.hold(ADAM, 1), at_pulled),
  ]:
    found = train(toy, optimizer, one_each(20), where)
    assert worst(found, expected) < TOLERANCE


@pytest.mark.slow
def test_staggered_in_phase_is_shared(toy):
  """Workers that all pull when version mod U = 0 hold one snapshot."""
  several = each(20, 3)
  shared = train(toy, transforms.hold(ADAM, 4), several, at_pulled)
  optimizer = transforms.hold(ADAM, 4, phases=(0, 0, 0))
  found = train(toy, optimizer, several, at_pulled, axis=0)
  assert worst(found, shared) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize('workers', [1, 2, 3, 4, 5])
def test_workers_in_turn_are_a_constant_delay(toy, served, workers):
  """They agree from the first update on, under warm-up.

  The loop makes N - 1 calls more: those in which its queue fills.
  """
  pool, numbers = sa.pools.Virtual(), sa.Communication(workers)
  pushes, states = served(toy, ADAM, numbers, pool, 40)
  expected = [s.params for s in states]
  late = transforms.delay(ADAM, workers - 1)
  found = train(toy, late, one_each(40 + workers - 1))
  assert worst(found[workers - 1 :], expected) < TOLERANCE
  assert worst(found[workers:], expected[:-1]) > CONFUSED
  assert pushes[-1].staleness == workers - 1


@pytest.mark.slow
@pytest.mark.parametrize('seed', [1, 2])
def test_any_asynchronous_run_is_a_delay_by_its_staleness(toy, served, seed):
  """With G = 1 the order matters only by the staleness that it makes."""
  clock = sa.Clock(distribution='gamma', spread=0.8, seed=seed)
  pool, numbers = sa.pools.Virtual(clock), sa.Communication(5)
  pushes, states = served(toy, ADAM, numbers, pool, 60)
  ids, staleness = [p.ids for p in pushes], [p.staleness for p in pushes]
  assert len({*staleness}) > 3
  expected = [s.params for s in states]
  late = transforms.delay(ADAM, staleness)
  assert worst(train(toy, late, ids, at_pulled), expected) < TOLERANCE
  staleness[20] += 4
  other = transforms.delay(ADAM, staleness)
  assert worst(train(toy, other, ids, at_pulled), expected) > CONFUSED


@pytest.mark.slow
@pytest.mark.parametrize('workers, pull_every', [(1, 4), (3, 5)])
def test_artificial_staleness_is_hold(toy, served, workers, pull_every):
  pool, numbers = (
    sa.pools.Virtual(),
    sa.Communication(workers, synchronous=True, pull_every=pull_every),
  )
  _, states = served(toy, ADAM, numbers, pool, 30 * workers)
  expected = [s.params for s in states[workers - 1 :: workers]]
  ids = each(30, workers)
  held = transforms.hold(ADAM, pull_every)
  assert worst(train(toy, held, ids, at_pulled), expected) < TOLERANCE
  # It is also a delay by 0..U-1 over and over, which takes more memory.
  late = transforms.delay(ADAM, range(pull_every))
  assert worst(train(toy, late, ids, at_pulled), expected) < TOLERANCE
  assert worst(train(toy, ADAM, ids), expected) > CONFUSED


def test_synchronous_workers_are_accumulate(toy, served):
  """Between updates the parameters do not change, in either."""
  pool, numbers = sa.pools.Virtual(), sa.Communication(4, synchronous=True)
  _, states = served(toy, ADAM, numbers, pool, 80)
  expected = [s.params for s in states]
  found = train(toy, transforms.accumulate(ADAM, 4), one_each(80))
  assert worst(found, expected) < TOLERANCE
  assert worst(found[1:], expected[:-1]) > CONFUSED


@pytest.mark.slow
def test_workers_one_round_late_are_a_delay_of_one(toy):
  """The loop makes one call more, in which its queue fills."""
  policy, order = methods.OneRoundLate(4), [*range(4)] * 20
  found = sa.simulate(toy, ADAM, policy, order, devices=jax.devices()[:1])
  late = train(toy, transforms.delay(ADAM, 1), each(21, 4))
  assert reference.distance(found.params, late[-1]) < TOLERANCE
  assert reference.distance(found.params, late[-2]) > CONFUSED


IN_TURN = sa.Communication(4), lambda o: transforms.delay(o, [3])
HELD = sa.Communication(1, pull_every=5), lambda o: transforms.hold(o, 5)
SGD = optax.sgd(0.1)
# A method before an optimizer: in the loop around it, on the server per push.
PER_PUSH = {
  'compensate_delay': (methods.compensate_delay(0.5), SGD, IN_TURN),
  'compensate_delay, held': (methods.compensate_delay(0.5), SGD, HELD),
  'compensate_delay, adaptive': (
    *(methods.compensate_delay(2.0, 0.95), ADAM, IN_TURN),
  ),
  'reduce_by_gap': (methods.reduce_by_gap(0.9), SGD, IN_TURN),
  'scale_by_distance': (methods.scale_by_distance(0.001), SGD, IN_TURN),
  'scale_by_distance, held': (methods.scale_by_distance(0.001), SGD, HELD),
  'weight_by_staleness': (methods.weight_by_staleness(), SGD, IN_TURN),
  'scale_by_staleness': (methods.scale_by_staleness(), SGD, IN_TURN),
}
# A method after an optimizer, or alone, in both.
OPTIMIZERS = {
  'adapt_to_delay': (optax.chain(ADAM, methods.adapt_to_delay(2)), IN_TURN),
  'adapt_to_delay, held': (optax.chain(ADAM, methods.adapt_to_delay(2)), HELD),
  'correct_rate': (optax.chain(ADAM, methods.correct_rate(20)), IN_TURN),
  'fadas': (methods.fadas(RATE), IN_TURN),
  'delayed_nesterov': (methods.delayed_nesterov(0.05, 4), IN_TURN),
}
DROP_IN = {
  **{
    name: (method, inner, optax.chain(method, inner), *how)
    for name, (method, inner, how) in PER_PUSH.items()
  },
  **{
    name: (None, optimizer, optimizer, *how)
    for name, (optimizer, how) in OPTIMIZERS.items()
  },
}


@pytest.mark.slow
@pytest.mark.parametrize('name', DROP_IN)
def test_a_method_in_a_loop_is_that_on_a_server(toy, name):
  """With workers in turn, or one that pulls now and then."""
  per_push, optimizer, chained, policy, wrap = DROP_IN[name]
  with sa.pools.Virtual() as pool:
    arrivals = sa.serve(toy, optimizer, policy, pool, per_push=per_push)
    pushes, states = zip(*itertools.islice(arrivals, 40), strict=True)
  expected = [s.params for s in states]
  assert max(push.staleness for push in pushes) > 2
  ids = [push.ids for push in pushes]
  found = train(toy, wrap(chained), ids, at_pulled)
  assert worst(found, expected) < TOLERANCE
  if per_push:
    without = train(toy, wrap(optimizer), ids, at_pulled)
    assert worst(without, expected) > CONFUSED
