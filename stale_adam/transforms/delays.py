"""Late gradients in a training loop: constant, listed or sampled staleness."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import checks
from stale_adam.transforms.parts import (
  Tree,
  copies,
  update_if,
  with_staleness,
  zeros,
)
from stale_adam.transforms.pulled import VersionsState, check_pulled


class QueueState(NamedTuple):
  """The last s + 1 gradients in a ring; the next goes to slot calls mod s + 1.

  With s slots, the oldest would be read from the slot that is then overwritten,
  and XLA would copy the whole ring first.
  """

  calls: jax.Array
  queue: Tree
  inner_state: Tree


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

  The inner optimizer gets `staleness`, min(s_u, u), `stalest` and `pushes` as
  extra arguments, as on a server, and `pulled` where versions are kept: a
  method that needs `pulled` under a constant staleness takes
  `delay(method, [s])`.

  Args:
    inner: the optimizer.
    staleness: a whole number; or a 1-D array of them, s_u being entry u modulo
      its length; or a sampler: `staleness(key) -> scalar`.
    key: for a sampler only: s_u depends on it and u alone.
    largest: for a sampler only: its draws are clipped to 0..largest.

  Returns:
    A transformation that keeps s + 1 gradients in a ring, or the largest s_u
    plus one versions, in the parameters' dtypes.

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
    largest = checks.whole('largest', largest, 0)
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
    return _queue(inner, checks.whole('staleness', staleness, 0))
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
  slots = size + 1

  def init(params: Tree) -> QueueState:
    queue = copies(zeros(params), slots)
    return QueueState(jnp.int32(0), queue, inner.init(params))

  def update(
    updates: Tree, state: Any, params: Tree = None, **extra_args: Any
  ) -> tuple[Tree, QueueState]:
    calls, full = state.calls, state.calls >= size
    queue = jax.tree.map(
      lambda ring, g: ring.at[calls % slots].set(jnp.asarray(g, ring.dtype)),
      *(state.queue, updates),
    )
    oldest = lambda: jax.tree.map(lambda ring: ring[(calls + 1) % slots], queue)
    late = jnp.minimum(calls - size, size)
    updates, inner_state = update_if(
      *(full, inner, oldest, state.inner_state, params),
      with_staleness(extra_args, late),
    )
    # It cycles through 2 slots .. 3 slots - 1 in the end: no overflow.
    calls = jnp.where(calls == 3 * slots - 1, 2 * slots, calls + 1)
    return updates, QueueState(calls, queue, inner_state)

  def update_now(
    updates: Tree, state: Any, params: Tree = None, **extra_args: Any
  ) -> tuple[Tree, Any]:
    return inner.update(
      updates, state, params, **with_staleness(extra_args, jnp.int32(0))
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
    versions = copies(params, largest + 1)
    return pull(jnp.int32(0), versions, inner.init(params))

  def update(
    updates: Tree,
    state: Any,
    params: Tree = None,
    *,
    pulled: Tree = None,
    **extra_args: Any,
  ) -> tuple[Tree, VersionsState]:
    check_pulled('delay by an array or a sampler', pulled, state, params)
    updates, inner_state = inner.update(
      *(updates, state.inner_state, params),
      **with_staleness(extra_args, state.staleness, pulled),
    )
    version: Any = optax.safe_increment(state.version)
    versions = jax.tree.map(
      lambda ring, x: ring.at[version % (largest + 1)].set(x),
      *(state.versions, optax.apply_updates(params, updates)),
    )
    return updates, pull(version, versions, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)
