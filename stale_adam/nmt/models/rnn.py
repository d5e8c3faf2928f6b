"""The deep-transition recurrent model of Barone et al. (2017), as in Marian."""

import functools
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp

from stale_adam.nmt.models import layers
from stale_adam.nmt.models.recurrence import Normed, recur


def _transit(linear, state, fed, masks):
  """GRU cells in turn, of which the first alone is fed.

    z, r = sigmoid(U s + b + W x),  s <- (1 - z) tanh(r (U s + b) + W x) + z s

  Args:
    linear: yields U s + b, [rows, 3 hidden] for z, r and the candidate.
    state: s, [rows, hidden].
    fed: W x, [rows, 3 hidden].
    masks: dropout masks of U's input, one a cell.
  """
  for mask in masks:
    own = jnp.split(linear(_drop(state, mask)), 3, axis=-1)
    fed = [0.0] * 3 if fed is None else jnp.split(fed, 3, axis=-1)
    update, reset = (jax.nn.sigmoid(own[i] + fed[i]) for i in range(2))
    candidate = jnp.tanh(reset * own[2] + fed[2])
    state, fed = candidate + update * (state - candidate), None
  return state


def _read(linear, constants, states, inputs):
  """One position of the encoder in either direction: a body for `recur`."""
  fed, begins = inputs
  states = [
    _transit(linear, jnp.where(begin[:, None], 0.0, state), x, masks)
    for state, x, begin, masks in zip(
      states, fed, begins, constants[1], strict=True
    )
  ]
  return states, states


def _write(linear, constants, state, inputs):
  """One position of the decoder: a body for `recur`."""
  (keys, memory, energy), (query_mask, context_mask, *masks) = constants
  (initial, fed), (begin, allowed) = inputs
  state = jnp.where(begin[:, None], initial, state)
  state = _transit(linear, state, fed, masks[:1])
  query = linear(_drop(state, query_mask))
  scores = jnp.tanh(keys + query[:, None]) @ energy
  weights = jax.nn.softmax(jnp.where(allowed, scores, -1e9), axis=-1)
  context = jnp.einsum('rs,rsh->rh', weights, memory)
  fed = linear(_drop(context, context_mask))
  state = _transit(linear, state, fed, masks[1:])
  return state, (state, context)


class Rnn(nnx.Module):
  """Bidirectional encoder, attentive decoder, one tied embedding table.

  A transition is several GRU cells at one position. The encoder's takes the
  embedding into its first cell. The decoder's takes the previous embedding into
  its first cell, looks from there at the source (additive attention) and takes
  the context into its second. The decoder begins at tanh(W mean of memory), and
  its state s, previous embedding y and context c give tanh(W s + W' y + W'' c).

  Every linear map named above is normalised by itself, over all its outputs
  (the three of a GRU's gates as one) and with a scale of its own, before it is
  added to others: U s and W x of each cell, attention's key and query, the
  initial state, and the three maps of the output.

  Args:
    vocabulary: number of pieces.
    size: width of the embeddings.
    hidden: width of the state; memory is twice as wide.
    encoder_depth: cells in a transition of the encoder, at least 1.
    decoder_depth: cells in a transition of the decoder, at least 2.
    dropout: probability at the embeddings and at the inputs of U, of attention
      and of the context's map. As with Marian's --dropout-rnn a mask serves all
      positions; each row has its own, and the sentences packed into it share
      it.
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
  ):
    if encoder_depth < 1 or decoder_depth < 2:
      raise ValueError(
        f'encoder_depth={encoder_depth} must be at least 1 and decoder_depth='
        f'{decoder_depth} at least 2: its second cell takes the context'
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

  def encode(self, source, segments, key=None) -> jax.Array:
    """Args: source, segments [rows, length] of int32; key for dropout, or None.
    Returns: [rows, length, 2 hidden]."""
    rows, size = source.shape[0], self.embedding.table.shape[1]
    hidden, depth = self.decoder[0].matrix.shape[0], len(self.encoder[0])
    mask, *masks = self._masks(key, rows, [size] + [hidden] * (2 * depth))
    x = _drop(self.embedding(source.T), mask, 0)
    begins = [layers.starts(s).T for s in (segments, segments[:, ::-1])]
    fed = [self.source[0](x), self.source[1](x)[::-1]]
    maps = [cell.weights() for cells in self.encoder for cell in cells]
    masks = (), [masks[:depth], masks[depth:]]
    zeros = [jnp.zeros((rows, hidden))] * 2
    states = recur(_read, maps, masks, zeros, (fed, begins))[1]
    memory = jnp.concatenate([states[0], states[1][::-1]], axis=-1)
    return memory.swapaxes(0, 1)

  def decode(
    self, memory, source_segments, inputs, segments, key=None
  ) -> jax.Array:
    """What predicts the next token at every position, given all `inputs`.

    Args:
      memory: `encode`'s result, [rows, source length, 2 hidden].
      source_segments: [rows, source length] of int32.
      inputs: tokens shifted behind BOS, [rows, length] of int32.
      segments: [rows, length] of int32.
      key: for dropout, or None.

    Returns: [rows, length, size]; its product with the embedding table is the
      logits of the next token.
    """
    rows, size = inputs.shape[0], self.embedding.table.shape[1]
    hidden, depth = self.decoder[0].matrix.shape[0], len(self.decoder)
    widths = [size, 2 * hidden, hidden, 2 * hidden] + [hidden] * depth
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

  def start(self, memory, source_segments, length: int) -> tuple[Any, Any]:
    """Begins decoding of one sentence a row, token by token.

    Returns: (constant, cache): what depends on the source alone, and the state,
      whose size does not depend on `length`. Every leaf leads with rows.
    """
    del length
    real = source_segments > 0
    state = self._initial(memory, real[:, None])[:, 0]
    return (self.key(memory), memory, real), state

  def advance(self, constant, cache, tokens, position) -> tuple[Any, jax.Array]:
    """One more token a row: `tokens` [rows]; the state knows the `position`.

    Returns: (cache, hidden [rows, size]), equal to `decode` at that position.
    """
    del position
    keys, memory, real = constant
    x = self.embedding(tokens)
    # One position of `recur`, where no segment starts.
    masks = [None] * (2 + len(self.decoder))
    constants = (keys, memory, self.energy[...]), masks
    never = jnp.zeros((1, tokens.size), bool)
    fed = (cache[None], self.target(x)[None]), (never, real[None])
    state, (_, context) = recur(_write, self._maps(), constants, cache, fed)
    return state, self._output(state, x, context[0])

  def _maps(self):
    first, *rest = self.decoder
    return [m.weights() for m in (first, self.query, self.context, *rest)]

  def _initial(self, memory, of):
    """tanh(W mean of memory where `of`), `of` [rows, positions, length]."""
    count = jnp.maximum(jnp.sum(of, axis=-1, keepdims=True), 1)
    return jnp.tanh(self.begin((of / count) @ memory))

  def _output(self, states, x, contexts):
    parts = zip(self.out, (states, x, contexts), strict=True)
    return jnp.tanh(sum(part(value) for part, value in parts))

  def _masks(self, key, rows, widths):
    if key is None:
      return [None] * len(widths)
    keys = jax.random.split(key, len(widths))
    return [
      layers.dropout(jnp.ones((rows, width)), self.dropout, key)
      for width, key in zip(widths, keys, strict=True)
    ]


def _drop(x, mask, axes=()):
  """`x` masked, if at all, alike along `axes`."""
  return x if mask is None else x * jnp.expand_dims(mask, axes)
