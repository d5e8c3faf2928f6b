"""Sums of narrow types do not stall: they are kept in float32."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stale_adam as sa
from stale_adam import sums

NARROW = ['bfloat16', 'float16']
# Another type beside the narrow one, so that both go through one flat vector.
MIXED = NARROW + ['mixed']


def zeros(kind):
  if kind == 'mixed':
    return {'a': jnp.zeros(2, 'bfloat16'), 'b': jnp.zeros(3)}
  return {'a': jnp.zeros(2, kind)}


def problem(kind, gradient=1.0):
  """Its gradient is `gradient` everywhere, for every batch."""
  total = lambda p: sum(jnp.sum(x.astype('float32')) for x in p.values())
  return sa.Problem(
    init=lambda key: zeros(kind),
    loss=lambda params, batch, key: batch * total(params),
    batch=lambda number: np.float32(gradient),
  )


SUM = optax.sgd(-1.0)  # After an update the parameters are the sum.
# Of a thousand gradients each; in bfloat16 one by one they make 256.
CASES = {
  'local': sa.Communication(1, 1000),
  'global': sa.Communication(2, 1, 1000),
  'both': sa.Communication(4, 250, 4),
  'all-reduce': sa.Communication(4, 250, synchronous=True),
}


def first_update(problem, optimizer, communication, pool):
  with pool:
    for push, server in sa.serve(problem, optimizer, communication, pool):
      if server.version:
        return push, server.params


@pytest.mark.slow
@pytest.mark.parametrize('pool', [sa.pools.Virtual, sa.pools.Threads])
@pytest.mark.parametrize('kind', MIXED)
@pytest.mark.parametrize('case', CASES)
def test_a_thousand_ones_make_a_thousand(case, kind, pool):
  """With no gradient lost on the way, and no memory donated in vain."""
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    push, params = first_update(problem(kind), SUM, CASES[case], pool())
  for x, start in zip(params.values(), zeros(kind).values(), strict=True):
    assert x.dtype == start.dtype
    np.testing.assert_array_equal(x.astype('float32'), 1000.0)
  assert push.loss == 0


@pytest.mark.slow
@pytest.mark.parametrize('kind', MIXED)
@pytest.mark.parametrize('case', CASES)
def test_simulate_sums_alike(case, kind):
  numbers = CASES[case]
  count = 1000 // numbers.local_accumulation
  order = [i % numbers.workers for i in range(count)]
  run = sa.simulate(problem(kind), SUM, numbers, order, devices=[None])
  for x in run.params.values():
    np.testing.assert_array_equal(x.astype('float32'), 1000.0)


@pytest.mark.parametrize('kind', NARROW)
def test_a_sum_is_rounded_once(kind):
  """To the nearest number of the parameters' type."""
  term = 0.1
  exact = 30 * np.float64(jnp.asarray(term, kind))
  pool = sa.pools.Virtual(threads=1)
  numbers = sa.Communication(1, 1, 30)
  _, params = first_update(problem(kind, term), SUM, numbers, pool)
  assert params['a'][0] == jnp.asarray(exact, kind)


@pytest.mark.slow
@pytest.mark.parametrize('mean', [False, True])
@pytest.mark.parametrize('kind', MIXED)
def test_accumulate(kind, mean):
  """Inside jit, with parameters and without."""
  optimizer = sa.accumulate(SUM, 1000, use_mean=mean)
  for params in (zeros(kind), None):
    state = optimizer.init(zeros(kind))
    ones = jax.tree.map(jnp.ones_like, zeros(kind))

    def call(state, _, params=params, ones=ones):
      updates, state = optimizer.update(ones, state, params)
      return state, updates

    _, updates = jax.lax.scan(call, state, None, 1000)
    for x, start in zip(updates.values(), zeros(kind).values(), strict=True):
      assert x.dtype == start.dtype
      np.testing.assert_array_equal(x[:-1], 0)
      assert np.all(x[-1] == (1.0 if mean else 1000.0))


@pytest.mark.parametrize('kind', NARROW)
def test_the_optimizer_gets_the_parameters_type(kind):
  seen = []

  def update(updates, state, params=None):
    seen.append(updates['a'].dtype)
    return updates, state

  spy = optax.GradientTransformation(lambda params: (), update)
  first_update(
    problem(kind), spy, sa.Communication(2, 2, 3), sa.pools.Virtual()
  )
  sa.simulate(problem(kind), spy, sa.Communication(2, 2, 3), [0, 1, 0])
  accumulate = sa.accumulate(spy, 3)
  state = accumulate.init(zeros(kind))
  accumulate.update(zeros(kind), state, zeros(kind))
  assert seen and set(seen) == {jnp.dtype(kind)}


def test_an_update_after_a_dropped_push_uses_the_sum_in_their_type():
  """The last push of the sum is not the one that asks for the update."""

  @dataclasses.dataclass(frozen=True)
  class Drops:
    workers: int = 1
    local_accumulation: int = 2

    def decide(self, arrival):
      last = arrival.summed == 2
      return sa.policy.Decision(not last, last, True, arrival.waiting)

  with warnings.catch_warnings():
    warnings.simplefilter('error')
    _, params = first_update(
      problem('bfloat16', 100.0), SUM, Drops(), sa.pools.Virtual()
    )
  np.testing.assert_array_equal(params['a'].astype('float32'), 400.0)


@pytest.mark.parametrize('dtype', ['float32', 'complex64', 'int32'])
def test_other_types_stay(dtype):
  tree = {'x': jnp.ones(3, dtype)}
  wide = sums.widened(tree)
  assert wide['x'] is tree['x']
  assert sums.narrowed(wide, tree)['x'] is tree['x']
  assert sums.add(tree, tree)['x'].dtype == dtype


def test_rates_can_be_vmapped():
  rates, numbers = jnp.array([1.0, 2.0], 'bfloat16'), CASES['both']
  run = lambda rate: sa.simulate(
    problem('bfloat16'), optax.sgd(-rate), numbers, [0, 1, 2, 3]
  )
  found = jax.vmap(run)(rates).params['a']
  np.testing.assert_array_equal(found[:, 0].astype('float32'), [1000, 2000])
