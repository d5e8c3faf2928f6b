"""The parameters that a gradient is taken at, and the states that keep them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stale_adam.transforms.parts import Tree, unwrapped


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
    return unwrapped(keeper.snapshot)
  version, staleness, versions = unwrapped(keeper[:3])
  pulled = version - staleness
  return jax.tree.map(lambda ring: ring[pulled % len(ring)], versions)


def check_pulled(name: str, pulled: Tree, state: Any, params: Tree) -> None:
  """Refuses a gradient without evidence of where it was taken.

  Under jit values cannot be compared. But a caller who does not know of
  `pulled_params` gives no argument, or the wrong one.
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
