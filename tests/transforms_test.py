"""The contract of every transformation, and what each refuses."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stale_adam import optimizer as optimizers
from stale_adam import transforms

at_pulled = lambda pulled: pulled
mean_pulled = lambda pulled: jax.tree.map(lambda x: x.mean(0), pulled)
sampler = lambda key: jax.random.bits(key) % 5


class Row(NamedTuple):
  """How to wrap an optimizer, and where the gradient is taken.

  That is `where(pulled_params(state))`, or at the parameters if it is None.
  """

  wrap: Callable
  where: Callable | None = None

  def pulled(self, state):
    """The extra argument of `update`, if it needs it."""
    if self.where is None:
      return {}
    return {'pulled': transforms.pulled_params(state)}


# One row here runs every test of the contract on a new transformation.
CONTRACT = {
  'accumulate': Row(lambda o: transforms.accumulate(o, 3)),
  'accumulate mean': Row(lambda o: transforms.accumulate(o, 2, use_mean=True)),
  'no delay': Row(lambda o: transforms.delay(o, 0)),
  'delay': Row(lambda o: transforms.delay(o, 2)),
  'delay by array': Row(lambda o: transforms.delay(o, [2, 0, 1]), at_pulled),
  'delay by sampler': Row(
    lambda o: transforms.delay(o, sampler, jax.random.key(1), 3), at_pulled
  ),
  'hold': Row(lambda o: transforms.hold(o, 3), at_pulled),
  'staggered hold': Row(
    lambda o: transforms.hold(o, 3, phases=(0, 2, 1, 1)), mean_pulled
  ),
  'smooth': Row(lambda o: transforms.smooth(o, 0.2)),
  'start on zero': Row(optimizers.start_on_zero),
}
PARAMS = {'x': jnp.array([1.0, -2.0]), 'none': None, 'pair': (jnp.ones(()), ())}
NOISE = jax.tree.map(
  lambda x: np.float32(np.random.default_rng(3).normal(size=(8, *x.shape))),
  PARAMS,
)

contract = pytest.mark.parametrize('row', CONTRACT.values(), ids=CONTRACT)


def call(optimizer, row, carry, noise):
  """One call of a training loop whose gradient depends on where it is taken."""
  params, state = carry
  extra = row.pulled(state)
  late = row.where(extra['pulled']) if extra else params
  gradient = jax.tree.map(lambda x, n: jnp.tanh(x) + n, late, noise)
  updates, state = optimizer.update(gradient, state, params, **extra)
  params = optax.apply_updates(params, updates)
  return (params, state), params


def scan(optimizer, row, noise=NOISE):
  """Parameters after every call."""
  start = PARAMS, optimizer.init(PARAMS)
  one = lambda carry, n: call(optimizer, row, carry, n)
  return jax.lax.scan(one, start, noise)[1]


def kinds(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def close(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for x, y in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@contract
def test_eager_compiled_loop_and_scan_agree(row):
  """Nothing is compiled twice, and the state keeps its shapes and dtypes."""
  optimizer = row.wrap(optax.adam(0.1))
  expected = jax.jit(lambda: scan(optimizer, row))()
  compiled = jax.jit(lambda carry, n: call(optimizer, row, carry, n))
  carry = jax.tree.map(jnp.copy, (PARAMS, optimizer.init(PARAMS)))
  for number in range(8):
    noise = jax.tree.map(lambda n, i=number: n[i], NOISE)
    wanted = jax.tree.map(lambda x, i=number: x[i], expected)
    if number == 4:  # Eager is slow: one call before the window is full, ...
      close(call(optimizer, row, carry, noise)[1], wanted)
    if number == 5:  # ... and one when it is.
      close(call(optimizer, row, carry, noise)[1], wanted)
    before = kinds(carry)
    carry, params = compiled(carry, noise)
    assert kinds(carry) == before
    close(params, wanted)
  assert compiled._cache_size() == 1
  assert np.abs(params['x'] - PARAMS['x']).min() > 0.01  # It does something.


@pytest.mark.slow
@contract
def test_vmap_over_learning_rates_is_one_run_each(row):
  run = lambda rate: scan(row.wrap(optax.sgd(rate, 0.9)), row)
  rates = jnp.array([0.01, 0.3])
  found = jax.jit(jax.vmap(run))(rates)
  alone = jax.jit(run)
  for i, rate in enumerate(rates):
    close(jax.tree.map(lambda x, i=i: x[i], found), alone(rate))


@pytest.mark.slow
@contract
def test_compositions_agree(row):
  """Wrappers that do nothing to finite gradients change nothing."""
  wrap, inner = row.wrap, optax.sgd(0.1, 0.9)
  inject = optax.inject_hyperparams
  optimizers = {
    'in a chain': optax.chain(optax.identity(), wrap(inner)),
    'around a chain': wrap(optax.chain(optax.identity(), inner)),
    'in apply_if_finite': optax.apply_if_finite(wrap(inner), 2),
    'around apply_if_finite': wrap(optax.apply_if_finite(inner, 2)),
    'injected': inject(lambda rate: wrap(optax.sgd(rate, 0.9)))(rate=0.1),
    'around injected': wrap(inject(optax.sgd)(0.1, 0.9)),
    'accumulated': transforms.accumulate(wrap(inner), 1),
    'around a queue': wrap(transforms.delay(inner, 0)),
  }
  several = {'alone': wrap(inner), **optimizers}
  found = jax.jit(lambda: {k: scan(o, row) for k, o in several.items()})()
  for name in optimizers:
    close(found[name], found['alone'])


@contract
@pytest.mark.parametrize('inner', [optax.adam(0.1), optax.sgd(0.1, 0.9)])
@pytest.mark.parametrize('wide', [False, True])
def test_kinds_are_preserved(row, inner, wide):
  """Shapes and dtypes of updates and state, mixed, and in x64; traced only."""
  with jax.enable_x64(wide):
    dtypes = ['bfloat16', 'float16', 'float32', 'complex64']
    dtypes += ['float64', 'complex128'] if wide else []
    params = {d: jnp.ones((2, 1), d) for d in dtypes}
    params |= {'none': None, 'deep': [jnp.ones((), d) for d in dtypes]}
    optimizer = row.wrap(inner)
    state = jax.eval_shape(optimizer.init, params)
    update = lambda *args: optimizer.update(*args, **row.pulled(args[1]))
    updates, after = jax.eval_shape(update, params, state, params)
    assert kinds(updates) == kinds(params)
    assert kinds(after) == kinds(state)
    assert not any(x.weak_type for x in jax.tree.leaves(state))


@contract
def test_extra_arguments_reach_the_inner_optimizer(row):
  def update(updates, state, params=None, *, factor=1.0, name='', **others):
    del others
    factor = factor * 2 if name == 'twice' else factor
    return jax.tree.map(lambda g: factor * g, updates), state

  inner = optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )
  optimizer = row.wrap(inner)

  @jax.jit
  def run(factor):
    state = optimizer.init(PARAMS)
    for _ in range(3):
      updates, state = optimizer.update(
        *(PARAMS, state, PARAMS),
        **row.pulled(state),
        factor=factor,
        name='twice',
      )
    return updates['x']

  found = run(5.0)
  np.testing.assert_allclose(found, 10.0 * run(0.5), rtol=1e-6)
  # An inner optimizer that takes no extra arguments is not given any.
  plain = row.wrap(optax.sgd(1.0))
  state = plain.init(PARAMS)
  jax.eval_shape(
    lambda: plain.update(
      *(PARAMS, state, PARAMS), **row.pulled(state), factor=2.0, name='twice'
    )
  )


SGD, KEY = optax.sgd(1.0), jax.random.key(0)


@pytest.mark.parametrize(
  'make, message',
  [
    *[
      (lambda n=n: transforms.accumulate(SGD, n), f'every={n}: .*, 1 or more')
      for n in (0, -2, 1.5)
    ],
    *[
      (lambda n=n: transforms.hold(SGD, n), f'pull_every={n}: .*, 1 or more')
      for n in (0, 2.0)
    ],
    *[
      (lambda n=n: transforms.delay(SGD, n), f'staleness={n}: .*, 0 or more')
      for n in (-1, 0.5)
    ],
    *[
      (lambda x=x: transforms.delay(SGD, x), 'staleness=.*or a 1-D array')
      for x in ([], [1, -1], [0.5], [[1]], np.zeros(3), 'late')
    ],
    *[
      (lambda r=r: transforms.smooth(SGD, r), f'rate={r!r}: .* 0, at most 1')
      for r in (0, -0.1, 1.01, float('nan'), float('inf'), True, 'little')
    ],
    *[
      (lambda p=p: transforms.hold(SGD, 3, p), 'phases=.*number in 0..2 per')
      for p in ((), (0, 3), (-1,), (0.5,))
    ],
    (lambda: transforms.delay(SGD, sampler), 'a sampler.*needs both'),
    (lambda: transforms.delay(SGD, sampler, KEY), 'a sampler.*needs both'),
    (lambda: transforms.delay(SGD, sampler, KEY, -1), 'largest=-1: .*, 0 or'),
    (lambda: transforms.delay(SGD, 2, KEY), 'only a sampler uses these'),
    (lambda: transforms.delay(SGD, [2], largest=2), 'only a sampler uses'),
  ],
)
def test_what_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


KEEPING = {k: row for k, row in CONTRACT.items() if row.where}
keeping = pytest.mark.parametrize('row', KEEPING.values(), ids=KEEPING)
AROUND = {
  'alone': lambda o: o,
  'in a chain': lambda o: optax.chain(optax.clip(1.0), o),
  'accumulated': lambda o: transforms.accumulate(o, 3),
  'in apply_if_finite': lambda o: optax.apply_if_finite(o, 2),
}


@pytest.mark.slow
@keeping
@pytest.mark.parametrize('around', AROUND.values(), ids=AROUND)
def test_gradients_of_unknown_parameters_are_refused(row, around):
  """Otherwise to forget `pulled_params` would silently be plain training."""
  optimizer = around(row.wrap(SGD))
  state = optimizer.init(PARAMS)
  late = transforms.pulled_params(state)
  call = r'late = pulled_params\(state\), and call update\(.*, pulled=late\)'
  for update in (optimizer.update, jax.jit(optimizer.update)):
    with pytest.raises(ValueError, match=f'pulled=None: .* needs .*{call}'):
      update(PARAMS, state, PARAMS)
    with pytest.raises(ValueError, match=f'params=None: .*{call}'):
      update(PARAMS, state, pulled=late)
    for wrong in (late['x'], jax.tree.map(lambda x: x[None], late)):
      with pytest.raises(ValueError, match=f'pulled has the shapes .*{call}'):
        update(PARAMS, state, PARAMS, pulled=wrong)
    update(PARAMS, state, PARAMS, pulled=late)


@keeping
def test_parameters_that_pose_as_pulled_are_refused(row):
  optimizer = row.wrap(SGD)
  state = optimizer.init(PARAMS)
  message = 'pulled is params: '
  if row.where is mean_pulled:
    message = 'pulled has the shapes '
  with pytest.raises(ValueError, match=message):
    optimizer.update(PARAMS, state, PARAMS, pulled=PARAMS)
