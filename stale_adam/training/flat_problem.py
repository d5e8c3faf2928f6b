"""A problem with its parameters joined to a few vectors, as it is trained.

A small model has many small arrays, and an update costs a loop or more for each
of them. An optimizer that works element by element computes the same numbers
from vectors, in a few long loops.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import elementwise, update
from stale_adam.problem import Batch, Params, Problem

# Elements of a vector, at least. Updating an array of this size takes longer
# than starting its loops; joining larger ones would only copy them.
_ENOUGH = 2**17


class Form(NamedTuple):
  """A problem in the form in which it is trained.

  Attributes:
    problem: what is trained.
    params: the parameters of the given problem, from those of `problem`.
  """

  problem: Problem
  params: Callable[[Params], Params]


def unchanged(problem: Problem) -> Form:
  """The form of a problem that is trained as it is given."""
  return Form(problem, lambda params: params)


def form(
  problem: Problem,
  optimizer: optax.GradientTransformation,
  per_push: optax.GradientTransformation | None = None,
) -> Form:
  """Join parameters to vectors, where that changes no number.

  Small arrays of one type are joined in order until a vector has 2**17
  elements; larger arrays stay as they are. There are always two arrays or more:
  where a scalar divides a single array, XLA multiplies by its reciprocal, which
  rounds differently.

  Args:
    problem: what is minimised.
    optimizer: of the parameters.
    per_push: transformation of every push; None if there is none.

  Returns:
    The problem on vectors if optimizer and `per_push` work element by element,
    as `elementwise.on_vectors` finds out; otherwise the problem as it is.

  Raises:
    ValueError: if the optimizer needs more than a server has.
  """
  shapes = jax.eval_shape(problem.init, jax.random.key(0))
  told = update.about_sum(0, 1, 0)
  told |= update.values(optimizer, shapes, told)
  if not elementwise.on_vectors(optimizer, shapes, lambda params: told):
    return unchanged(problem)
  about = lambda params: update.about_push(params, 0, 0)
  if per_push and not elementwise.on_vectors(per_push, shapes, about):
    return unchanged(problem)
  layout = _layout(shapes)
  if len(layout.groups) in (1, len(layout.shapes)):  # Nothing to join.
    return unchanged(problem)
  init = lambda key: layout.join(problem.init(key))
  flat = Problem(init, _Loss(problem.loss, layout), problem.batch)
  return Form(flat, functools.partial(_split, layout))


@dataclasses.dataclass(frozen=True)
class _Layout:
  """Which leaves of the parameters are in which array.

  Attributes:
    tree: structure of the parameters.
    shapes: of its leaves.
    groups: numbers of the leaves in each array.
  """

  tree: Any
  shapes: tuple[tuple[int, ...], ...]
  groups: tuple[tuple[int, ...], ...]

  def join(self, params: Params) -> tuple[jax.Array, ...]:
    """The arrays, from the parameters."""
    leaves = jax.tree.leaves(params)
    return tuple(
      leaves[group[0]]
      if len(group) == 1
      else jnp.concatenate([jnp.ravel(leaves[i]) for i in group])
      for group in self.groups
    )

  def split(self, arrays: Sequence[jax.Array]) -> Params:
    """The parameters, from the arrays."""
    leaves: dict[int, jax.Array] = {}
    for group, array in zip(self.groups, arrays, strict=True):
      parts: Sequence[jax.Array] = [array]
      if len(group) > 1:
        sizes = [math.prod(self.shapes[i]) for i in group]
        # Its derivative is one concatenation.
        parts = jax.lax.split(array, sizes)
      for i, part in zip(group, parts, strict=True):
        leaves[i] = part.reshape(self.shapes[i])
    ordered = [leaves[i] for i in range(len(leaves))]
    return jax.tree.unflatten(self.tree, ordered)


@dataclasses.dataclass(frozen=True)
class _Loss:
  """The loss as a function of the arrays; equal if loss and layout are."""

  loss: Callable[[Params, Batch, jax.Array], jax.Array]
  layout: _Layout

  def __call__(
    self, arrays: Sequence[jax.Array], batch: Batch, key: jax.Array
  ) -> jax.Array:
    return self.loss(self.layout.split(arrays), batch, key)


@functools.partial(jax.jit, static_argnums=0)
def _split(layout: _Layout, arrays: Sequence[jax.Array]) -> Params:
  return layout.split(arrays)


def _layout(shapes: Params) -> _Layout:
  """Joins small leaves of one type, in order."""
  leaves, tree = jax.tree.flatten(shapes)
  groups: list[list[int]] = []
  filling: dict[Any, list[int]] = {}  # The vector that grows, by type.
  for i, leaf in enumerate(leaves):
    if leaf.size >= _ENOUGH:
      groups.append([i])
      continue
    if leaf.dtype not in filling:
      groups.append([])
      filling[leaf.dtype] = groups[-1]
    group = filling[leaf.dtype]
    group.append(i)
    if sum(leaves[j].size for j in group) >= _ENOUGH:
      del filling[leaf.dtype]
  if len(groups) == 1 and len(leaves) > 1:
    middle = (len(leaves) + 1) // 2
    groups = [groups[0][:middle], groups[0][middle:]]
  return _Layout(
    *(tree, tuple(x.shape for x in leaves)),
    tuple(tuple(group) for group in groups),
  )
