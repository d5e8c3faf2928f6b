"""The Transformer of Vaswani et al. (2017), post-norm, with sinusoids."""

from collections.abc import Sequence
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp

from stale_adam.nmt.models import layers

Key = jax.Array | None  # For dropout; None switches it off.
Memory = tuple[jax.Array, jax.Array]  # Keys and values.


class Attention(nnx.Module):
  """Multi-head attention, softmax(Q K' / sqrt(size / heads)) V."""

  def __init__(self, size: int, heads: int, *, rngs: nnx.Rngs) -> None:
    self.heads = heads
    self.query = nnx.Linear(size, size, rngs=rngs)
    self.key_value = nnx.Linear(size, 2 * size, rngs=rngs)
    self.out = nnx.Linear(size, size, rngs=rngs)

  def remember(self, x: jax.Array) -> Memory:
    """Keys and values of `x` [rows, length, size].

    Returns:
      Both [rows, heads, size / heads, length], as products read them. So no
      token that is decoded has to transpose those of all before it.
    """
    both = self._split(self.key_value(x), 2).transpose(0, 2, 3, 1)
    keys, values = jnp.split(both, 2, axis=1)
    return keys, values

  def __call__(
    self, x: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array
  ) -> jax.Array:
    """Attend from `x` to `keys` and `values`.

    Args:
      x: [rows, queries, size].
      keys: [rows, heads, size / heads, length].
      values: likewise.
      mask: [rows, queries, length] of bool.

    Returns:
      [rows, queries, size].
    """
    queries = self._split(self.query(x), 1)
    scale = queries.shape[-1] ** -0.5
    scores = jnp.einsum('rqhd,rhdk->rhqk', queries * scale, keys)
    scores = jnp.where(mask[:, None], scores, -1e9)
    weights = jax.nn.softmax(scores, axis=-1)
    mixed = jnp.einsum('rhqk,rhdk->rqhd', weights, values)
    return self.out(mixed.reshape(x.shape))

  def _split(self, x: jax.Array, parts: int) -> jax.Array:
    rows, length, size = x.shape
    heads = parts * self.heads
    return x.reshape(rows, length, heads, size // heads)


class Residual(nnx.Module):
  """The post-norm residual connection, LayerNorm(x + dropout(change)).

  Without a norm it is the sum alone.
  """

  def __init__(
    self, size: int, dropout: float, norm: bool, *, rngs: nnx.Rngs
  ) -> None:
    if norm:
      self.norm = nnx.LayerNorm(size, rngs=rngs)
    self.normalises = norm
    self.dropout = dropout

  def __call__(self, x: jax.Array, change: jax.Array, key: Key) -> jax.Array:
    x = x + layers.dropout(change, self.dropout, key)
    return self.norm(x) if self.normalises else x


class FeedForward(nnx.Module):
  """The feed-forward layer, max(0, x W1 + b1) W2 + b2."""

  def __init__(self, size: int, hidden: int, *, rngs: nnx.Rngs) -> None:
    self.widen = nnx.Linear(size, hidden, rngs=rngs)
    self.narrow = nnx.Linear(hidden, size, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.narrow(jax.nn.relu(self.widen(x)))


class Layer(nnx.Module):
  """Self-attention, in a decoder attention to the source, feed-forward."""

  def __init__(
    self,
    size: int,
    hidden: int,
    heads: int,
    dropout: float,
    decoder: bool,
    norm: bool,
    *,
    rngs: nnx.Rngs,
  ) -> None:
    residual = lambda: Residual(size, dropout, norm, rngs=rngs)
    self.attention = Attention(size, heads, rngs=rngs)
    self.attended = residual()
    if decoder:
      self.source = Attention(size, heads, rngs=rngs)
      self.sourced = residual()
    self.forward = FeedForward(size, hidden, rngs=rngs)
    self.forwarded = residual()

  def __call__(
    self,
    x: jax.Array,
    own: Memory,
    mask: jax.Array,
    source: tuple[jax.Array, jax.Array, jax.Array] | None = None,
    keys: Sequence[Key] = (None, None, None),
  ) -> jax.Array:
    """Apply the layer.

    Args:
      x: [rows, length, size].
      own: keys and values of self-attention.
      mask: its mask.
      source: keys, values and mask of attention to the source, in a decoder.
      keys: three, for dropout.

    Returns:
      [rows, length, size].
    """
    x = self.attended(x, self.attention(x, *own, mask), keys[0])
    if source is not None:
      x = self.sourced(x, self.source(x, *source), keys[1])
    return self.forwarded(x, self.forward(x), keys[2])


class Transformer(nnx.Module):
  """Encoder and decoder with one tied embedding table.

  A subclass without layer normalisation sets `norm`.

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

  norm = True

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
  ) -> None:
    if size % heads:
      raise ValueError(
        f'size={size} must be a multiple of heads={heads}: use a divisor of '
        f'{size}'
      )
    self.dropout = dropout
    self.embedding = layers.Embedding(vocabulary, size, rngs=rngs)
    layer = lambda decoder: Layer(
      size, hidden, heads, dropout, decoder, self.norm, rngs=rngs
    )
    self.encoder = nnx.List([layer(False) for _ in range(depth)])
    self.decoder = nnx.List([layer(True) for _ in range(depth)])

  def encode(
    self, source: jax.Array, segments: jax.Array, key: Key = None
  ) -> jax.Array:
    """Encode the source.

    Args:
      source: tokens, [rows, length] of int32.
      segments: [rows, length] of int32.
      key: for dropout, or None.

    Returns:
      The memory, [rows, length, size].
    """
    keys = _keys(key, 3 * len(self.encoder) + 1)
    positions = layers.positions(segments)
    x = self._embed(source, positions, keys[-1], source.shape[1])
    mask = layers.same_segment(segments, segments)
    for i, layer in enumerate(self.encoder):
      own = layer.attention.remember(x)
      x = layer(x, own, mask, keys=keys[3 * i : 3 * i + 3])
    return x

  def decode(
    self,
    memory: jax.Array,
    source_segments: jax.Array,
    inputs: jax.Array,
    segments: jax.Array,
    key: Key = None,
  ) -> jax.Array:
    """Decode all positions at once, given all `inputs`.

    Args:
      memory: of `encode`, [rows, source length, size].
      source_segments: [rows, source length] of int32.
      inputs: target tokens shifted by one, after BOS, [rows, length] of int32.
      segments: [rows, length] of int32.
      key: for dropout, or None.

    Returns:
      [rows, length, size]; the product with the embedding table is the logits
      of the next token.
    """
    keys = _keys(key, 3 * len(self.decoder) + 1)
    positions = layers.positions(segments)
    x = self._embed(inputs, positions, keys[-1], inputs.shape[1])
    causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
    mask = layers.same_segment(segments, segments) & causal[None]
    source_mask = layers.same_segment(segments, source_segments)
    for i, layer in enumerate(self.decoder):
      own = layer.attention.remember(x)
      source = *layer.source.remember(memory), source_mask
      x = layer(x, own, mask, source, keys[3 * i : 3 * i + 3])
    return x

  def start(self, memory: jax.Array, source_segments: jax.Array) -> Any:
    """What depends on the source only; leaves begin with an axis of rows."""
    source = [layer.source.remember(memory) for layer in self.decoder]
    return source, source_segments > 0

  def room(self, constant: Any, rows: int, beam: int, columns: int) -> Any:
    """A cache for tokens that are decoded one by one.

    Args:
      constant: of `start`.
      rows: sentences at a time.
      beam: hypotheses of each.
      columns: tokens of each.

    Returns:
      Keys and values of every layer, [rows, heads, size / heads, columns x
      beam], as attention reads them.
    """
    keys = constant[0][0][0]
    shape = (rows, *keys.shape[1:3], columns * beam)
    empty = lambda: jnp.zeros(shape, keys.dtype)
    return [(empty(), empty()) for _ in self.decoder]

  def advance(
    self, constant: Any, cache: Any, tokens: jax.Array, past: layers.Past
  ) -> tuple[Any, jax.Array]:
    """Decode one more token of every hypothesis.

    Args:
      constant: of `start`.
      cache: of `room`, or of the token before.
      tokens: [rows, beam] of int32.
      past: of the tokens.

    Returns:
      (cache, hidden [rows, beam, size]), equal to `decode` at that position.
    """
    source, source_mask = constant
    rows, beam, columns = past.path.shape
    x = self._embed(tokens, past.position[:, None], None, columns)
    mask = past.mask.reshape(rows, beam, -1)
    source_mask = jnp.broadcast_to(
      source_mask[:, None], (rows, beam, source_mask.shape[-1])
    )
    grown = []
    for layer, own, memory in zip(self.decoder, cache, source, strict=True):
      new = layer.attention.remember(x)
      own = tuple(
        jax.lax.dynamic_update_slice_in_dim(old, n, past.column * beam, axis=3)
        for old, n in zip(own, new, strict=True)
      )
      grown.append(own)
      x = layer(x, own, mask, (*memory, source_mask))
    return grown, x

  def _embed(
    self, tokens: jax.Array, positions: jax.Array, key: Key, length: int
  ) -> jax.Array:
    """Embeddings plus sinusoids of positions below `length`."""
    x = self.embedding(tokens)
    table = layers.sinusoids(length, x.shape[-1]).astype(x.dtype)
    return layers.dropout(x + table[positions], self.dropout, key)


class TFixup(Transformer):
  """A Transformer without layer normalisation, with small initial weights.

  Embeddings are normal with the variance 1 / size, matrices uniform (Xavier);
  queries and keys are divided by sqrt(2). Then, with N layers on each side,

    embeddings, and in the decoder values, outputs and feed-forward:
      times (9 N)^(-1/4)
    in the encoder values, outputs and feed-forward:  times 0.67 N^(-1/4)

  It needs no warm-up of the learning rate. Arguments are as of `Transformer`.

  Source: Huang, Perez, Ba and Volkovs (2020), "Improving Transformer
    Optimization Through Better Initialization", as in the authors' code.
  """

  norm = False

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
  ) -> None:
    super().__init__(vocabulary, size, hidden, heads, depth, dropout, rngs=rngs)
    table = self.embedding.table  # Its variance is 1 / size already.
    table[...] = (9 * depth) ** -0.25 * table[...]
    xavier = jax.nn.initializers.xavier_uniform()
    draw = lambda *shape: xavier(rngs.params(), shape)
    encoder, decoder = 0.67 * depth**-0.25, (9 * depth) ** -0.25
    for side, scale in ((self.encoder, encoder), (self.decoder, decoder)):
      for layer in side:
        source = [layer.source] if side is self.decoder else []
        for attention in (layer.attention, *source):
          attention.query.kernel[...] = 2**-0.5 * draw(size, size)
          keys, values = 2**-0.5 * draw(size, size), scale * draw(size, size)
          both = jnp.concatenate([keys, values], axis=1)
          attention.key_value.kernel[...] = both
          attention.out.kernel[...] = scale * draw(size, size)
        layer.forward.widen.kernel[...] = scale * draw(size, hidden)
        layer.forward.narrow.kernel[...] = scale * draw(hidden, size)


def _keys(key: Key, count: int) -> list[Key]:
  return [None] * count if key is None else list(jax.random.split(key, count))
