"""The compiled push: in place, and compiled once. See memory_test.py, too."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import stale_adam as sa
from stale_adam import policy, server, worker
from stale_adam import update as update_lib

SIDE = 1000
LEAF = 4 * SIDE * SIDE  # Bytes.


def large(value=1.0):
  """Two leaves of one shape: XLA must not confuse which goes where."""
  return {
    k: jnp.full((SIDE, SIDE), value + i, 'float32') for i, k in enumerate('ab')
  }


def copies(compiled):
  """Instructions that copy an array as large as a parameter."""
  shape = rf'= \(?f32\[{SIDE},{SIDE}\]\S* copy(-start)?\('
  return re.findall(shape, compiled.as_text())


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 4))
def _other_order(
  optimizer,
  per_push,
  optimizer_state,
  per_push_state,
  gradient,
  accumulator,
  params,
  more,
  known,
):
  """`update_lib.update` with its results the other way round."""
  del per_push, more, known
  if accumulator is not None:
    gradient = jax.tree.map(jnp.add, accumulator, gradient)
  updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
  return optax.apply_updates(params, updates), optimizer_state, per_push_state


ADAM = sa.adam(sa.inverse_sqrt(1e-3, 10))


def compiled_update(update, accumulator, optimizer=ADAM):
  params = large()
  state = server.init(optimizer, params).optimizer_state
  known = (np.int32(0), np.int32(1), np.int32(0), None)
  arguments = (state, (), params, accumulator, params, None, known)
  return update.lower(optimizer, None, *arguments).compile()


@pytest.mark.parametrize(
  'optimizer, kept',
  [(ADAM, 2), (sa.smooth(ADAM, 1e-4), 3)],
  ids=['adam', 'smooth'],
)
@pytest.mark.parametrize('accumulated', [False, True])
def test_update_is_in_place(accumulated, optimizer, kept):
  """`kept`: arrays for each leaf in the state."""
  accumulator = large() if accumulated else None
  compiled = compiled_update(update_lib.update, accumulator, optimizer)
  memory = compiled.memory_analysis()
  assert memory.temp_size_in_bytes < LEAF
  # The state and the new parameters, two leaves each.
  assert memory.alias_size_in_bytes >= 2 * (kept + 1) * LEAF
  assert not copies(compiled)
  held = jax.tree.leaves(compiled.args_info[0][4])
  assert [x.donated for x in held] == [False, False]


@pytest.mark.parametrize('accumulated', [False, True])
def test_the_other_order_of_results_would_be_noticed(accumulated):
  """The check above can fail: the same donations, results swapped."""
  accumulator = large() if accumulated else None
  compiled = compiled_update(_other_order, accumulator)
  assert compiled.memory_analysis().temp_size_in_bytes >= LEAF
  assert copies(compiled)


def test_sums_are_in_place():
  """Of pushes at the server, and of batches at a worker."""
  added = update_lib.add.lower(None, (), large(), large(), None, None)
  compiled = added.compile()
  total = (jnp.float32(0), large())
  loss = lambda params, batch, key: sum(
    jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params)
  )
  local = worker.add.lower(
    loss, total, large(), jnp.ones(1), jax.random.key(0), 0
  ).compile()
  for program in (compiled, local):
    memory = program.memory_analysis()
    assert memory.temp_size_in_bytes < LEAF
    assert memory.alias_size_in_bytes >= 2 * LEAF
    assert not copies(program)


@pytest.mark.parametrize(
  'optimizer',
  [
    sa.delay(sa.adam(1e-3), 3),
    sa.delay(sa.adam(1e-3), [3]),
    sa.hold(sa.adam(1e-3), 3),
    sa.accumulate(sa.adam(1e-3), 4),
    sa.smooth(sa.adam(1e-3), 1e-4),
  ],
  ids=['queue', 'versions', 'hold', 'accumulate', 'smooth'],
)
def test_transformations_copy_neither_rings_nor_sums(optimizer):
  """Besides their state, they need no more than the updates they return."""

  @functools.partial(jax.jit, donate_argnums=0)
  def call(state, gradient, params):
    more = {}
    if hasattr(state, 'staleness'):  # Versions are kept.
      more['pulled'] = sa.pulled_params(state)
    updates, state = optimizer.update(gradient, state, params, **more)
    return state, optax.apply_updates(params, updates)

  state = optimizer.init(large())
  size = sum(x.nbytes for x in jax.tree.leaves(state))
  memory = call.lower(state, large(), large()).compile().memory_analysis()
  assert memory.alias_size_in_bytes > size - LEAF
  assert memory.temp_size_in_bytes < 2.5 * LEAF  # Of two leaves.
  after, _ = call(state, large(), large())  # Nothing is donated twice.
  assert jax.tree.structure(after) == jax.tree.structure(state)


def test_a_push_reuses_the_memory_of_what_is_dead_and_nothing_else():
  """By address: moments stay, parameters take the gradient's place."""
  address = lambda tree: [
    x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)
  ]
  optimizer, update = sa.adam(1e-3), policy.Decision(update=True)
  state = server.init(optimizer, large())
  old, gradient = state, large(3.0)
  moments = lambda s: (s.optimizer_state[0].mu, s.optimizer_state[0].nu)
  before = address(moments(state)), address(gradient)
  push = worker.Push(0, 0, (), 0.0, None, gradient)
  state = server.apply(state, push, update, optimizer)
  assert (address(moments(state)), address(state.params)) == before
  assert all(x.is_deleted() for x in jax.tree.leaves((moments(old), gradient)))
  jax.tree.map(np.testing.assert_array_equal, old.params, large())
  held = server.pull(state, 0, 1).held[0]
  assert held.snapshot.params is state.params


@pytest.mark.parametrize(
  'optimizer, numbers',
  [
    (sa.adam(1e-3), (4, 1, 1)),
    (sa.adam(sa.inverse_sqrt(1e-3, 10)), (4, 2, 4)),
    (sa.adam(sa.inverse_sqrt(1e-3, 10)), (2, 3, 1, True)),
    (optax.inject_hyperparams(sa.adam)(learning_rate=1e-3), (4, 2, 4)),
    (contrib.schedule_free_adamw(1e-2), (4, 1, 1)),
  ],
  ids=['async', 'global', 'sync', 'inject', 'schedule_free'],
)
def test_nothing_is_compiled_twice(toy, served, optimizer, numbers):
  """The update is traced for its types, then once; the loss at most twice."""
  traces = []

  def update(gradient, state, params):
    traces.append('update')
    return optimizer.update(gradient, state, params)

  def loss(params, batch, key):
    traces.append('loss')
    return toy.loss(params, batch, key)

  numbers = sa.Communication(*numbers)
  counted = optax.GradientTransformation(optimizer.init, update)
  pool = sa.pools.Virtual(threads=1)
  served(toy._replace(loss=loss), counted, numbers, pool, 24)
  assert traces.count('update') == 2
  assert traces.count('loss') == min(numbers.local_accumulation, 2)


@pytest.mark.parametrize(
  'start',
  [
    np.ones(3, np.float32),
    jnp.ones(3),
    jnp.full(3, 1.0),  # Weakly typed, as is whatever a Python number fills.
  ],
  ids=['numpy', 'jax', 'weak'],
)
def test_nothing_is_compiled_for_the_initial_parameters_alone(
  linear, served, start
):
  """What problem.init returns has the type of all later parameters."""
  traces = []

  def loss(params, batch, key):
    traces.append(params)
    return jnp.vdot(params, params)

  problem = linear._replace(init=lambda key: start, loss=loss)
  pool = sa.pools.Virtual(threads=1)
  served(problem, sa.adam(1e-3), sa.Communication(2), pool, 8)
  assert len(traces) == 1
