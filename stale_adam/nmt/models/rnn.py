"""The deep-transition recurrent model of Barone et al. (2017), as in Marian."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp

from stale_adam.nmt.models import layers
from stale_adam.nmt.models.recurrence import Normed, Weights, recur

Linear = Callable[[jax.Array], jax.Array]
Masks = Sequence[jax.Array | None]


def _transit(
  linear: Linear, state: jax.Array, fed: jax.Array, masks: Masks
) -> jax.Array:
  """A transition: several GRU cells, of which only the first has an input.

    z, r = sigmoid(U s + b + W x),  s <- (1 - z) tanh(r (U s + b) + W x) + z s

  Args:
    linear: returns U s + b, [rows, 3 hidden] for z, r and the candidate.
    state: s, [rows, hidden].
    fed: W x, [rows, 3 hidden].
    masks: dropout masks of U's input, one per cell.
  """
  first: list[Any] = jnp.split(fed, 3, axis=-1)
  for cell, mask in enumerate(masks):
    own = jnp.split(linear(_drop(state, mask)), 3, axis=-1)
    x = [0.0] * 3 if cell else first
    update, reset = (jax.nn.sigmoid(own[i] + x[i]) for i in range(2))
    candidate = jnp.tanh(reset * own[2] + x[2])
    state = candidate + update * (state - candidate)
  return state


def _read(
  linear: Linear, constants: Any, states: Any, inputs: Any
) -> tuple[Any, Any]:
  """One position of the encoder, in both directions: a body for `recur`."""
  fed, begins = inputs
  states = [
    _transit(linear, jnp.where(begin[:, None], 0.0, state), x, masks)
    for state, x, begin, masks in zip(
      states, fed, begins, constants[1], strict=True
    )
  ]
  return states, states


def _write(
  linear: Linear, constants: Any, state: jax.Array, inputs: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """One position of the decoder: a body for `recur`."""
  (keys, memory, energy), (query_mask, context_mask, *masks) = constants
  (initial, fed), (begin, allowed) = inputs
  state = jnp.where(begin[..., None], initial, state)
  state = _transit(linear, state, fed, masks[:1])
  query = linear(_drop(state, query_mask))
  scores = jnp.tanh(keys + query[..., None, :]) @ energy
  weights = jax.nn.softmax(jnp.where(allowed, scores, -1e9), axis=-1)
  context = jnp.einsum('r...s,rsh->r...h', weights, memory)
  fed = linear(_drop(context, context_mask))
  state = _transit(linear, state, fed, masks[1:])
  return state, (state, context)


class Rnn(nnx.Module):
  """Bidirectional encoder, decoder with attention, one tied embedding table.

  A transition is several GRU cells at one position. In the encoder the first
  cell takes the embedding. In the decoder the first cell takes the previous
  embedding, its state is the query of additive attention to the source, and the
  second cell takes the context. The decoder's initial state is tanh(W mean of
  memory). Its state s, previous embedding y and context c give
  tanh(W s + W' y + W'' c).

  Every linear map is layer-normalised before it is added to others, with a
  scale of its own, over all its outputs (a GRU's three gates together): U s and
  W x of each cell, attention's key and query, the initial state, and the three
  maps of the output.

  Args:
    vocabulary: number of pieces.
    size: width of the embeddings.
    hidden: width of the state; memory is twice as wide.
    encoder_depth: cells in a transition of the encoder, at least 1.
    decoder_depth: cells in a transition of the decoder, at least 2.
    dropout: probability at the embeddings and at the inputs of U, of attention
      and of the context's map. As with Marian's --dropout-rnn all positions of
      a row share a mask, and so do the sentences packed into it.
    rngs: seeds of the parameters.

  Raises:
    ValueError: if a depth is too small.

  Source: Barone et al. (2017), "Deep architectures for neural machine
    translation"; Sennrich et al. (2017), the Edinburgh system of WMT17; the
    paper's section 4.1. Marian adds the bias b to the candidate after r in the
    encoder and in the decoder's first cell; here r multiplies it everywhere, as
    in Marian's other cells.
  """

  def __init__(
    self,
    vocabulary: int,
    size: int,
    hidden: int,
    encoder_depth: int,
    decoder_depth: int,
    dropout: float,
    *,
    rngs: nnx.Rngs,
  ) -> None:
    if encoder_depth < 1 or decoder_depth < 2:
      raise ValueError(
        f'encoder_depth={encoder_depth}, decoder_depth={decoder_depth}: use at '
        "least 1 and at least 2; the decoder's second cell takes the context"
      )
    normed = functools.partial(Normed, rngs=rngs)
    fed = lambda inputs: normed(inputs, (2 * hidden, hidden), False)
    cells = lambda depth: nnx.List(
      [normed(hidden, (2 * hidden, hidden), True) for _ in range(depth)]
    )
    self.dropout = dropout
    self.embedding = layers.Embedding(vocabulary, size, rngs=rngs)
    self.source = nnx.List([fed(size), fed(size)])
    self.encoder = nnx.List([cells(encoder_depth), cells(encoder_depth)])
    self.begin = normed(2 * hidden, (hidden,), True)
    self.target = fed(size)
    self.key = normed(2 * hidden, (2 * hidden,), True)
    self.query = normed(hidden, (2 * hidden,), False)
    glorot = jax.nn.initializers.glorot_uniform()
    self.energy = nnx.Param(glorot(rngs.params(), (2 * hidden, 1))[:, 0])
    self.context = fed(2 * hidden)
    self.decoder = cells(decoder_depth)
    self.out = nnx.List(
      [
        normed(hidden, (size,), True),
        normed(size, (size,), False),
        normed(2 * hidden, (size,), False),
      ]
    )

  def encode(
    self,
    source: jax.Array,
    segments: jax.Array,
    key: jax.Array | None = None,
  ) -> jax.Array:
    """Encode the source.

    Args:
      source: tokens, [rows, length] of int32.
      segments: [rows, length] of int32.
      key: for dropout, or None.

    Returns:
      The memory, [rows, length, 2 hidden].
    """
    rows, size = source.shape[0], self.embedding.table.shape[1]
    hidden, depth = self.decoder[0].matrix.shape[0], len(self.encoder[0])
    mask, *masks = self._masks(key, rows, [size] + [hidden] * (2 * depth))
    x = _drop(self.embedding(source.T), mask, 0)
    begins = [layers.starts(s).T for s in (segments, segments[:, ::-1])]
    fed = [self.source[0](x), self.source[1](x)[::-1]]
    maps = [cell.weights() for cells in self.encoder for cell in cells]
    constants = (), [masks[:depth], masks[depth:]]
    zeros = [jnp.zeros((rows, hidden))] * 2
    states = recur(_read, maps, constants, zeros, (fed, begins))[1]
    memory = jnp.concatenate([states[0], states[1][::-1]], axis=-1)
    return memory.swapaxes(0, 1)

  def decode(
    self,
    memory: jax.Array,
    source_segments: jax.Array,
    inputs: jax.Array,
    segments: jax.Array,
    key: jax.Array | None = None,
  ) -> jax.Array:
    """Decode all positions at once, given all `inputs`.

    Args:
      memory: of `encode`, [rows, source length, 2 hidden].
      source_segments: [rows, source length] of int32.
      inputs: target tokens shifted by one, after BOS, [rows, length] of int32.
      segments: [rows, length] of int32.
      key: for dropout, or None.

    Returns:
      [rows, length, size]; the product with the embedding table is the logits
      of the next token.
    """
    rows, size = inputs.shape[0], self.embedding.table.shape[1]
    hidden, depth = self.decoder[0].matrix.shape[0], len(self.decoder)
    widths = [size, 2 * hidden, hidden, 2 * hidden, *[hidden] * depth]
    mask, key_mask, *masks = self._masks(key, rows, widths)
    x = _drop(self.embedding(inputs.T), mask, 0)
    same = layers.same_segment(segments, source_segments)
    initial = self._initial(memory, same).swapaxes(0, 1)
    keys = self.key(_drop(memory, key_mask, 1))
    constants = (keys, memory, self.energy[...]), masks
    fixed = layers.starts(segments).T, same.swapaxes(0, 1)
    states, contexts = recur(
      _write,
      self._maps(),
      constants,
      jnp.zeros((rows, hidden)),
      ((initial, self.target(x)), fixed),
    )[1]
    return self._output(states, x, contexts).swapaxes(0, 1)

  def start(self, memory: jax.Array, source_segments: jax.Array) -> Any:
    """What depends on the source only; leaves begin with an axis of rows."""
    real = source_segments > 0
    initial = self._initial(memory, real[:, None])
    return self.key(memory)[:, None], memory, real[:, None], initial

  def room(
    self, constant: Any, rows: int, beam: int, columns: int
  ) -> jax.Array:
    """A cache for tokens that are decoded one by one: a state each.

    Args:
      constant: of `start`.
      rows: sentences at a time.
      beam: hypotheses of each.
      columns: not used: a state is as large after many tokens as after one.

    Returns:
      [rows, beam, hidden].
    """
    del columns
    initial = constant[-1]
    return jnp.zeros((rows, beam, initial.shape[-1]), initial.dtype)

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
    keys, memory, real, initial = constant
    before = jnp.take_along_axis(cache, past.parents[..., None], axis=1)
    x = self.embedding(tokens)
    # One position of `recur`.
    masks = [None] * (2 + len(self.decoder))
    constants = (keys, memory, self.energy[...]), masks
    begins = past.position[:, None] == 0
    fed = (initial[None], self.target(x)[None]), (begins[None], real[None])
    state, (_, context) = recur(_write, self._maps(), constants, before, fed)
    return state, self._output(state, x, context[0])

  def _maps(self) -> list[Weights]:
    first, *rest = self.decoder
    return [m.weights() for m in (first, self.query, self.context, *rest)]

  def _initial(self, memory: jax.Array, of: jax.Array) -> jax.Array:
    """tanh(W mean of memory where `of`), `of` [rows, positions, length]."""
    count = jnp.maximum(jnp.sum(of, axis=-1, keepdims=True), 1)
    return jnp.tanh(self.begin((of / count) @ memory))

  def _output(
    self, states: jax.Array, x: jax.Array, contexts: jax.Array
  ) -> jax.Array:
    parts = zip(self.out, (states, x, contexts), strict=True)
    return jnp.tanh(sum(part(value) for part, value in parts))

  def _masks(
    self, key: jax.Array | None, rows: int, widths: Sequence[int]
  ) -> list[jax.Array | None]:
    if key is None:
      return [None] * len(widths)
    keys = jax.random.split(key, len(widths))
    return [
      layers.dropout(jnp.ones((rows, width)), self.dropout, key)
      for width, key in zip(widths, keys, strict=True)
    ]


def _drop(
  x: jax.Array, mask: jax.Array | None, axes: int | Sequence[int] = ()
) -> jax.Array:
  """`x` times a mask, if there is one; `axes` share it."""
  return x if mask is None else x * jnp.expand_dims(mask, axes)
