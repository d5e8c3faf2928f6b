"""Transformations inside flax's `nnx.Optimizer`."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stale_adam as sa

KEY = jax.random.key(1)
INPUTS = jax.random.normal(KEY, (12, 8, 3))
BATCHES = INPUTS, jnp.sin(INPUTS.sum(axis=-1, keepdims=True))
INNER = optax.adam(0.01)


class Model(nnx.Module):
  def __init__(self, rngs):
    self.hidden = nnx.List([nnx.Linear(3, 4, rngs=rngs)])
    self.out = nnx.Linear(4, 1, rngs=rngs)
    self.calls = nnx.Variable(jnp.zeros((), jnp.int32))  # Not a parameter.

  def __call__(self, x):
    return self.out(jnp.tanh(self.hidden[0](x)))


def loss(model, batch):
  return jnp.mean((model(batch[0]) - batch[1]) ** 2)


def by_optax(optimizer, wraps):
  """Parameters after every batch, in a plain loop over pure arrays."""
  graphdef, params, rest = nnx.split(Model(nnx.Rngs(0)), nnx.Param, ...)
  params = nnx.to_pure_dict(params)
  value = lambda params, batch: loss(nnx.merge(graphdef, params, rest), batch)
  state, found = optimizer.init(params), []

  @jax.jit
  def update(params, state, batch):
    late = sa.pulled_params(state) if wraps else params
    extra = {'pulled': late} if wraps else {}
    gradient = jax.grad(value)(late, batch)
    updates, state = optimizer.update(gradient, state, params, **extra)
    return optax.apply_updates(params, updates), state

  for batch in zip(*BATCHES, strict=True):
    params, state = update(params, state, batch)
    found.append(params)
  return found


def by_nnx(optimizer, wraps, jit):
  """The same with `nnx.Optimizer`, which wraps state in variables."""
  model, found = Model(nnx.Rngs(0)), []
  optimizer = nnx.Optimizer(model, optimizer, wrt=nnx.Param)

  def update(model, optimizer, batch):
    late, extra = model, {}
    if wraps:
      graphdef, _, rest = nnx.split(model, nnx.Param, ...)
      pulled = sa.pulled_params(optimizer.opt_state)
      late, extra = nnx.merge(graphdef, pulled, rest), {'pulled': pulled}
    gradient = nnx.grad(loss)(late, batch)
    optimizer.update(model, gradient, **extra)

  update = nnx.jit(update) if jit else update
  for batch in zip(*BATCHES, strict=True):
    update(model, optimizer, batch)
    found.append(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
  return found


def worst(found, expected):
  """The largest difference between two runs."""
  pairs = zip(found, expected, strict=True)
  return max(
    np.abs(x - y).max()
    for f, e in pairs
    for x, y in zip(*map(jax.tree.leaves, (f, e)), strict=True)
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'optimizer, wraps, jit',
  [
    (sa.hold(INNER, 3), True, False),
    (sa.hold(INNER, 3), True, True),
    (sa.delay(INNER, [2, 0, 1]), True, True),
    (optax.chain(optax.clip(1.0), sa.hold(INNER, 3)), True, True),
    (sa.delay(INNER, 2), False, True),
    (sa.accumulate(INNER, 3), False, True),
  ],
)
def test_an_nnx_optimizer_is_the_loop_of_optax(optimizer, wraps, jit):
  expected = by_optax(optimizer, wraps)
  assert worst(by_nnx(optimizer, wraps, jit), expected) < 1e-6
  # It is not what it is without staleness.
  assert worst(by_optax(INNER, False), expected) > 1e-3


@pytest.mark.slow
def test_smoothed_parameters_make_a_model():
  """Of rate 1, they are those of the model."""
  model = Model(nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, sa.smooth(INNER, 1), wrt=nnx.Param)
  batch = [x[0] for x in BATCHES]
  before = loss(model, batch)
  optimizer.update(model, nnx.grad(loss)(model, batch))
  graphdef, _, rest = nnx.split(model, nnx.Param, ...)
  smoothed = nnx.merge(graphdef, sa.smoothed_params(optimizer.opt_state), rest)
  assert loss(smoothed, batch) == loss(model, batch) != before
  # They can be trained on, too.
  assert jax.tree.leaves(nnx.grad(loss)(smoothed, batch))


@pytest.mark.slow
def test_forgetting_the_pulled_parameters_is_refused():
  model = Model(nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, sa.hold(INNER, 3), wrt=nnx.Param)
  gradient = nnx.grad(loss)(model, [x[0] for x in BATCHES])
  with pytest.raises(ValueError, match='hold needs the parameters that'):
    optimizer.update(model, gradient)


@pytest.mark.slow
def test_parameters_that_are_variables_stay_variables():
  """A plain loop over `nnx.State`, without `nnx.Optimizer`."""
  graphdef, params = nnx.split(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
  value = lambda params, x: jnp.sum(nnx.merge(graphdef, params)(x) ** 2)
  optimizer = sa.hold(INNER, 3)
  state = optimizer.init(params)
  late = sa.pulled_params(state)
  assert jax.tree.structure(late) == jax.tree.structure(params)
  gradient = jax.grad(value)(late, INPUTS[0])
  updates, state = optimizer.update(gradient, state, params, pulled=late)
  params = optax.apply_updates(params, updates)
  assert isinstance(params['kernel'], nnx.Param)
