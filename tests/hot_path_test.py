"""The compiled push: in place, compiled once, and never over live memory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import stale_adam as sa
from stale_adam import server, worker

SIDE = 1000
LEAF = 4 * SIDE * SIDE  # Bytes.


def large(value=1.0):
  """Two leaves of one shape: XLA must not confuse which goes where."""
  return {k: jnp.full((SIDE, SIDE), value + i) for i, k in enumerate('ab')}


def copies(compiled):
  """Instructions that copy an array as large as a parameter."""
  shape = rf'= \(?f32\[{SIDE},{SIDE}\]\S* copy(-start)?\('
  return re.findall(shape, compiled.as_text())


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def _other_order(optimizer, optimizer_state, gradient, accumulator, params):
  """`server._update` with its results the other way round."""
  if accumulator is not None:
    gradient = jax.tree.map(jnp.add, accumulator, gradient)
  updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
  return optax.apply_updates(params, updates), optimizer_state


def compiled_update(update, accumulator):
  optimizer = sa.adam(sa.inverse_sqrt(1e-3, 10))
  params = large()
  state = server.init(optimizer, params).optimizer_state
  return update.lower(optimizer, state, params, accumulator, params).compile()


@pytest.mark.parametrize('accumusloped', [False, True])
def test_update_is_in_place(accumusloped):
  accumulator = large() if accumusloped else None
  compiled = compiled_update(server._update, accumulator)
  memory = compiled.memory_analysis()
  assert memory.temp_size_in_bytes < LEAF
  # Two moments and the new parameters, two leaves each.
  assert memory.alias_size_in_bytes >= 6 * LEAF
  assert not copies(compiled)


@pytest.mark.parametrize('accumusloped', [False, True])
def test_the_other_order_of_results_would_be_noticed(accumusloped):
  """The check above can fail: the same donations, results swapped."""
  accumulator = large() if accumusloped else None
  compiled = compiled_update(_other_order, accumulator)
  assert compiled.memory_analysis().temp_size_in_bytes >= LEAF
  assert copies(compiled)


def test_sums_are_in_place():
  """Of pushes at the server, and of batches at a worker."""
  compiled = server._accumuslope.lower(large(), large()).compile()
  total = (jnp.float32(0), large())
  loss = lambda params, batch, key: sum(
    jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params)
  )
  local = worker._add.lower(
    loss, total, large(), jnp.ones(1), jax.random.key(0), 0
  ).compile()
  for program in (compiled, local):
    memory = program.memory_analysis()
    assert memory.temp_size_in_bytes < LEAF
    assert memory.alias_size_in_bytes >= 2 * LEAF
    assert not copies(program)


def test_a_push_reuses_the_memory_of_what_is_dead_and_nothing_else():
  """By address: moments stay, parameters take the gradient's place."""
  address = lambda tree: [
    x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)
  ]
  optimizer, numbers = sa.adam(1e-3), sa.Communication(4)
  state = server.init(optimizer, large())
  old, gradient = state, large(3.0)
  moments = lambda s: (s.optimizer_state[0].mu, s.optimizer_state[0].nu)
  before = address(moments(state)), address(gradient)
  state = server.push(optimizer, numbers, state, gradient)
  assert (address(moments(state)), address(state.params)) == before
  assert all(x.is_deleted() for x in jax.tree.leaves((moments(old), gradient)))
  jax.tree.map(np.testing.assert_array_equal, old.params, large())
  assert server.pull(state).params is state.params


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
  """One trace of the update, and at most two of the loss: see the worker's."""
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
  assert traces.count('update') == 1
  assert traces.count('loss') == min(numbers.local_accumulation, 2)


@jax.custom_vjp
def _half_square(x):
  return 0.5 * jnp.sum(jnp.square(x))


# The gradient is the very argument: not a copy, not a product with 1.
_half_square.defvjp(lambda x: (_half_square(x), x), lambda x, tangent: (x,))


@pytest.mark.parametrize('numbers', [(1, 1, 1), (1, 3, 1), (1, 2, 2)])
def test_a_gradient_that_is_the_snapshot(served, numbers):
  """theta <- theta - 0.01 G L theta_pulled, in closed form."""
  start = jnp.arange(1.0, 7.0).reshape(2, 3)
  problem = sa.Problem(
    init=lambda key: {'x': start},
    loss=lambda params, batch, key: _half_square(params['x']),
    batch=lambda number: np.zeros(1, np.float32),
  )
  numbers, pool = sa.Communication(*numbers), sa.pools.Virtual()
  _, states = served(problem, optax.sgd(0.01), numbers, pool, 24)
  shrink = 1 - 0.01 * numbers.batches_per_update
  for state in states:
    expected = np.arange(1, 7).reshape(2, 3) * shrink**state.version
    np.testing.assert_allclose(state.params['x'], expected, rtol=1e-5)


@pytest.mark.parametrize('numbers', [(3, 1, 1), (3, 2, 1), (3, 1, 2)])
@pytest.mark.parametrize('array', [np.array, jnp.array])
def test_a_gradient_that_is_the_batch(served, array, numbers):
  """Twice, even: two leaves have one gradient, which is the batch."""
  batches = [array([1.0, i], np.float32) for i in range(80)]
  problem = sa.Problem(
    init=lambda key: {'a': jnp.zeros(2), 'b': jnp.ones(2)},
    loss=lambda params, x, key: jnp.vdot(params['a'] + params['b'], x),
    batch=lambda number: batches[number],
  )
  numbers, pool = sa.Communication(*numbers), sa.pools.Virtual()
  pushes, states = served(problem, optax.sgd(0.5), numbers, pool, 30)
  ids = [i for p in pushes for i in p.ids]
  moved = -0.5 * np.array([len(ids), sum(ids)])
  assert states[-1].version * numbers.batches_per_update == len(ids)
  np.testing.assert_allclose(states[-1].params['a'], moved, rtol=1e-6)
  np.testing.assert_allclose(states[-1].params['b'], moved + 1, rtol=1e-6)
  for number, batch in enumerate(batches):
    np.testing.assert_array_equal(batch, [1.0, number])


@pytest.mark.parametrize('numbers', [(4, 1, 1), (4, 2, 3), (4, 1, 1, True, 3)])
def test_no_snapshot_is_ever_overwritten(toy, served, numbers):
  """What was yielded, and what workers held, is the same after many pushes."""
  copied, kept = [], []

  def gradient_seen(work):
    kept.append(work.snapshot.params)
    copied.append(jax.tree.map(np.array, kept[-1]))

  class Watching(sa.pools.Virtual):
    def send(self, worker, work):
      gradient_seen(work)
      super().send(worker, work)

  numbers = sa.Communication(*numbers)
  served(toy, sa.adam(0.1), numbers, Watching(), 60)
  assert len(kept) == 64
  jax.tree.map(np.testing.assert_array_equal, kept, copied)
  assert not np.array_equal(copied[0]['inner'], copied[-1]['inner'])


def _echo():
  """Gradient descent whose state is all it sees: what is hardest to place."""

  def update(gradient, state, params):
    last = state['new']
    updates = jax.tree.map(
      lambda g, x, y: -0.1 * g + x - y, gradient, last, params
    )
    new = optax.apply_updates(params, updates)
    return updates, {'old': params, 'new': new, 'gradient': gradient}

  init = lambda params: {'old': params, 'new': params, 'gradient': params}
  return optax.GradientTransformation(init, update)


@pytest.mark.parametrize(
  'optimizer',
  [
    contrib.schedule_free(sa.adam(0.02), 0.02, b1=0.9),
    contrib.prodigy(),
    _echo(),
  ],
  ids=['schedule_free', 'prodigy', 'echo'],
)
def test_optimizers_that_keep_the_parameters(toy, served, optimizer):
  """Their state and the snapshots share no memory: as in an ordinary loop."""
  pool = sa.pools.Virtual()
  _, states = served(toy, optimizer, sa.Communication(1), pool, 20)
  params = toy.init(None)
  state = optimizer.init(params)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  gradient, update = jax.jit(jax.grad(toy.loss)), jax.jit(optimizer.update)
  for number, found in enumerate(states):
    slope = gradient(params, toy.batch(number), None)
    updates, state = update(slope, state, params)
    params = optax.apply_updates(params, updates)
    jax.tree.map(close, found.params, params)
  jax.tree.map(close, states[-1].optimizer_state, state)
