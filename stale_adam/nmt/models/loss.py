"""Label-smoothed cross-entropy with a gradient of its own."""

import functools

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
  """Weighted sum of the cross-entropy of softmax(hidden table').

  With logits z, target y, vocabulary V and smoothing s, each position costs

    logsumexp(z) - (1 - s) z_y - (s / V) sum_v z_v.

  The positions are taken `chunk` at a time and the gradient is computed
  together with the value, so that a table of probabilities never exists whole:
  each chunk's logits are made, used for both and overwritten while they are
  still in the processor's cache.

  Args:
    hidden: [positions, size]; `chunk` divides positions, or is not below it.
    table: [vocabulary, size], the tied embedding.
    targets: [positions] of int32.
    weights: [positions]; 0 where there is no target.
    smoothing: s, 0 <= s < 1.
    chunk: positions at a time; speed alone depends on it.

  Source: label smoothing as in Vaswani et al. (2017), section 5.4.
  """
  value = lambda part: _position_loss(part[0], table, part[1], smoothing)[0]
  parts = _split(chunk, hidden, targets)
  losses = jax.lax.map(value, parts).reshape(-1)
  return jnp.sum(losses * weights)


def _position_loss(hidden, table, targets, smoothing):
  """Loss per position, and softmax(z) with what it took to make it."""
  logits = hidden @ table.T
  top = jnp.max(logits, axis=-1, keepdims=True)
  exponents = jnp.exp(logits - top)
  total = jnp.sum(exponents, axis=-1, keepdims=True)
  picked = jnp.take_along_axis(logits, targets[:, None], axis=-1)
  wanted = (1 - smoothing) * picked
  if smoothing:
    wanted += smoothing * jnp.mean(logits, axis=-1, keepdims=True)
  loss = jnp.log(total) + top - wanted
  return loss[:, 0], exponents / total


def _forward(hidden, table, targets, weights, smoothing, chunk):
  vocabulary = jnp.arange(table.shape[0])[None]

  def body(table_gradient, part):
    hidden, targets, weights = part
    loss, softmax = _position_loss(hidden, table, targets, smoothing)
    hit = vocabulary == targets[:, None]
    wanted = jnp.where(hit, 1 - smoothing, 0) + smoothing / table.shape[0]
    error = (softmax - wanted) * weights[:, None]
    gradient = error @ table
    return table_gradient + error.T @ hidden, (
      jnp.sum(loss * weights),
      gradient,
    )

  parts = _split(chunk, hidden, targets, weights)
  zeros = jnp.zeros_like(table)
  table_gradient, (losses, gradients) = jax.lax.scan(body, zeros, parts)
  return jnp.sum(losses), (gradients.reshape(hidden.shape), table_gradient)


def _backward(smoothing, chunk, saved, cotangent):
  del smoothing, chunk
  hidden_gradient, table_gradient = saved
  return cotangent * hidden_gradient, cotangent * table_gradient, None, None


cross_entropy.defvjp(_forward, _backward)


def _split(chunk, *arrays):
  positions = arrays[0].shape[0]
  chunk = min(chunk, positions)
  if positions % chunk:
    raise ValueError(
      f'chunk={chunk} must divide the {positions} positions of the batch; '
      f'choose a divisor, or {positions} for all at once'
    )
  return tuple(a.reshape(-1, chunk, *a.shape[1:]) for a in arrays)
