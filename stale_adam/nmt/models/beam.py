"""Beam search, compiled and batched, with scores normalised by length."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stale_adam.nmt.data.vocabulary import BOS, EOS

_NEVER = -1e9  # Log-probability of what cannot be chosen.


class _Beam(NamedTuple):
  """A search over [sentences, beam] hypotheses, after `position` tokens."""

  position: jax.Array
  tokens: jax.Array  # [sentences, beam, length]: the open hypotheses.
  scores: jax.Array  # [sentences, beam]: their log-probabilities.
  done: jax.Array  # [sentences]: number of closed hypotheses.
  best_tokens: jax.Array  # [sentences, length]: the best closed hypothesis,
  best_score: jax.Array  # [sentences]: and its normalised score.
  cache: Any  # The model's; leaves begin with an axis of sentences x beam.


def search(
  model: Any,
  source: jax.Array,
  segments: jax.Array,
  beam: int,
  length: int,
  normalization: float = 0.6,
) -> jax.Array:
  """Search the best translation y of each sentence x.

    log p(y | x) / |y|^normalization

  |y| counts EOS. At every position the best `beam` continuations are kept, less
  the number already closed by EOS. A sentence is finished when `beam`
  hypotheses are closed; at `length` tokens the open ones are closed, too. A
  beam of 1 is greedy search.

  Args:
    model: with `encode`, `start`, `advance` and an `embedding`.
    source: [sentences, source length] of int32, one sentence per row.
    segments: of the same shape: 1 where there is a token, else 0.
    beam: hypotheses per sentence.
    length: the largest number of tokens of a translation.
    normalization: exponent of the length; 0 for none.

  Returns:
    [sentences, length] of int32; EOS ends a sentence, unless it was cut off.

  Source: Marian, where a closed hypothesis gives up its place in the beam.
  """
  sentences = source.shape[0]
  constant, cache = model.start(
    model.encode(source, segments), segments, length
  )
  repeat = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, beam, 0), tree)
  constant, cache = repeat(constant), repeat(cache)
  table = model.embedding.table[...]
  only_first = jnp.where(jnp.arange(beam) == 0, 0.0, _NEVER)
  state = _Beam(
    position=jnp.int32(0),
    tokens=jnp.full((sentences, beam, length), EOS, jnp.int32),
    scores=jnp.broadcast_to(only_first, (sentences, beam)),
    # An empty row is finished from the start, so that no other waits for it.
    done=jnp.where(jnp.any(segments > 0, axis=1), 0, beam),
    best_tokens=jnp.full((sentences, length), EOS, jnp.int32),
    best_score=jnp.full(sentences, -jnp.inf),
    cache=cache,
  )

  def advance(state: _Beam) -> _Beam:
    before = jnp.where(
      state.position == 0, BOS, state.tokens[:, :, state.position - 1]
    )
    cache, hidden = model.advance(
      constant, state.cache, before.reshape(-1), state.position
    )
    logs = jax.nn.log_softmax(hidden @ table.T).reshape(sentences, beam, -1)
    return _extend(state._replace(cache=cache), logs, normalization)

  going = lambda s: (s.position < length) & jnp.any(s.done < beam)
  state = jax.lax.while_loop(going, advance, state)
  return state.best_tokens


def _extend(state: _Beam, logs: jax.Array, normalization: float) -> _Beam:
  """Add one token to every hypothesis, given the log-probabilities."""
  sentences, beam, vocabulary = logs.shape
  # The best of all are among the best of each, so two small sorts suffice.
  each, pieces = jax.lax.top_k(logs, min(beam, vocabulary))
  each = (state.scores[:, :, None] + each).reshape(sentences, -1)
  scores, at = jax.lax.top_k(each, beam)
  parents = at // pieces.shape[-1]
  pieces = jnp.take_along_axis(pieces.reshape(sentences, -1), at, axis=1)
  tokens = jnp.take_along_axis(state.tokens, parents[:, :, None], axis=1)
  tokens = tokens.at[:, :, state.position].set(pieces)

  # Closed hypotheses give up their places in the beam.
  allowed = jnp.arange(beam)[None] < beam - state.done[:, None]
  scores = jnp.where(allowed, scores, _NEVER)
  real = scores > _NEVER / 2
  count = state.position + 1
  last = count == tokens.shape[-1]
  closed = real & ((pieces == EOS) | last)
  normal = scores / count.astype(scores.dtype) ** normalization
  normal = jnp.where(closed, normal, -jnp.inf)
  best = jnp.argmax(normal, axis=1)
  score = jnp.take_along_axis(normal, best[:, None], axis=1)[:, 0]
  better = score > state.best_score
  winner = jnp.take_along_axis(tokens, best[:, None, None], axis=1)[:, 0]

  rows = (jnp.arange(sentences)[:, None] * beam + parents).reshape(-1)
  return _Beam(
    position=count,
    tokens=tokens,
    scores=jnp.where(closed, _NEVER, scores),
    done=state.done + jnp.sum(closed, axis=1),
    best_tokens=jnp.where(better[:, None], winner, state.best_tokens),
    best_score=jnp.where(better, score, state.best_score),
    cache=jax.tree.map(lambda x: x[rows], state.cache),
  )
