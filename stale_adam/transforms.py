"""Accumulation and staleness as optax transformations, for any training loop.

Each wraps an optimizer that knows nothing of them. Extra arguments reach it in
the calls in which it runs. Gradients are taken where the loop takes them: at
the parameters for `accumulate` and a constant `delay`; at
`pulled_params(state)` for `hold` and every other `delay`:

  late = pulled_params(state)
  updates, state = optimizer.update(jax.grad(loss)(late), state, params)
  params = optax.apply_updates(params, updates)
"""

import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class AccumulateState(NamedTuple):
  """`count` gradients are summed up in `accumulator`."""

  count: jax.Array
  accumulator: Any
  inner_state: Any


class QueueState(NamedTuple):
  """The last gradients in a ring; the next one goes to slot count mod size."""

  count: jax.Array
  queue: Any
  inner_state: Any


class VersionsState(NamedTuple):
  """The last versions in a ring; `staleness` is that of the next gradient."""

  version: jax.Array
  staleness: jax.Array
  versions: Any
  inner_state: Any


class HoldState(NamedTuple):
  """What the workers hold; `phase` is the version modulo `pull_every`."""

  phase: jax.Array
  snapshot: Any
  inner_state: Any


def accumulate(
  inner: optax.GradientTransformation, every: int, use_mean: bool = False
) -> optax.GradientTransformationExtraArgs:
  """Sums gradients; every so often the inner optimizer runs once on the sum.

    a <- a + g;  on every `every`-th call:
    (delta, o) <- inner(a, o, theta);  a <- 0;  on the others: delta = 0

  The inner optimizer's schedule counts updates, not calls. `every` 1 is the
  inner optimizer. `optax.MultiSteps` runs it in every call, and clears its sum
  by multiplication, from which a NaN never goes away.

  Args:
    inner: the optimizer.
    every: gradients per update.
    use_mean: divide the sum by `every`. Adam hides the factor, clipping and
      epsilon do not.

  Returns:
    A transformation; its accumulator has the parameters' dtypes.

  Raises:
    ValueError: if `every` is not whole or below 1.

  Source: the paper's section 5.1, global accumulation.
  """
  inner = optax.with_extra_args_support(inner)
  every = _check_whole('every', every, 1)

  def init(params):
    return AccumulateState(jnp.int32(0), _zeros(params), inner.init(params))

  def update(updates, state, params=None, **extra_args):
    total = jax.tree.map(
      lambda a, g: a + jnp.asarray(g, a.dtype), state.accumulator, updates
    )
    count = (state.count + 1) % every
    full = count == 0
    summed = jax.tree.map(lambda a: a / every, total) if use_mean else total
    updates, inner_state = _update_if(
      full, inner, summed, state.inner_state, params, extra_args
    )
    # Selected, not multiplied: 0 x NaN is NaN.
    rest = jax.tree.map(lambda a: jnp.where(full, jnp.zeros_like(a), a), total)
    return updates, AccumulateState(count, rest, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def delay(
  inner: optax.GradientTransformation,
  staleness: int | Sequence[int] | Callable[[jax.Array], jax.Array],
  key: jax.Array | None = None,
  largest: int | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Every update uses a gradient that is `staleness` updates late.

    theta_{u+1} = theta_u + inner(gradient at theta_{u - min(s_u, u)})

  With one whole number s, gradients wait in a queue: take them at the
  parameters. The first s calls return zero updates and leave the inner state
  alone; call c + s applies the gradient of call c. That is asynchronous
  training with s + 1 workers in turn, warm-up included; 0 is the inner
  optimizer.

  With an array or a sampler take gradients at `pulled_params(state)`. Apply
  updates as returned, since the next version is recorded here: nothing that
  rescales them may come after. Each call counts as an update.

  Args:
    inner: the optimizer.
    staleness: a whole number; or a 1-D array of them, s_u being entry u modulo
      its length; or a sampler: `staleness(key) -> scalar`.
    key: for a sampler only: s_u depends on it and u alone.
    largest: for a sampler only: its draws are clipped to 0..largest.

  Returns:
    A transformation that keeps s gradients in a queue, or the largest s_u + 1
    versions, in the parameters' dtypes.

  Raises:
    ValueError: if a staleness is not whole or below 0; if key and largest are
      missing for a sampler, or given for anything else. From update: if params
      is None where versions are kept.

  Source: the paper's section 2.3; Langford et al. (2009), "Slow learners are
    fast", for workers in turn.
  """
  inner = optax.with_extra_args_support(inner)
  if callable(staleness):
    if key is None or largest is None:
      raise ValueError(
        f'key={key}, largest={largest}: a sampler of staleness needs both, '
        'as in delay(inner, sampler, jax.random.key(0), largest=3)'
      )
    largest = _check_whole('largest', largest, 0)
    draw = lambda version: jnp.clip(
      staleness(jax.random.fold_in(key, version)), 0, largest
    )
    return _recall(inner, draw, largest)
  if key is not None or largest is not None:
    raise ValueError(
      f'key={key}, largest={largest}: only a sampler uses these; leave them '
      f'out with staleness={staleness}'
    )
  if isinstance(staleness, numbers.Number):
    staleness = _check_whole('staleness', staleness, 0)
    return _queue(inner, staleness) if staleness else inner
  table = np.asarray(staleness)
  whole = table.ndim == 1 and table.size and table.dtype.kind in 'iu'
  if not whole or table.min() < 0:
    raise ValueError(
      f'staleness={staleness}: use a whole number, 0 or more, or a 1-D array '
      'of at least one of them'
    )
  draw = lambda version: jnp.asarray(table)[version % table.size]
  return _recall(inner, draw, int(table.max()))


def _queue(inner, size):
  """Constant staleness: a ring of gradients."""

  def init(params):
    queue = _copies(_zeros(params), size)
    return QueueState(jnp.int32(0), queue, inner.init(params))

  def update(updates, state, params=None, **extra_args):
    full = state.count >= size
    slot = state.count % size
    oldest = jax.tree.map(lambda ring: ring[slot], state.queue)
    queue = jax.tree.map(
      lambda ring, g: ring.at[slot].set(jnp.asarray(g, ring.dtype)),
      *(state.queue, updates),
    )
    updates, inner_state = _update_if(
      full, inner, oldest, state.inner_state, params, extra_args
    )
    # Once full, around and around in size..2 size - 1: it never overflows.
    count = jnp.where(state.count == 2 * size - 1, size, state.count + 1)
    return updates, QueueState(count, queue, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def _recall(inner, draw, largest):
  """Any staleness: a ring of versions, and whose turn it is."""

  def pull(version, versions, inner_state):
    staleness = jnp.minimum(draw(version).astype(jnp.int32), version)
    return VersionsState(version, staleness, versions, inner_state)

  def init(params):
    versions = _copies(params, largest + 1)
    return pull(jnp.int32(0), versions, inner.init(params))

  def update(updates, state, params=None, **extra_args):
    updates, inner_state, params = _update_and_apply(
      'delay', inner, updates, state.inner_state, params, extra_args
    )
    version = optax.safe_increment(state.version)
    versions = jax.tree.map(
      lambda ring, x: ring.at[version % (largest + 1)].set(x),
      *(state.versions, params),
    )
    return updates, pull(version, versions, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def hold(
  inner: optax.GradientTransformation,
  pull_every: int,
  phases: Sequence[int] | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Artificial staleness: gradients at a snapshot renewed every U updates.

    theta_{v+1} = theta_v + inner(gradient at theta_{v - v mod U})

  Staleness is uniform on 0..U-1. Take gradients at `pulled_params(state)`.
  Apply updates as returned, since the snapshot is taken here: nothing that
  rescales them may come after. Each call counts as an update.

  In the paper's text all workers share one snapshot; the authors' code staggers
  them. With `phases`, worker w pulls after update v = 1, 2, ... if v mod U =
  phases[w], every leaf of `pulled_params(state)` has a leading axis of one
  entry per worker, for `jax.vmap`, and the loop sums the workers' gradients.

  Args:
    inner: the optimizer.
    pull_every: U, updates between two pulls; 1 is the inner optimizer.
    phases: one number in 0..U-1 per worker, or None for a shared snapshot.

  Returns:
    A transformation that keeps one snapshot, or one per worker.

  Raises:
    ValueError: if pull_every is not whole or below 1, or there are no phases
      or one outside 0..U-1. From update: if params is None.

  Source: the paper's section 4.3; the authors' released code for `phases`.
  """
  inner = optax.with_extra_args_support(inner)
  pull_every = _check_whole('pull_every', pull_every, 1)
  if phases is not None and (
    not len(phases) or not all(p in range(pull_every) for p in phases)
  ):
    raise ValueError(
      f'phases={phases}: use one whole number in 0..{pull_every - 1} per worker'
    )

  def init(params):
    snapshot = _copies(params, 1 if phases is None else len(phases))
    if phases is None:
      snapshot = jax.tree.map(lambda x: x[0], snapshot)
    return HoldState(jnp.int32(0), snapshot, inner.init(params))

  def update(updates, state, params=None, **extra_args):
    updates, inner_state, params = _update_and_apply(
      'hold', inner, updates, state.inner_state, params, extra_args
    )
    phase = (state.phase + 1) % pull_every
    pull = lambda now, held: jax.tree.map(
      lambda x, new: jnp.where(now, new, x), held, params
    )
    if phases is None:
      snapshot = pull(phase == 0, state.snapshot)
    else:
      snapshot = jax.vmap(pull)(phase == jnp.array(phases), state.snapshot)
    return updates, HoldState(phase, snapshot, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def pulled_params(state: Any) -> Any:
  """The parameters at which the next gradient is to be taken.

  Args:
    state: of `hold`, or of `delay` by an array or a sampler, within any other
      transformations' states. Of several around each other the outermost
      counts.

  Returns:
    As the parameters; with a leading axis of workers for a staggered `hold`.

  Raises:
    ValueError: if there is none, or are several side by side.
  """
  keeps = lambda x: isinstance(x, HoldState | VersionsState)
  found = [x for x in jax.tree.leaves(state, is_leaf=keeps) if keeps(x)]
  if len(found) != 1:
    raise ValueError(
      f'found {len(found)} states with pulled parameters: use exactly one '
      'hold, or delay by an array or a sampler; without, take gradients at the '
      'parameters themselves'
    )
  (keeper,) = found
  if isinstance(keeper, HoldState):
    return keeper.snapshot
  pulled = keeper.version - keeper.staleness
  return jax.tree.map(lambda ring: ring[pulled % len(ring)], keeper.versions)


def _update_if(ready, inner, gradient, inner_state, params, extra_args):
  """An inner update; else zero updates and the inner state as it was."""
  run = lambda: inner.update(gradient, inner_state, params, **extra_args)

  def wait():
    updates, after = jax.eval_shape(run)
    # Some let a state's dtype grow at their first update.
    same = jax.tree.map(
      lambda x, y: jnp.asarray(x, y.dtype), inner_state, after
    )
    return _zeros(updates), same

  return jax.lax.cond(ready, run, wait)


def _update_and_apply(name, inner, gradient, inner_state, params, extra_args):
  """An inner update, and the next version."""
  if params is None:
    raise ValueError(
      f'params=None: {name} keeps versions of the parameters; call '
      'update(gradient, state, params)'
    )
  updates, inner_state = inner.update(
    gradient, inner_state, params, **extra_args
  )
  return updates, inner_state, optax.apply_updates(params, updates)


def _zeros(tree):
  return jax.tree.map(lambda x: jnp.zeros_like(x, jnp.result_type(x)), tree)


def _copies(tree, count):
  """Every leaf `count` times along a new leading axis."""
  copies = lambda x: jnp.full((count, *jnp.shape(x)), x, jnp.result_type(x))
  return jax.tree.map(copies, tree)


def _check_whole(name, value, least):
  if not (isinstance(value, numbers.Integral) and value >= least):
    raise ValueError(f'{name}={value}: use a whole number, {least} or more')
  return int(value)  # NumPy's would widen the counters.
