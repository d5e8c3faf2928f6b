"""What both translation models share: packed rows, dropout, embeddings.

A row holds several sentences one after another. `segments` counts them along
the row, 1, 2, ..., and is 0 where the row is empty. Positions and masks are
computed from it.
"""

from typing import NamedTuple

import flax.nnx as nnx
import jax
import jax.numpy as jnp


class Past(NamedTuple):
  """What `advance` needs to know of the tokens before the one it decodes.

  A row has several hypotheses, which share their beginnings. Each token of each
  of them is stored once, in a column of the cache; no entry is ever moved.

  Attributes:
    position: [rows] of int32: how many tokens were before.
    column: int32: of the cache, where this token is stored.
    path: [rows, beam, columns] of int32: which hypothesis's entry in a column
      belongs to this one, this token's included; -1 if none does.
  """

  position: jax.Array
  column: jax.Array
  path: jax.Array

  @property
  def mask(self) -> jax.Array:
    """Attention mask [rows, beam, columns, beam]: the last are the entries."""
    shape = *self.path.shape, self.path.shape[1]
    entries = jax.lax.broadcasted_iota(jnp.int32, shape, 3)
    return self.path[..., None] == entries

  @property
  def parents(self) -> jax.Array:
    """Which hypothesis each continues: [rows, beam]; any at the beginning."""
    last = jnp.take(self.path, self.column - 1, axis=2, mode='wrap')
    return jnp.maximum(last, 0)


def starts(segments: jax.Array) -> jax.Array:
  """Mark the first position of every segment, [..., length] of bool."""
  before = jnp.pad(segments, [(0, 0)] * (segments.ndim - 1) + [(1, 0)])
  return segments != before[..., :-1]


def positions(segments: jax.Array) -> jax.Array:
  """The position of each token in its own segment, from 0, int32."""
  index = jax.lax.broadcasted_iota(jnp.int32, segments.shape, segments.ndim - 1)
  first = jnp.where(starts(segments), index, 0)
  return index - jax.lax.cummax(first, axis=first.ndim - 1)


def shift(tokens: jax.Array, segments: jax.Array, first: int) -> jax.Array:
  """Decoder inputs: each segment's tokens shifted by one, after `first`."""
  return jnp.where(starts(segments), first, jnp.roll(tokens, 1, axis=-1))


def same_segment(queries: jax.Array, keys: jax.Array) -> jax.Array:
  """Attention mask of packed rows: [rows, queries, keys] of bool.

  Padding attends to padding, so that no query is without keys; no token attends
  to padding.
  """
  return queries[:, :, None] == keys[:, None, :]


def sinusoids(length: int, size: int) -> jax.Array:
  """Sinusoidal positions of Vaswani et al. (2017), section 3.5: [length, size].

  sin(p / 10000^(2i/size)) in the first half of the columns, the cosine in the
  second. Their order makes no difference to the model.
  """
  rate = 10000.0 ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
  angle = jnp.outer(jnp.arange(length, dtype=jnp.float32), rate)
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def _mix(bits: jax.Array) -> jax.Array:
  """A bijective hash of 32-bit words: two multiplications, three shifts.

  It costs far less than a cryptographic generator, and XLA fuses it into the
  operation that reads it, so that random bits are never stored.
  """
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x21F0AAAD)
  bits = (bits ^ (bits >> 15)) * jnp.uint32(0x735A2D97)
  return bits ^ (bits >> 15)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
  """Zero each element with probability `rate`, and scale up the others.

  Args:
    x: any shape.
    rate: probability of zeroing, 0 <= rate < 1.
    key: a typed key; None switches dropout off, for evaluation.
  """
  if key is None or rate == 0:
    return x
  words = jax.random.key_data(key).astype(jnp.uint32)
  count = jax.lax.iota(jnp.uint32, x.size).reshape(x.shape)
  bits = _mix(_mix(count ^ words[0]) + words[-1])
  keep = bits >= jnp.uint32(round(rate * 2**32))
  return jnp.where(keep, x * (1 / (1 - rate)), 0)


class Embedding(nnx.Module):
  """One table for source, target and output: [vocabulary, size]."""

  def __init__(self, vocabulary: int, size: int, *, rngs: nnx.Rngs) -> None:
    table = jax.random.normal(rngs.params(), (vocabulary, size)) * size**-0.5
    self.table = nnx.Param(table)

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Rows of the table, scaled by sqrt(size) as Vaswani et al. (2017)."""
    table = self.table[...]
    return jnp.take(table, tokens, axis=0) * table.shape[1] ** 0.5
