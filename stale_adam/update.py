"""The compiled part of a push: its transformation, the sum, one update.

The hot path. Everything runs in place: the memory of states, accumulator and
message is that of the results. Parameters are never touched, workers hold them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import sums
from stale_adam.problem import Params

Transformation = optax.GradientTransformation


def takes_more(transformation: Transformation) -> bool:
  """Whether it takes extra arguments, such as `staleness`."""
  return isinstance(transformation, optax.GradientTransformationExtraArgs)


def whole(number: Any) -> Any:
  """A whole number as jitted functions take it: always the same type."""
  return number if isinstance(number, jax.Array) else np.int32(number)


def about_push(pulled: Params, staleness: Any, worker: Any) -> dict[str, Any]:
  """The extra arguments of a transformation of pushes."""
  return {
    'pulled': pulled,
    'staleness': whole(staleness),
    'worker': whole(worker),
  }


def about_sum(staleness: Any, summed: Any, stalest: Any) -> dict[str, Any]:
  """The extra arguments of an optimizer, of arrays or numbers."""
  # All become arrays: XLA multiplies by the reciprocal of a constant.
  total, count, largest = (
    jnp.asarray(x, jnp.float32) for x in (staleness, summed, stalest)
  )
  return {'staleness': total / count, 'pushes': count, 'stalest': largest}


def larger(one: Any, other: Any) -> Any:
  """The larger of two whole numbers."""
  if isinstance(one, int) and isinstance(other, int):
    return max(one, other)
  return jnp.maximum(one, other)


def values(
  optimizer: Transformation, params: Params, extra: dict[str, Any]
) -> dict[str, Any]:
  """The extra argument `value`, if the optimizer needs it: a loss of 0.

  Args:
    optimizer: any optax transformation.
    params: of the problem.
    extra: the other extra arguments that it will get.

  Raises:
    ValueError: if it needs others: a line search evaluates the loss and its
      gradient at parameters of its own, which no worker has computed.
  """
  if not takes_more(optimizer):
    return {}
  state = jax.eval_shape(optimizer.init, params)
  run = lambda more: jax.eval_shape(
    functools.partial(optimizer.update, **extra, **more), params, state, params
  )
  try:
    run({})
    return {}
  except (TypeError, ValueError):
    pass  # It is tried with a value, and that error is shown.
  value = {'value': jnp.float32(0)}
  try:
    run(value)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'the optimizer cannot run on a server: {error}. It gets the gradient, '
      'the parameters, staleness=, pushes=, stalest=, and value= (the mean '
      'loss of the pushes); use one that needs no more, such as sa.adam'
    ) from error
  return value


def init(
  transformation: Transformation, params: Params, **more: Any
) -> tuple[Any, Any]:
  """A transformation's state, with memory and dtypes that stay as they are.

  Args:
    transformation: any optax transformation.
    params: of the problem.
    more: the extra arguments that its update will get, if it takes any.

  Returns:
    (the state, the shapes and dtypes of what an update returns).
  """
  # Some optimizers keep the parameters in their state. The state's memory is
  # reused at every update, the parameters' is not: they must not be the same.
  state = jax.tree.map(jnp.copy, transformation.init(params))
  update = functools.partial(
    transformation.update, **(more if takes_more(transformation) else {})
  )
  # Some let dtypes grow, from bfloat16 to float32 say: at once, not later.
  types = lambda state: [x.dtype for x in jax.tree.leaves(state)]
  while True:
    found, after = jax.eval_shape(update, params, state, params)
    if types(after) == types(state):
      return state, found
    state = jax.tree.map(lambda x, y: x.astype(y.dtype), state, after)


def _transform(
  per_push: Transformation | None,
  state: Any,
  message: Any,
  params: Params,
  more: dict[str, Any] | None,
) -> tuple[Any, Any]:
  """A push as it goes into the sum; unchanged if `more` is None."""
  if more is None or per_push is None:
    return state, message
  more = more if takes_more(per_push) else {}
  message, state = per_push.update(message, state, params, **more)
  return state, message


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def start(
  per_push: Transformation | None,
  state: Any,
  message: Any,
  params: Params,
  more: dict[str, Any] | None,
) -> tuple[Any, Any]:
  """A sum of one push: (per-push state, accumulator)."""
  return _transform(per_push, state, message, params, more)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def add(
  per_push: Transformation | None,
  state: Any,
  accumulator: Any,
  message: Any,
  params: Params,
  more: dict[str, Any] | None,
) -> tuple[Any, Any]:
  """A sum with one more push: (per-push state, accumulator).

  The accumulator has the types of `sums.widened`.
  """
  state, message = _transform(per_push, state, message, params, more)
  return state, sums.add(accumulator, message)


@jax.jit
def add_loss(total: Any, loss: Any) -> Any:
  """The sum of the losses of pushes, with one more, in float32."""
  return total + loss.astype(total.dtype)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3, 4))
def update(
  optimizer: Transformation,
  per_push: Transformation | None,
  optimizer_state: Any,
  per_push_state: Any,
  message: Any,
  accumulator: Any,
  params: Params,
  more: dict[str, Any] | None,
  known: tuple[Any, Any, Any, Any] | None,
) -> tuple[Any, Any, Params]:
  """One update on the sum: (optimizer state, per-push state, parameters).

  The optimizer gets the sum in the parameters' types, to which it is rounded
  once.

  XLA pairs donated arguments with results of the same shape in order. With the
  results in the order of the donated arguments each moment is overwritten
  where it lies, and the new parameters take the message's memory, which has
  just been read. In the usual order, parameters first, XLA copies instead.

  Args:
    optimizer: any optax transformation.
    per_push: transforms the message, unless `more` is None.
    optimizer_state: of the optimizer; donated.
    per_push_state: of `per_push`; donated.
    message: the last push of the sum; donated.
    accumulator: the sum of those before it; None if there are none.
    params: in force.
    more: what `per_push` is told; see `about_push`.
    known: of the pushes in the sum: their staleness, summed; their number; the
      largest staleness; their losses, summed (None if it does without). For an
      optimizer that takes extra arguments; else None.
  """
  per_push_state, message = _transform(
    per_push, per_push_state, message, params, more
  )
  if accumulator is not None:
    message = sums.add(accumulator, message)
  message = sums.narrowed(message, params)
  extra = {}
  if known is not None:
    *numbers, loss = known
    extra = about_sum(*numbers)
    if loss is not None:
      extra['value'] = loss / extra['pushes']
  updates, optimizer_state = optimizer.update(
    message, optimizer_state, params, **extra
  )
  return optimizer_state, per_push_state, optax.apply_updates(params, updates)
