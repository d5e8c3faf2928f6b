"""Exponentially smoothed parameters, kept beside those that are trained."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import checks, sums
from stale_adam.transforms.parts import Tree, unwrapped


class SmoothState(NamedTuple):
  """`smoothed` are the smoothed parameters after `count` updates.

  They have the parameters' dtypes, or float32 where those are narrower.
  """

  count: jax.Array  # type: ignore[assignment]  # As optax calls it; tuple.count.
  smoothed: Tree
  inner_state: Tree


def smooth(
  inner: optax.GradientTransformation, rate: float
) -> optax.GradientTransformationExtraArgs:
  """Keep an exponential moving average of the parameters.

    (delta, o) <- inner(g, o, theta);  theta' = theta + delta
    s <- s + max(rate, 9 / (t + 10)) (theta' - s)

  where t updates were made before this one, and s begins as the parameters.
  Training does not change: the updates are those of the inner optimizer. Use
  `smoothed_params(state)` to validate, test and translate. With `rate` = 1
  they are the parameters themselves.

  The second rate is the larger one in the first 9 / rate - 10 updates, so that
  s soon forgets where it began. As long as it is, parameters count about as
  k^8 after update k: s lags by a tenth of all updates so far, later by
  1 / rate - 1 updates.

  The next parameters are computed here: apply the updates as returned, and put
  nothing after this transformation that changes them. Each call counts as an
  update: `accumulate(smooth(inner, rate), every)`, not the other way round.

  Args:
    inner: the optimizer.
    rate: how far s goes to the new parameters, above 0, at most 1; 1e-4 is
      usual for Transformers, in training of several 10,000 updates.

  Returns:
    A transformation that keeps one more copy of the parameters, in float32
    where they are narrower: bfloat16 would lose most changes of s. Leaves of
    whole numbers are not averaged.

  Raises:
    ValueError: if the rate is not a number in this range; from update, if
      params is missing.

  Source: exponential smoothing of Marian (Junczys-Dowmunt et al., 2018,
    "Marian: Fast Neural Machine Translation in C++"), the paper's toolkit,
    where the second rate is 1 - (t + 1) / (t + 10). The paper does not say
    whether it smooths. Polyak and Juditsky (1992) for averages; Shamir and
    Zhang (2013) for the second rate: their polynomial decay with eta = 8.
  """
  inner = optax.with_extra_args_support(inner)
  keep = 1 - checks.real('rate', rate, 0.0, 1.0, above=True)

  def init(params: Tree) -> SmoothState:
    # A copy: the state may be donated and the parameters kept, or both donated.
    copy = lambda x: jnp.array(x, jnp.result_type(x))
    start = jax.tree.map(copy, sums.widened(params))
    return SmoothState(jnp.int32(0), start, inner.init(params))

  def update(
    updates: Tree, state: Any, params: Tree = None, **extra_args: Any
  ) -> tuple[Tree, SmoothState]:
    if params is None:
      raise ValueError(
        'params=None: smooth averages the parameters; call '
        'update(gradient, state, params)'
      )
    updates, inner_state = inner.update(
      updates, state.inner_state, params, **extra_args
    )
    after = sums.widened(optax.apply_updates(params, updates))
    # An array divides: XLA multiplies by the reciprocal of a constant.
    begun = jnp.asarray(state.count, jnp.result_type(float))
    kept = jnp.minimum(keep, (begun + 1) / (begun + 10))

    def averaged(s: jax.Array, x: jax.Array) -> jax.Array:
      if not jnp.issubdtype(s.dtype, jnp.inexact):
        return x
      # From the side of the parameters: they are met exactly at rate 1, and
      # where they stand still.
      return x - jnp.asarray(kept, jnp.finfo(s.dtype).dtype) * (x - s)

    smoothed = jax.tree.map(averaged, state.smoothed, after)
    count: Any = optax.safe_increment(state.count)
    return updates, SmoothState(count, smoothed, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def smoothed_params(state: Any) -> Any:
  """Return the smoothed parameters.

  Args:
    state: of `smooth`, possibly inside other transformations' states; or
      `opt_state` of an `nnx.Optimizer` of them. If one wraps another, the
      outermost counts.

  Returns:
    Arrays in the structure of the parameters, in float32 where those are
    narrower. Of an `nnx.Optimizer`: for `nnx.merge`.

  Raises:
    ValueError: if there is no such state, or several side by side.
  """
  found = _states(state)
  if len(found) != 1:
    raise ValueError(
      f'found {len(found)} states with smoothed parameters: use exactly one '
      'smooth; without one, there are only the parameters themselves'
    )
  return unwrapped(found[0].smoothed)


def evaluated(params: Tree, state: Any) -> Tree:
  """The parameters to validate: the smoothed ones, if the state has any.

  Args:
    params: in force.
    state: the optimizer's.

  Returns:
    Arrays in the structure and dtypes of `params`.

  Raises:
    ValueError: if several states side by side have smoothed parameters.
  """
  if not _states(state):
    return params
  return sums.narrowed(smoothed_params(state), params)


def _states(state: Any) -> list[SmoothState]:
  """The outermost states of `smooth`."""
  keeps = lambda x: isinstance(x, SmoothState)
  return [x for x in jax.tree.leaves(state, is_leaf=keeps) if keeps(x)]
