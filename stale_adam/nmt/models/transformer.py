"""The Transformer of Vaswani et al. (2017): post-norm, sinusoidal positions."""

from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp

from stale_adam.nmt.models import layers


class Attention(nnx.Module):
  """Multi-head attention: softmax(Q K' / sqrt(size / heads)) V."""

  def __init__(self, size: int, heads: int, *, rngs: nnx.Rngs):
    self.heads = heads
    self.query = nnx.Linear(size, size, rngs=rngs)
    self.key_value = nnx.Linear(size, 2 * size, rngs=rngs)
    self.out = nnx.Linear(size, size, rngs=rngs)

  def remember(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys and values of `x` [rows, length, size], split into heads."""
    keys, values = jnp.split(self._split(self.key_value(x), 2), 2, axis=-2)
    return keys, values

  def __call__(self, x, keys, values, mask) -> jax.Array:
    """Args: x [rows, queries, size]; keys, values [rows, length, heads, size /
    heads]; mask [rows, queries, length] of bool. Returns as `x`."""
    queries = self._split(self.query(x), 1)
    scale = queries.shape[-1] ** -0.5
    scores = jnp.einsum('rqhd,rkhd->rhqk', queries * scale, keys)
    scores = jnp.where(mask[:, None], scores, -1e9)
    weights = jax.nn.softmax(scores, axis=-1)
    mixed = jnp.einsum('rhqk,rkhd->rqhd', weights, values)
    return self.out(mixed.reshape(x.shape))

  def _split(self, x, parts):
    rows, length, size = x.shape
    heads = parts * self.heads
    return x.reshape(rows, length, heads, size // heads)


class Residual(nnx.Module):
  """LayerNorm(x + dropout(change)): the post-norm residual connection."""

  def __init__(self, size: int, dropout: float, *, rngs: nnx.Rngs):
    self.norm = nnx.LayerNorm(size, rngs=rngs)
    self.dropout = dropout

  def __call__(self, x, change, key):
    return self.norm(x + layers.dropout(change, self.dropout, key))


class FeedForward(nnx.Module):
  """max(0, x W1 + b1) W2 + b2."""

  def __init__(self, size: int, hidden: int, *, rngs: nnx.Rngs):
    self.widen = nnx.Linear(size, hidden, rngs=rngs)
    self.narrow = nnx.Linear(hidden, size, rngs=rngs)

  def __call__(self, x):
    return self.narrow(jax.nn.relu(self.widen(x)))


class Layer(nnx.Module):
  """Self-attention, attention over the source if decoding, feed-forward."""

  def __init__(self, size, hidden, heads, dropout, decoder, *, rngs):
    residual = lambda: Residual(size, dropout, rngs=rngs)
    self.attention, self.attended = (
      Attention(size, heads, rngs=rngs),
      residual(),
    )
    if decoder:
      self.source, self.sourced = Attention(size, heads, rngs=rngs), residual()
    self.forward = FeedForward(size, hidden, rngs=rngs)
    self.forwarded = residual()

  def __call__(self, x, own, mask, source=None, source_mask=None, keys=None):
    """`own`, `source`: (keys, values) to attend to; `keys`: three for dropout,
    or None."""
    keys = (None, None, None) if keys is None else keys
    x = self.attended(x, self.attention(x, *own, mask), keys[0])
    if source is not None:
      x = self.sourced(x, self.source(x, *source, source_mask), keys[1])
    return self.forwarded(x, self.forward(x), keys[2])


class Transformer(nnx.Module):
  """Encoder and decoder with one tied embedding table.

  Args:
    vocabulary: number of pieces.
    size: width of the model.
    hidden: width of the feed-forward layers.
    heads: attention heads; divides `size`.
    depth: layers of the encoder, and of the decoder.
    dropout: probability at every residual connection and at the embeddings.
    rngs: seeds of the parameters.

  Raises:
    ValueError: if `heads` does not divide `size`.

  Source: Vaswani et al. (2017); the paper's section 4.1 ("six encoder and six
    decoder layers").
  """

  def __init__(
    self,
    vocabulary: int,
    size: int,
    hidden: int,
    heads: int,
    depth: int,
    dropout: float,
    *,
    rngs: nnx.Rngs,
  ):
    if size % heads:
      raise ValueError(
        f'size={size} must be a multiple of heads={heads}; choose heads among '
        f'the divisors of {size}'
      )
    self.dropout = dropout
    self.embedding = layers.Embedding(vocabulary, size, rngs=rngs)
    layer = lambda decoder: Layer(
      size, hidden, heads, dropout, decoder, rngs=rngs
    )
    self.encoder = nnx.List([layer(False) for _ in range(depth)])
    self.decoder = nnx.List([layer(True) for _ in range(depth)])

  def encode(self, source, segments, key=None) -> jax.Array:
    """Args: source, segments [rows, length] of int32; key for dropout, or None.
    Returns: [rows, length, size]."""
    keys = _keys(key, 3 * len(self.encoder) + 1)
    x = self._embed(source, layers.positions(segments), keys[-1])
    mask = layers.same_segment(segments, segments)
    for i, layer in enumerate(self.encoder):
      own = layer.attention.remember(x)
      x = layer(x, own, mask, keys=keys[3 * i : 3 * i + 3])
    return x

  def decode(
    self, memory, source_segments, inputs, segments, key=None
  ) -> jax.Array:
    """The decoder's last layer at every position, given all `inputs`.

    Args:
      memory: `encode`'s result, [rows, source length, size].
      source_segments: [rows, source length] of int32.
      inputs: tokens shifted behind BOS, [rows, length] of int32.
      segments: [rows, length] of int32.
      key: for dropout, or None.

    Returns: [rows, length, size]; its product with the embedding table is the
      logits of the next token.
    """
    keys = _keys(key, 3 * len(self.decoder) + 1)
    x = self._embed(inputs, layers.positions(segments), keys[-1])
    causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
    mask = layers.same_segment(segments, segments) & causal[None]
    source_mask = layers.same_segment(segments, source_segments)
    for i, layer in enumerate(self.decoder):
      own = layer.attention.remember(x)
      source = layer.source.remember(memory)
      drop = keys[3 * i : 3 * i + 3]
      x = layer(x, own, mask, source, source_mask, drop)
    return x

  def start(self, memory, source_segments, length: int) -> tuple[Any, Any]:
    """Begins decoding of one sentence a row, token by token.

    Returns: (constant, cache): what depends on the source alone, and what
      `advance` grows to `length` tokens. Every leaf leads with rows.
    """
    rows = memory.shape[0]
    source = [layer.source.remember(memory) for layer in self.decoder]
    shape = (rows, length) + source[0][0].shape[2:]
    empty = lambda: (jnp.zeros(shape), jnp.zeros(shape))
    constant = source, source_segments > 0
    return constant, [empty() for _ in self.decoder]

  def advance(self, constant, cache, tokens, position) -> tuple[Any, jax.Array]:
    """One more token a row: `tokens` [rows] at `position` (a scalar).

    Returns: (cache, hidden [rows, size]), equal to `decode` at that position.
    """
    source, source_mask = constant
    rows = tokens.shape[0]
    place = jnp.full((rows, 1), position, jnp.int32)
    length = cache[0][0].shape[1]
    x = self._embed(tokens[:, None], place, None, length)
    reached = jnp.arange(length) <= position
    mask = jnp.broadcast_to(reached, (rows, 1, reached.size))
    grown = []
    for layer, own, memory in zip(self.decoder, cache, source, strict=True):
      new = layer.attention.remember(x)
      own = tuple(
        jax.lax.dynamic_update_slice_in_dim(old, n, position, axis=1)
        for old, n in zip(own, new, strict=True)
      )
      grown.append(own)
      x = layer(x, own, mask, memory, source_mask[:, None])
    return grown, x[:, 0]

  def _embed(self, tokens, places, key, length=None):
    """`length` bounds the places: a row's, unless told otherwise."""
    x = self.embedding(tokens)
    table = layers.sinusoids(length or tokens.shape[1], x.shape[-1])
    return layers.dropout(x + table[places], self.dropout, key)


def _keys(key, count):
  return [None] * count if key is None else list(jax.random.split(key, count))
