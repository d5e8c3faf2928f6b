"""Accumulation and staleness as optax transformations, for any training loop.

Each wraps an optimizer, or a chain of transformations, that need not know about
it. Where to take gradients: at the parameters with `accumulate` and with a
constant `delay`; at `pulled_params(state)` with `hold` and with every other
`delay`, whose update asks for these parameters by name:

  late = pulled_params(state)
  gradient = jax.grad(loss)(late)
  updates, state = optimizer.update(gradient, state, params, pulled=late)
  params = optax.apply_updates(params, updates)

Extra arguments of `update` are passed on to what is wrapped, in the calls in
which it runs. `delay` and `hold` add `staleness`, that of the gradient, in
updates; where they keep versions they pass on `pulled`, too. So a method that
takes these arguments works in any loop, as it does on the server.
"""

import numbers
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Tree = Any  # A pytree of arrays: parameters, gradients or a state.


class AccumulateState(NamedTuple):
  """`accumulator` is the sum of `summed` gradients."""

  summed: jax.Array
  accumulator: Tree
  inner_state: Tree


class QueueState(NamedTuple):
  """The last gradients in a ring; the next one goes to slot calls mod size."""

  calls: jax.Array
  queue: Tree
  inner_state: Tree


class VersionsState(NamedTuple):
  """The last versions in a ring; `staleness` is that of the next gradient."""

  version: jax.Array
  staleness: jax.Array
  versions: Tree
  inner_state: Tree


class HoldState(NamedTuple):
  """What the workers hold; `phase` is the version modulo `pull_every`.

  `staleness` is that of the next gradient: a scalar, or one entry per worker.
  """

  phase: jax.Array
  staleness: jax.Array
  snapshot: Tree
  inner_state: Tree


def accumulate(
  inner: optax.GradientTransformation, every: int, use_mean: bool = False
) -> optax.GradientTransformationExtraArgs:
  """Sum gradients, and run the inner optimizer once every `every` calls.

    a <- a + g;  on every `every`-th call:
    (delta, o) <- inner(a, o, theta);  a <- 0;  on the others: delta = 0

  The inner optimizer's schedule counts updates, not calls. With `every` = 1
  this is the inner optimizer. `optax.MultiSteps` runs the inner optimizer in
  every call and clears its sum by multiplication, so that a NaN stays in it.

  Args:
    inner: the optimizer.
    every: gradients per update.
    use_mean: divide the sum by `every`. Adam hides the factor, clipping and
      epsilon do not.

  Returns:
    A transformation; its accumulator has the parameters' dtypes.

  Raises:
    ValueError: if `every` is not a whole number, or below 1.

  Source: the paper's section 5.1, global accumulation.
  """
  inner = optax.with_extra_args_support(inner)
  every = _check_whole('every', every, 1)

  def init(params: Tree) -> AccumulateState:
    return AccumulateState(jnp.int32(0), _zeros(params), inner.init(params))

  def update(
    updates: Tree, state: Any, params: Tree = None, **extra_args: Any
  ) -> tuple[Tree, AccumulateState]:
    total = jax.tree.map(
      lambda a, g: a + jnp.asarray(g, a.dtype), state.accumulator, updates
    )
    summed = (state.summed + 1) % every
    full = summed == 0
    gradient = jax.tree.map(lambda a: a / every, total) if use_mean else total
    updates, inner_state = _update_if(
      full, inner, gradient, state.inner_state, params, extra_args
    )
    # Selected, not multiplied: 0 x NaN is NaN.
    rest = jax.tree.map(lambda a: jnp.where(full, jnp.zeros_like(a), a), total)
    return updates, AccumulateState(summed, rest, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def delay(
  inner: optax.GradientTransformation,
  staleness: int | Sequence[int] | np.ndarray | Callable[[jax.Array], Any],
  key: jax.Array | None = None,
  largest: int | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Run the inner optimizer on gradients that are `staleness` updates late.

    theta_{u+1} = theta_u + inner(gradient at theta_{u - min(s_u, u)})

  One whole number s: gradients wait in a queue; take them at the parameters.
  The first s calls return zero updates and leave the inner state alone; call
  c + s applies the gradient of call c. This is asynchronous training with s + 1
  workers in turn, warm-up included. With s = 0 it is the inner optimizer.

  An array or a sampler: the last versions are kept; take gradients at
  `pulled_params(state)`, and give these parameters to update as `pulled`. The
  next version is recorded here: apply the updates as returned, and put nothing
  after this transformation that changes them. Each call counts as an update.

  The inner optimizer gets `staleness` as an extra argument, min(s_u, u), and
  `pulled` where versions are kept: a method that needs `pulled` under a
  constant staleness takes `delay(method, [s])`.

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
    ValueError: if a staleness is not a whole number, or below 0; if key or
      largest is missing for a sampler, or given for anything else. From update,
      where versions are kept: if params is missing, or `pulled` is missing or
      not of the form of `pulled_params(state)`.

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
    sample, top, seed = staleness, largest, key
    draw = lambda version: jnp.clip(
      sample(jax.random.fold_in(seed, version)), 0, top
    )
    return _recall(inner, draw, largest)
  if key is not None or largest is not None:
    raise ValueError(
      f'key={key}, largest={largest}: only a sampler uses these; leave them '
      f'out with staleness={staleness}'
    )
  if isinstance(staleness, numbers.Number):
    return _queue(inner, _check_whole('staleness', staleness, 0))
  table = np.asarray(staleness)
  whole = table.ndim == 1 and table.size and table.dtype.kind in 'iu'
  if not whole or table.min() < 0:
    raise ValueError(
      f'staleness={staleness}: use a whole number, 0 or more, or a 1-D array '
      'of at least one of them'
    )
  draw = lambda version: jnp.asarray(table)[version % table.size]
  return _recall(inner, draw, int(table.max()))


def _queue(
  inner: optax.GradientTransformationExtraArgs, size: int
) -> optax.GradientTransformationExtraArgs:
  """Constant staleness: a ring of gradients."""

  def init(params: Tree) -> QueueState:
    queue = _copies(_zeros(params), size)
    return QueueState(jnp.int32(0), queue, inner.init(params))

  def update(
    updates: Tree, state: Any, params: Tree = None, **extra_args: Any
  ) -> tuple[Tree, QueueState]:
    calls, full = state.calls, state.calls >= size
    oldest = jax.tree.map(lambda ring: ring[calls % size], state.queue)
    queue = jax.tree.map(
      lambda ring, g: ring.at[calls % size].set(jnp.asarray(g, ring.dtype)),
      *(state.queue, updates),
    )
    late = jnp.minimum(calls - size, size)
    updates, inner_state = _update_if(
      *(full, inner, oldest, state.inner_state, params),
      _told(extra_args, late),
    )
    # From 2 size on it goes round in 2 size .. 3 size - 1: no overflow.
    calls = jnp.where(calls == 3 * size - 1, 2 * size, calls + 1)
    return updates, QueueState(calls, queue, inner_state)

  def update_now(
    updates: Tree, state: Any, params: Tree = None, **extra_args: Any
  ) -> tuple[Tree, Any]:
    return inner.update(
      updates, state, params, **_told(extra_args, jnp.int32(0))
    )

  if size == 0:
    return optax.GradientTransformationExtraArgs(inner.init, update_now)
  return optax.GradientTransformationExtraArgs(init, update)


def _recall(
  inner: optax.GradientTransformationExtraArgs,
  draw: Callable[[jax.Array], jax.Array],
  largest: int,
) -> optax.GradientTransformationExtraArgs:
  """Any staleness: a ring of versions, and which one is pulled next."""

  def pull(
    version: jax.Array, versions: Tree, inner_state: Tree
  ) -> VersionsState:
    staleness = jnp.minimum(draw(version).astype(jnp.int32), version)
    return VersionsState(version, staleness, versions, inner_state)

  def init(params: Tree) -> VersionsState:
    versions = _copies(params, largest + 1)
    return pull(jnp.int32(0), versions, inner.init(params))

  def update(
    updates: Tree,
    state: Any,
    params: Tree = None,
    *,
    pulled: Tree = None,
    **extra_args: Any,
  ) -> tuple[Tree, VersionsState]:
    _check_pulled('delay by an array or a sampler', pulled, state, params)
    updates, inner_state = inner.update(
      *(updates, state.inner_state, params),
      **_told(extra_args, state.staleness, pulled),
    )
    version: Any = optax.safe_increment(state.version)
    versions = jax.tree.map(
      lambda ring, x: ring.at[version % (largest + 1)].set(x),
      *(state.versions, optax.apply_updates(params, updates)),
    )
    return updates, pull(version, versions, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def hold(
  inner: optax.GradientTransformation,
  pull_every: int,
  phases: Sequence[int] | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Take gradients at a snapshot that is renewed every U updates.

    theta_{v+1} = theta_v + inner(gradient at theta_{v - v mod U})

  This is artificial staleness, uniform on 0..U-1. Take gradients at
  `pulled_params(state)`, and give these parameters to update as `pulled`. The
  snapshot is taken here: apply the updates as returned, and put nothing after
  this transformation that changes them. Each call counts as an update.

  In the paper's text all workers share one snapshot; the authors' code staggers
  them. With `phases`, worker w pulls after update v = 1, 2, ... if v mod U =
  phases[w], every leaf of `pulled_params(state)` has a leading axis of one
  entry per worker, for `jax.vmap`, and the loop sums the workers' gradients.

  The inner optimizer gets `staleness` and `pulled` as extra arguments; with
  `phases` it gets the mean of the workers' staleness, and no `pulled`: the sum
  of their gradients was not taken at one point.

  Args:
    inner: the optimizer.
    pull_every: U, updates between two pulls; 1 is the inner optimizer.
    phases: one number in 0..U-1 per worker, or None for a shared snapshot.

  Returns:
    A transformation that keeps one snapshot, or one per worker.

  Raises:
    ValueError: if pull_every is not a whole number, or below 1; if phases is
      empty or has a number outside 0..U-1. From update: if params is missing,
      or `pulled` is missing or not of the form of `pulled_params(state)`.

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

  def init(params: Tree) -> HoldState:
    zero, inner_state = jnp.int32(0), inner.init(params)
    if phases is None:
      snapshot = jax.tree.map(lambda x: x[0], _copies(params, 1))
      return HoldState(zero, zero, snapshot, inner_state)
    snapshots = _copies(params, len(phases))
    staleness = jnp.zeros(len(phases), jnp.int32)
    return HoldState(zero, staleness, snapshots, inner_state)

  def update(
    updates: Tree,
    state: Any,
    params: Tree = None,
    *,
    pulled: Tree = None,
    **extra_args: Any,
  ) -> tuple[Tree, HoldState]:
    _check_pulled('hold', pulled, state, params)
    if phases is None:
      told = _told(extra_args, state.staleness, pulled)
    else:
      told = _told(extra_args, jnp.mean(state.staleness, dtype=jnp.float32))
    updates, inner_state = inner.update(
      updates, state.inner_state, params, **told
    )
    phase = (state.phase + 1) % pull_every
    params = optax.apply_updates(params, updates)

    def pull(now: jax.Array, staleness: jax.Array, held: Tree) -> Any:
      held = jax.tree.map(lambda x, new: jnp.where(now, new, x), held, params)
      return jnp.where(now, 0, staleness + 1), held

    # Of every worker, or of one that stands for all.
    workers = jax.vmap(pull) if phases is not None else pull
    now = phase == (0 if phases is None else jnp.array(phases))
    staleness, snapshot = workers(now, state.staleness, state.snapshot)
    return updates, HoldState(phase, staleness, snapshot, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def pulled_params(state: Any) -> Any:
  """Return the parameters at which to take the next gradient.

  Args:
    state: of `hold`, or of `delay` by an array or a sampler, possibly inside
      other transformations' states; or `opt_state` of an `nnx.Optimizer` of
      them. If one wraps another, the outermost counts.

  Returns:
    Arrays in the structure of the parameters; with a leading axis of workers
    for a staggered `hold`. Of an `nnx.Optimizer`: for `nnx.merge`.

  Raises:
    ValueError: if there is no such state, or several side by side.
  """
  keeps = lambda x: isinstance(x, HoldState | VersionsState)
  found = [x for x in jax.tree.leaves(state, is_leaf=keeps) if keeps(x)]
  if len(found) != 1:
    raise ValueError(
      f'found {len(found)} states with pulled parameters: use exactly one '
      'hold, or delay by an array or a sampler; without one, take gradients at '
      'the parameters themselves'
    )
  (keeper,) = found
  if isinstance(keeper, HoldState):
    return _arrays(keeper.snapshot)
  version, staleness, versions = _arrays(keeper[:3])
  pulled = version - staleness
  return jax.tree.map(lambda ring: ring[pulled % len(ring)], versions)


def _arrays(tree: Tree) -> Tree:
  """Takes arrays out of the variables that `nnx.Optimizer` puts them into.

  These are no `nnx.Param`s: `nnx.grad` of a model merged from them would find
  no parameters, and silently return no gradients.
  """
  nnx = sys.modules.get('flax.nnx')  # Whoever has such variables imported it.
  if nnx is None:
    return tree
  wraps = lambda x: isinstance(x, nnx.OptState)
  unwrap = lambda x: x.get_value() if wraps(x) else x
  return jax.tree.map(unwrap, tree, is_leaf=wraps)


def _told(
  extra_args: Mapping[str, Any], staleness: jax.Array, pulled: Tree = None
) -> dict[str, Any]:
  """Extra arguments for what is wrapped: without `pulled` if it is unknown."""
  told = {**extra_args, 'staleness': staleness, 'pulled': pulled}
  if pulled is None:
    del told['pulled']
  return told


def _update_if(
  ready: jax.Array,
  inner: optax.GradientTransformationExtraArgs,
  gradient: Tree,
  inner_state: Tree,
  params: Tree,
  extra_args: Mapping[str, Any],
) -> tuple[Tree, Tree]:
  """An inner update; else zero updates and the inner state as it was."""
  run = lambda: inner.update(gradient, inner_state, params, **extra_args)

  def wait() -> tuple[Tree, Tree]:
    updates, after = jax.eval_shape(run)
    # Some let a state's dtype grow at their first update.
    same = jax.tree.map(
      lambda x, y: jnp.asarray(x, y.dtype), inner_state, after
    )
    return _zeros(updates), same

  return jax.lax.cond(ready, run, wait)


def _check_pulled(name: str, pulled: Tree, state: Any, params: Tree) -> None:
  """Refuses gradients that may have been taken at the wrong parameters.

  Values cannot be compared under jit. What can be seen is whether the caller
  knows of `pulled_params` at all.
  """
  call = (
    'take the gradient at late = pulled_params(state), and call '
    'update(gradient, state, params, pulled=late)'
  )
  if params is None:
    raise ValueError(f'params=None: {name} keeps versions of them; {call}')
  if pulled is None:
    raise ValueError(
      f'pulled=None: {name} needs the parameters that the gradient was taken '
      f'at; {call}'
    )
  wanted = jax.eval_shape(pulled_params, state)
  form = lambda tree: (
    [jnp.shape(x) for x in jax.tree.leaves(tree)],
    jax.tree.structure(tree),
  )
  if form(pulled) != form(wanted):
    raise ValueError(
      f'pulled has the shapes {form(pulled)}, but pulled_params(state) has '
      f'{form(wanted)}; {call}'
    )
  pairs = zip(jax.tree.leaves(pulled), jax.tree.leaves(params), strict=True)
  if any(x is y for x, y in pairs):
    raise ValueError(f'pulled is params: {name} uses older ones; {call}')


def _zeros(tree: Tree) -> Tree:
  return jax.tree.map(lambda x: jnp.zeros_like(x, jnp.result_type(x)), tree)


def _copies(tree: Tree, count: int) -> Tree:
  """Every leaf `count` times along a new leading axis."""
  copies = lambda x: jnp.full((count, *jnp.shape(x)), x, jnp.result_type(x))
  return jax.tree.map(copies, tree)


def _check_whole(name: str, value: Any, least: int) -> int:
  if not isinstance(value, numbers.Integral) or int(value) < least:
    raise ValueError(f'{name}={value}: use a whole number, {least} or more')
  return int(value)  # NumPy's would widen the counters.
