"""The compiled simulation: the server's numbers, and NumPy's, in any order."""

import importlib
import itertools
import types

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from hypothesis import given
from optax import contrib

import stale_adam as sa
from stale_adam import policy, server
from stale_adam.compiled import decisions, program

# `sa.simulate` is the function.
module = importlib.import_module('stale_adam.compiled.simulate')

RATE = 0.02
# One of each for all tests: they are keys of jit's cache.
ADAM, MOMENTUM = sa.adam(RATE), optax.sgd(0.05, momentum=0.9)
PRODIGY = contrib.prodigy()
TOLERANCE = 1e-5  # float32 against float64 over a hundred Adam updates.
ONE = jax.devices()[:1]
DRAWS = st.lists(st.integers(0, 9), min_size=1, max_size=40)

# workers, local, global accumulation, synchronous, pull_every
CASES = [
  (1, 1, 1, False, 1),
  (4, 1, 1, False, 1),
  (4, 2, 1, False, 1),
  (4, 3, 1, False, 1),
  (4, 2, 2, False, 1),
  (4, 1, 4, False, 1),
  (3, 2, 5, False, 1),
  (4, 1, 1, True, 1),
  (3, 1, 1, True, 5),
  (3, 1, 2, False, 3),
]


def possible(draws, communication):
  """A list of numbers as an order that could happen under the communication."""
  waiting, order = [], []
  flying = [*range(communication.workers)]
  for draw in draws:
    order.append(flying.pop(draw % len(flying)))
    waiting.append(order[-1])
    if not communication.synchronous or not flying:
      flying, waiting = sorted(flying + waiting), []
  return order


def random_order(communication, count, seed=0):
  draw = np.random.default_rng(seed)
  return possible(draw.integers(0, 99, count).tolist(), communication)


def equal(left, right):
  wide = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float32), tree)
  jax.tree.map(np.testing.assert_array_equal, wide(left), wide(right))


@pytest.mark.slow
def test_sums_over_all_parameters_are_equal_to_rounding(toy, served):
  """Prodigy's, whose state in bfloat16 grows in two updates, besides."""
  numbers, optimizer = sa.Communication(3, global_accumulation=2), PRODIGY
  run, state, losses = both(toy, optimizer, numbers, served, ONE)
  assert reference.distance(run.params, state.params) < 1e-6
  cast = lambda key: jax.tree.map(lambda x: x.astype('bfloat16'), toy.init(key))
  run = sa.simulate(
    toy._replace(init=cast), optimizer, numbers, [0, 1, 2, 0], devices=ONE
  )
  assert all(x.dtype == 'bfloat16' for x in jax.tree.leaves(run.params))


def _norm_loss(params, batch, key):
  """Gradients that end in products and sums, which XLA likes to fuse."""
  del key
  hidden = batch['inputs'] @ params['inner']
  hidden = (hidden - jnp.mean(hidden)) / (jnp.std(hidden) + 1e-3)
  found = jax.nn.softmax(hidden * params['outer'][None])
  return jnp.mean(jnp.square(found - batch['target'][:, None]))


SLOW = [
  pytest.param(name, marks=pytest.mark.slow) for name in ('norm', 'bfloat16')
]


@pytest.fixture(params=['toy', *SLOW])
def problem(request, toy):
  """Three kinds of loss, whose gradients XLA compiles in different ways."""
  if request.param == 'norm':
    return toy._replace(loss=_norm_loss)
  if request.param == 'bfloat16':
    cast = lambda tree: jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)
    return toy._replace(
      init=lambda key: cast(toy.init(key)),
      loss=lambda params, batch, key: toy.loss(params, cast(batch), key),
    )
  return toy


def both(problem, optimizer, numbers, served, devices):
  """(simulation, last state of serve, its pushes) of one order."""
  order = random_order(numbers, 61)
  pool = sa.pools.Virtual(sa.Trace(order, np.arange(61.0)))
  pushes, states = served(problem, optimizer, numbers, pool, 99)
  assert len(pushes) == 61
  run = sa.simulate(problem, optimizer, numbers, order, devices=devices)
  assert run.staleness.tolist() == [p.staleness for p in pushes]
  assert run.pulled_version.tolist() == [p.pulled_version for p in pushes]
  leaves = jax.tree.leaves((run.params, run.loss))
  assert all(leaf.devices() == {devices[0]} for leaf in leaves)
  assert run.loss.dtype == pushes[0].loss.dtype
  return run, states[-1], jnp.stack([p.loss for p in pushes])


@pytest.mark.parametrize('case', CASES, ids=str)
def test_is_serve_bit_for_bit(problem, served, case):
  """Momentum shows what Adam hides; for Adam see the pools' contract."""
  numbers = sa.Communication(*case)
  run, state, losses = both(problem, MOMENTUM, numbers, served, ONE)
  equal(run.params, state.params)
  equal(run.loss, losses)


@pytest.mark.slow
@pytest.mark.parametrize('devices', [3, 4])
@pytest.mark.parametrize('case', CASES, ids=str)
def test_several_devices_compute_together(toy, served, case, devices):
  """To rounding: a program of several devices is compiled in another way."""
  numbers = sa.Communication(*case)
  where = jax.devices()[-devices:]
  run, state, losses = both(toy, MOMENTUM, numbers, served, where)
  assert reference.distance(run.params, state.params) < 1e-6
  np.testing.assert_allclose(run.loss, losses, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  'optimizer',
  [
    optax.inject_hyperparams(optax.adam)(learning_rate=0.01),
    optax.chain(optax.clip_by_global_norm(0.1), optax.lion(0.01)),
    sa.accumulate(optax.inject_hyperparams(optax.adam)(0.01), 3),
    sa.delay(sa.adam(0.01), np.int64(2)),
  ],
  ids=['inject', 'chain', 'accumulate', 'delay'],
)
def test_other_optimizers(problem, served, optimizer):
  """Some let the dtypes of their state grow at the first update."""
  numbers = sa.Communication(3, global_accumulation=2)
  run, state, losses = both(problem, optimizer, numbers, served, ONE)
  equal(run.params, state.params)
  equal(run.loss, losses)


@pytest.mark.slow
@hypothesis.settings(max_examples=25)
@given(case=st.sampled_from(CASES), draws=DRAWS)
def test_any_order_is_the_references(toy, case, draws):
  # Lengths are padded by a few, so that few programs are compiled.
  draws = draws + [0] * (-len(draws) % 20)
  numbers = sa.Communication(*case)
  order = possible(draws, numbers)
  run = sa.simulate(toy, ADAM, numbers, order, devices=ONE)
  expected = reference.serve(reference.Adam(lambda u: RATE), order, *case)
  assert run.staleness.tolist() == expected.staleness
  assert run.pulled_version.tolist() == expected.pulled
  np.testing.assert_allclose(run.loss, expected.loss, rtol=1e-4)
  assert reference.distance(run.params, expected.versions[-1]) < TOLERANCE


def test_batches_may_come_from_a_jitted_function(served):
  """It runs as the program that it is in `serve`; others round differently."""
  written = []

  @jax.jit
  def teach(inputs):
    written.append(inputs)
    return jnp.tanh(inputs)

  problem = sa.Problem(
    lambda key: jnp.float32([1.0, 2.0]),
    lambda params, batch, key: jnp.vdot(params, batch),
    lambda number: np.asarray(teach(np.float32([1.0, number]))),
  )
  numbers = sa.Communication(3)
  pushes, states = served(problem, ADAM, numbers, sa.pools.Virtual(), 12)
  run = sa.simulate(problem, ADAM, numbers, sa.Trace.of(pushes))
  assert len(written) == 1
  np.testing.assert_array_equal(run.loss, [push.loss for push in pushes])
  np.testing.assert_array_equal(run.params, states[-1].params)
  order = [push.worker for push in pushes]
  train = lambda rate: sa.simulate(problem, sa.adam(rate), numbers, order)
  losses = jax.jit(jax.vmap(train))(jnp.array([RATE, 0.2])).loss
  np.testing.assert_allclose(losses[0], run.loss, rtol=1e-5)


def test_another_order_would_be_noticed(toy):
  numbers = sa.Communication(4)
  order = random_order(numbers, 61)
  first = next(i for i in range(30, 60) if order[i] != order[i + 1])
  swapped = [*order]
  swapped[first : first + 2] = order[first + 1], order[first]
  run = sa.simulate(toy, ADAM, numbers, swapped, devices=ONE)
  expected = reference.serve(reference.Adam(lambda u: RATE), order, 4)
  assert reference.distance(run.params, expected.versions[-1]) > 1e-3


@pytest.mark.slow
def test_seeds_and_rates_can_be_vmapped(toy):
  """As separate runs, to vmap's rounding; the initial parameters differ."""
  problem = toy._replace(
    init=lambda key: jax.tree.map(
      lambda x: x + 0.1 * jax.random.normal(key, x.shape), toy.init(key)
    )
  )
  numbers = sa.Communication(4, global_accumulation=2)
  order = random_order(numbers, 40)
  rates, seeds = jnp.array([0.01, 0.03]), jnp.array([3, 4])

  def run(rate, seed):
    return sa.simulate(problem, sa.adam(rate), numbers, order, seed)

  grid = jax.vmap(jax.vmap(run, (None, 0)), (0, None))
  for function in (grid, jax.jit(grid)):
    found = function(rates, seeds)
    assert found.staleness.shape == found.loss.shape == (2, 2, 40)
    for i, j in itertools.product(range(2), repeat=2):
      alone = run(float(rates[i]), int(seeds[j]))
      at = jax.tree.map(lambda x, i=i, j=j: x[i, j], found)
      jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
        at,
        alone,
      )
  assert not np.allclose(found.loss[0, 0], found.loss[1, 0])
  assert not np.allclose(found.loss[0, 0], found.loss[0, 1])


@pytest.mark.slow
@pytest.mark.parametrize('penalty', [0.0, 1.0])
@pytest.mark.parametrize(
  'numbers, versions',
  [
    (sa.Communication(64), 64),
    (sa.Communication(64, global_accumulation=64), 2),
    (sa.Communication(64, synchronous=True), 1),
    (sa.Communication(8, synchronous=True, pull_every=5), 5),
  ],
  ids=['async', 'global', 'sync', 'artificial'],
)
def test_keeps_no_more_versions_than_the_largest_staleness_asks_for(
  numbers, versions, penalty
):
  """Round-robin: N - 1 with G = 1, 1 with G = N, 0, and U - 1; and now.

  Each once: a loss that uses a leaf element by element makes XLA copy them all
  at every push, if they are read before they are written.
  """
  order = np.arange(640) % numbers.workers
  found = decisions.record(numbers, order)
  assert found.versions == versions
  loss = lambda params, batch, key: (
    jnp.vdot(params, batch) + penalty * jnp.sum(params**2)
  )
  problem = sa.Problem(None, loss, lambda number: np.zeros(1000, np.float32))
  (part, own), *_ = found.parts(problem)
  begin = server.init(optax.identity(), jnp.zeros(1000), numbers.workers)
  static = (loss, optax.identity(), None, None, None)
  static = program.Static(*static, found.versions, found.cases, 1)
  carry = program.begin(static, begin)
  lowered = program.alone.lower(static, carry, jax.random.key(0), part, own)
  memory = lowered.compile().memory_analysis()
  used = memory.temp_size_in_bytes + memory.output_size_in_bytes
  assert used < 4000 * (versions + 8)


@pytest.mark.slow
def test_what_is_traced_is_noticed_wherever_it_is(linear, monkeypatch):
  """In the optimizer's state or the seed alone, with accelerators around."""
  found = [types.SimpleNamespace(platform='gpu')] * 2
  monkeypatch.setattr(jax, 'local_devices', lambda: found)
  numbers, order = sa.Communication(2), [0, 1, 0]
  devices = []

  def chosen(*arguments):
    devices.append(select(*arguments))
    return [None]

  select = module._devices
  monkeypatch.setattr(module, '_devices', chosen)
  inject = optax.inject_hyperparams(optax.sgd)
  jax.vmap(
    lambda rate: sa.simulate(linear, inject(learning_rate=rate), numbers, order)
  )(jnp.ones(2))
  jax.vmap(lambda rate: sa.simulate(linear, optax.sgd(rate), numbers, order))(
    jnp.ones(2)
  )
  jax.vmap(lambda seed: sa.simulate(linear, MOMENTUM, numbers, order, seed))(
    jnp.arange(2)
  )
  jax.jit(lambda: sa.simulate(linear, MOMENTUM, numbers, order))()
  sa.simulate(linear, MOMENTUM, numbers, order)
  assert devices == 4 * [[None]] + [found]


def test_nothing_is_compiled_twice(toy):
  traces = []

  def loss(params, batch, key):
    traces.append(params)
    return toy.loss(params, batch, key)

  problem, numbers = toy._replace(loss=loss), sa.Communication(4)
  order = random_order(numbers, 24)
  sa.simulate(problem, ADAM, numbers, order, devices=ONE)
  first = len(traces)
  assert first > 0
  sa.simulate(problem, ADAM, numbers, order, 1, devices=ONE)
  assert len(traces) == first


@pytest.mark.slow
def test_parts_are_one_run(toy, monkeypatch):
  """When the batches do not fit, the rest is idle at the end."""
  numbers = sa.Communication(4, 2, 2)
  order = random_order(numbers, 50)
  whole = sa.simulate(toy, ADAM, numbers, order, devices=ONE)
  monkeypatch.setattr(decisions, '_BYTES', 8000)
  equal(sa.simulate(toy, ADAM, numbers, order, devices=ONE), whole)


@pytest.mark.parametrize(
  'numbers, order, message',
  [
    (sa.Communication(4), [0, 1, 4], 'arrival 2 .* worker 4, .* 0, 1, 2, 3'),
    (
      sa.Communication(2, synchronous=True),
      [0, 1, 1, 1],
      'arrival 3 .* worker 1, .* in flight: 0',
    ),
    (sa.Communication(2), [0, 1.5], 'worker runs from .* use whole numbers'),
    (sa.Communication(2), [[0, 1]], r'shape \(1, 2\): use one axis'),
  ],
)
def test_an_order_that_cannot_happen_is_refused(toy, numbers, order, message):
  with pytest.raises(ValueError, match=message):
    sa.simulate(toy, ADAM, numbers, order)
  if np.ndim(order) > 1 or 1.5 in order:
    return
  pool = sa.pools.Virtual(sa.Trace(order, np.arange(float(len(order)))))
  with pool, pytest.raises(ValueError, match=message):
    for _ in sa.serve(toy, ADAM, numbers, pool):
      pass


def test_no_devices_are_refused(toy):
  with pytest.raises(ValueError, match='name one or more'):
    sa.simulate(toy, ADAM, sa.Communication(1), [0], devices=[])


def test_no_arrivals_leave_the_initial_parameters(toy):
  run = sa.simulate(toy, ADAM, sa.Communication(3), [])
  equal(run.params, toy.init(None))
  assert run.loss.shape == run.staleness.shape == (0,)


@pytest.mark.slow
def test_a_trace_is_replayed_under_its_own_settings_only(toy):
  """Unless one asks what would have been."""
  numbers = sa.Communication(4)
  order = random_order(numbers, 30)
  settings = {
    'policy': policy.settings(numbers),
    'seed': 0,
    'more': 1,
  }
  trace = sa.Trace(order, np.arange(30.0), settings=settings)
  run = lambda *a, **k: sa.simulate(toy, ADAM, *a, devices=ONE, **k)
  equal(run(numbers, trace), run(numbers, order))
  other = sa.Communication(4, global_accumulation=4)
  with pytest.raises(ValueError, match='global_accumulation: 1 in .*, 4 here'):
    run(other, trace)
  with pytest.raises(ValueError, match='seed: 0 in the trace, 3 here'):
    run(numbers, trace, 3)
  equal(run(other, trace, 3, counterfactual=True), run(other, order, 3))
