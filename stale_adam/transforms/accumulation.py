"""Global accumulation in a training loop: one update for several gradients."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import checks, sums
from stale_adam.transforms.parts import Tree, update_if, zeros


class AccumulateState(NamedTuple):
  """`accumulator` is the sum of `summed` gradients, if there are any.

  `about` has the pushes that they are of, the staleness of these pushes,
  summed, and the largest.
  """

  summed: jax.Array
  about: tuple[jax.Array, jax.Array, jax.Array]
  accumulator: Tree
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
    A transformation. Its accumulator has the parameters' dtypes, or float32
    where those are narrower: in bfloat16 256 + 1 is 256. The inner optimizer
    gets the sum in the dtypes of `params`; in those of the gradients if update
    gets no `params`. It also gets `pushes`, the number in the sum, one for each
    gradient unless update is told otherwise, and, if update gets them, their
    mean `staleness` and the largest, `stalest`.

  Raises:
    ValueError: if `every` is not a whole number, or below 1.

  Source: the paper's section 5.1, global accumulation.
  """
  inner = optax.with_extra_args_support(inner)
  every = checks.whole('every', every, 1)

  def init(params: Tree) -> AccumulateState:
    empty = sums.widened(zeros(params))
    about = jnp.float32(0), jnp.float32(0), jnp.float32(0)  # Each its own.
    return AccumulateState(jnp.int32(0), about, empty, inner.init(params))

  def update(
    updates: Tree, state: Any, params: Tree = None, **extra_args: Any
  ) -> tuple[Tree, AccumulateState]:
    # Selected, not multiplied: 0 x NaN is NaN. The last sum is forgotten here,
    # not when it is used: XLA would copy it.
    old = jax.tree.map(
      lambda a: jnp.where(state.summed == 0, jnp.zeros_like(a), a),
      state.accumulator,
    )
    total = jax.tree.map(lambda a, g: a + jnp.asarray(g, a.dtype), old, updates)
    about, told = _about(state, extra_args)
    if use_mean:
      told['pushes'] /= every
    summed = (state.summed + 1) % every
    like = updates if params is None else params

    def gradient() -> Tree:
      mean = jax.tree.map(lambda a: a / every, total) if use_mean else total
      return sums.narrowed(mean, like)

    updates, inner_state = update_if(
      summed == 0, inner, gradient, state.inner_state, params, extra_args | told
    )
    return updates, AccumulateState(summed, about, total, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def _about(
  state: AccumulateState, extra_args: Mapping[str, Any]
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], dict[str, Any]]:
  """The pushes in the sum and their staleness, with one gradient more.

  Returns:
    The state's `about`, and the extra arguments that follow from it.
  """
  old = [jnp.where(state.summed == 0, 0.0, x) for x in state.about]
  pushes = jnp.asarray(extra_args.get('pushes', 1.0), jnp.float32)
  count = old[0] + pushes
  total = old[1] + pushes * extra_args.get('staleness', 0.0)
  largest = jnp.maximum(old[2], extra_args.get('stalest', 0.0))
  known = {'staleness': total / count, 'stalest': largest}
  told = {name: x for name, x in known.items() if name in extra_args}
  about = count, total.astype(jnp.float32), largest.astype(jnp.float32)
  return about, {'pushes': count} | told
