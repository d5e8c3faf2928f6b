"""Label-smoothed cross-entropy with a custom gradient."""

import functools
from typing import Any

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def cross_entropy(
  hidden: jax.Array,
  table: jax.Array,
  targets: jax.Array,
  weights: jax.Array,
  smoothing: float = 0.0,
  chunk: int = 128,
) -> jax.Array:
  """Weighted sum of the cross-entropies of softmax(hidden table').

  With logits z, target y, vocabulary V and smoothing s, each position costs

    logsumexp(z) - (1 - s) z_y - (s / V) sum_v z_v.

  The positions are taken `chunk` at a time, and the gradient is computed
  together with the value. So the whole table of probabilities is never stored:
  the logits of a chunk are used for both while they are in the processor's
  cache.

  Args:
    hidden: [positions, size]; positions is a multiple of `chunk`, or below it.
    table: [vocabulary, size], the tied embedding.
    targets: [positions] of int32.
    weights: [positions]; 0 where there is no target.
    smoothing: s, 0 <= s < 1.
    chunk: positions at a time; it affects speed only.

  Returns:
    A scalar; float32 where `hidden` is narrower, as are logits and sums.

  Raises:
    ValueError: if `chunk` does not divide the positions.

  Source: label smoothing as in Vaswani et al. (2017), section 5.4.
  """
  value = lambda part: _position_loss(part[0], table, part[1], smoothing)[0]
  parts = _split(chunk, hidden, targets)
  losses = jax.lax.map(value, parts).reshape(-1)
  return jnp.sum(losses * weights)


def _position_loss(
  hidden: jax.Array, table: jax.Array, targets: jax.Array, smoothing: float
) -> tuple[jax.Array, jax.Array]:
  """Loss and softmax(z) of every position."""
  logits = jnp.matmul(hidden, table.T, preferred_element_type=_wide(hidden))
  top = jnp.max(logits, axis=-1, keepdims=True)
  exponents = jnp.exp(logits - top)
  total = jnp.sum(exponents, axis=-1, keepdims=True)
  picked = jnp.take_along_axis(logits, targets[:, None], axis=-1)
  wanted = (1 - smoothing) * picked
  if smoothing:
    wanted += smoothing * jnp.mean(logits, axis=-1, keepdims=True)
  loss = jnp.log(total) + top - wanted
  return loss[:, 0], exponents / total


def _forward(
  hidden: jax.Array,
  table: jax.Array,
  targets: jax.Array,
  weights: jax.Array,
  smoothing: float,
  chunk: int,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  vocabulary = jnp.arange(table.shape[0])[None]

  def body(table_gradient: jax.Array, part: Any) -> Any:
    hidden, targets, weights = part
    loss, softmax = _position_loss(hidden, table, targets, smoothing)
    hit = vocabulary == targets[:, None]
    wanted = jnp.where(hit, 1 - smoothing, 0) + smoothing / table.shape[0]
    error = (softmax - wanted) * weights[:, None]
    error = error.astype(hidden.dtype)
    product = jnp.matmul(error.T, hidden, preferred_element_type=wide)
    loss = jnp.sum(loss * weights)
    return table_gradient + product, (loss, error @ table)

  wide = _wide(hidden)
  parts = _split(chunk, hidden, targets, weights)
  zeros = jnp.zeros(table.shape, wide)
  table_gradient, (losses, gradients) = jax.lax.scan(body, zeros, parts)
  gradients = gradients.reshape(hidden.shape)
  return jnp.sum(losses), (gradients, table_gradient.astype(table.dtype))


def _backward(
  smoothing: float,
  chunk: int,
  saved: tuple[jax.Array, jax.Array],
  cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array, None, None]:
  del smoothing, chunk
  scaled = lambda x: (cotangent * x).astype(x.dtype)
  return (*map(scaled, saved), None, None)


cross_entropy.defvjp(_forward, _backward)


def _wide(x: jax.Array) -> Any:
  """Dtype of sums and logits: float32 where `x` is narrower."""
  return jnp.promote_types(x.dtype, jnp.float32)


def _split(chunk: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
  positions = arrays[0].shape[0]
  chunk = min(chunk, positions)
  if positions % chunk:
    raise ValueError(
      f'chunk={chunk} must divide the {positions} positions of the batch: use '
      f'a divisor, or {positions} for all at once'
    )
  return tuple(a.reshape(-1, chunk, *a.shape[1:]) for a in arrays)
