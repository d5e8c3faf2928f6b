"""What the transformations share: conditional updates, trees, checks."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

Tree = Any  # A pytree of arrays: parameters, gradients or a state.


def with_staleness(
  extra_args: Mapping[str, Any], staleness: jax.Array, pulled: Tree = None
) -> dict[str, Any]:
  """Extra arguments for the inner transformation, as those of a server.

  With several workers the staleness has an entry for each; the inner gets its
  mean. If the parameters that the gradient was taken at are not known, it gets
  no `pulled`, not even the caller's, so that a method that needs them fails.
  """
  mean = staleness
  if jnp.ndim(staleness):
    mean = jnp.mean(staleness, dtype=jnp.float32)
  about = {
    'staleness': mean,
    'stalest': jnp.max(staleness).astype(jnp.float32),
  }
  # A sum that a caller passes may have several pushes.
  pushes = {'pushes': jnp.float32(jnp.size(staleness))}
  extra_args = {**pushes, **extra_args, **about, 'pulled': pulled}
  if pulled is None:
    del extra_args['pulled']
  return extra_args


def update_if(
  ready: jax.Array,
  inner: optax.GradientTransformationExtraArgs,
  gradient: Callable[[], Tree],
  inner_state: Tree,
  params: Tree,
  extra_args: Mapping[str, Any],
) -> tuple[Tree, Tree]:
  """An inner update if ready; else zero updates and the same inner state.

  The gradient is computed inside the condition, so that XLA fuses it with the
  update.
  """
  run = lambda: inner.update(gradient(), inner_state, params, **extra_args)

  def wait() -> tuple[Tree, Tree]:
    updates, after = jax.eval_shape(run)
    # Some optimizers widen a dtype of their state at their first update.
    same = jax.tree.map(
      lambda x, y: jnp.asarray(x, y.dtype), inner_state, after
    )
    return zeros(updates), same

  return jax.lax.cond(ready, run, wait)


def zeros(tree: Tree) -> Tree:
  """Zeros in the shapes and dtypes of a tree."""
  return jax.tree.map(lambda x: jnp.zeros_like(x, jnp.result_type(x)), tree)


def copies(tree: Tree, count: int) -> Tree:
  """Every leaf `count` times along a new leading axis."""
  copy = lambda x: jnp.full((count, *jnp.shape(x)), x, jnp.result_type(x))
  return jax.tree.map(copy, tree)


def unwrapped(tree: Tree) -> Tree:
  """Unwraps the variables that `nnx.Optimizer` wraps arrays in.

  They are not `nnx.Param`s: `nnx.grad` of a model merged from them would find
  no parameters, and silently return no gradients.
  """
  nnx = sys.modules.get('flax.nnx')  # Not loaded: there are no variables.
  if nnx is None:
    return tree
  wraps = lambda x: isinstance(x, nnx.OptState)
  unwrap = lambda x: x.get_value() if wraps(x) else x
  return jax.tree.map(unwrap, tree, is_leaf=wraps)
