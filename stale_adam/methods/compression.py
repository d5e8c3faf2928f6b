"""Workers that send part of their gradient and keep the rest for later."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from stale_adam.problem import Params
from stale_adam.worker import Worker


def drop_gradients(rate: float = 0.99) -> Worker:
  """Send only the largest elements; add the rest to the next push.

    u = g + r;   sent = u where abs(u) >= threshold, else 0;   r <- u - sent

  The threshold is the smallest absolute value among the largest (1 - rate)
  share of all elements, at least one. Elements equal to it are all sent.
  Nothing is lost: what is not sent stays in r.

  Args:
    rate: R, the share that is not sent, 0.99 in the source; 0 sends everything.

  Returns:
    A worker whose memory is its residual r, shaped like the parameters; for
    `worker` of `serve` and `simulate`.

  Raises:
    ValueError: if the rate is not in [0, 1).

  Source: Aji and Heafield (2017), "Sparse Communication for Distributed
    Gradient Descent". They estimate the threshold from a sample; ours is exact,
    over all matrices together.
  """
  if not 0 <= rate < 1:
    raise ValueError(f'rate={rate}: drop a share in [0, 1)')

  def init(params: Params, worker: int) -> Any:
    del worker
    return jax.tree.map(jnp.zeros_like, params)

  def compute(
    gradient: Callable[..., Any], params: Params, batches: Any, residual: Any
  ) -> tuple[Any, Any, Any]:
    loss, found = gradient(params, batches)
    return loss, *_drop(rate, found, residual)

  return Worker(init, compute)


@functools.partial(jax.jit, static_argnums=0)
def _drop(rate: float, gradient: Any, residual: Any) -> tuple[Any, Any]:
  """Split into (sent, rest); of every element one of them is 0."""
  total = jax.tree.map(jnp.add, gradient, residual)
  size = jnp.abs(ravel_pytree(total)[0])
  count = max(1, round((1 - rate) * size.size))
  threshold = jax.lax.top_k(size, count)[0][-1]
  # In the threshold's dtype, and so that a NaN is sent: it must show.
  below = lambda u: jnp.abs(u).astype(threshold.dtype) < threshold
  keep = jax.tree.map(lambda u: ~below(u), total)
  # Selected, not subtracted: nothing is lost to rounding.
  sent = jax.tree.map(lambda k, u: jnp.where(k, u, 0), keep, total)
  rest = jax.tree.map(lambda k, u: jnp.where(k, 0, u), keep, total)
  return sent, rest
