"""Beam search, compiled, with scores normalised by length.

A batch has few rows, and a row translates one sentence after another: as soon
as some rows are free they take the next sentences. So a long translation keeps
only its own row.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stale_adam.nmt.data.vocabulary import BOS, EOS
from stale_adam.nmt.models.layers import Past

_NEVER = -1e9  # Log-probability of what cannot be chosen.
_SHARE = 8  # Free rows are filled when they are one in so many.


class _Rows(NamedTuple):
  """Rows of `beam` hypotheses; every row has a sentence of its own.

  All rows store their tokens in the same column, and the columns are a ring: a
  row begins where the ring is.
  """

  column: jax.Array  # Where the next token is stored.
  sentence: jax.Array  # [rows]; past the last one if a row has none.
  position: jax.Array  # [rows]: tokens since the row began.
  tokens: jax.Array  # [rows, beam, columns]: the open hypotheses,
  path: jax.Array  # and where the cache has them; see `Past`.
  scores: jax.Array  # [rows, beam]: their log-probabilities.
  done: jax.Array  # [rows]: number of closed hypotheses.
  best_tokens: jax.Array  # [rows, columns]: the best closed hypothesis,
  best_score: jax.Array  # [rows]: and its normalised score.
  cache: Any  # The model's.

  @property
  def free(self) -> jax.Array:
    """Which rows have nothing to do: [rows] of bool."""
    _, beam, columns = self.tokens.shape
    return (self.done >= beam) | (self.position >= columns)

  @property
  def found(self) -> jax.Array:
    """The best closed hypotheses, from their first tokens: [rows, columns]."""
    columns = self.best_tokens.shape[1]
    at = (self.column - self.position)[:, None] + jnp.arange(columns)[None]
    return jnp.take_along_axis(self.best_tokens, at % columns, axis=1)


def search(
  model: Any,
  source: jax.Array,
  segments: jax.Array,
  beam: int,
  length: int,
  rows: int,
  normalization: float = 0.6,
) -> jax.Array:
  """Search the best translation y of each sentence x.

    log p(y | x) / |y|^normalization

  |y| counts EOS. At every position the best `beam` continuations are kept, less
  the number already closed by EOS. A sentence is finished when `beam`
  hypotheses are closed; at `length` tokens the open ones are closed, too. A
  beam of 1 is greedy search.

  Args:
    model: with `encode`, `start`, `room`, `advance` and an `embedding`.
    source: [sentences, source length] of int32.
    segments: of the same shape: 1 where there is a token, else 0.
    beam: hypotheses per sentence.
    length: the largest number of tokens of a translation.
    rows: sentences that are translated at a time; it affects speed only.
    normalization: exponent of the length; 0 for none.

  Returns:
    [sentences, length] of int32; EOS ends a sentence, unless it was cut off.

  Source: Marian, where a closed hypothesis gives up its place in the beam.
  """
  sentences = source.shape[0]
  rows = min(rows, sentences)
  known = _encoded(model, source, segments, rows)
  empty = jnp.all(segments == 0, axis=1)
  table = model.embedding.table[...]
  own = jnp.broadcast_to(jnp.arange(beam, dtype=jnp.int32), (rows, beam))

  def advance(constant: Any, state: _Rows) -> _Rows:
    last = jnp.take(state.tokens, state.column - 1, axis=2, mode='wrap')
    last = jnp.where(state.position[:, None] == 0, BOS, last)
    path = _put(state.path, own, state.column)
    past = Past(state.position, state.column, path)
    cache, hidden = model.advance(constant, state.cache, last, past)
    logits = jnp.matmul(hidden, table.T, preferred_element_type=jnp.float32)
    state = state._replace(cache=cache, path=path)
    return _extend(state, logits, normalization)

  def turn(carry: tuple[Any, Any, _Rows]) -> tuple[Any, Any, _Rows]:
    """Fills the free rows, and goes on until enough rows are free again."""
    following, results, state = carry
    results = results.at[state.sentence].set(state.found, mode='drop')
    following, state = _fill(following, state, empty)
    at = jnp.minimum(state.sentence, sentences - 1)
    constant = jax.tree.map(lambda x: x[at], known)

    def going(state: _Rows) -> jax.Array:
      free = jnp.sum(state.free)
      few = free < max(1, rows // _SHARE)
      return (free < rows) & (few | (following >= sentences))

    further = lambda state: advance(constant, state)
    return following, results, jax.lax.while_loop(going, further, state)

  cache = model.room(known, rows, beam, length)
  results = jnp.full((sentences, length), EOS, jnp.int32)
  begin = jnp.int32(0), results, _idle(rows, beam, length, sentences, cache)
  left = lambda carry: (carry[0] < sentences) | ~jnp.all(carry[2].free)
  _, results, state = jax.lax.while_loop(left, turn, begin)
  return results.at[state.sentence].set(state.found, mode='drop')


def _encoded(
  model: Any, source: jax.Array, segments: jax.Array, rows: int
) -> Any:
  """What `model.start` makes of all sentences, `rows` of them at a time."""
  sentences = source.shape[0]
  parts = -(-sentences // rows)

  def split(x: jax.Array) -> jax.Array:
    full = jnp.pad(x, [(0, parts * rows - sentences), (0, 0)])
    return full.reshape(parts, rows, -1)

  known = jax.lax.map(
    lambda part: model.start(model.encode(*part), part[1]),
    (split(source), split(segments)),
  )
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), known)


def _idle(
  rows: int, beam: int, columns: int, sentences: int, cache: Any
) -> _Rows:
  """Rows of which none has a sentence yet."""
  shape = rows, beam, columns
  return _Rows(
    column=jnp.int32(0),
    sentence=jnp.full(rows, sentences, jnp.int32),
    position=jnp.zeros(rows, jnp.int32),
    tokens=jnp.full(shape, EOS, jnp.int32),
    path=jnp.full(shape, -1, jnp.int32),
    scores=jnp.zeros((rows, beam)),
    done=jnp.full(rows, beam, jnp.int32),
    best_tokens=jnp.full((rows, columns), EOS, jnp.int32),
    best_score=jnp.full(rows, -jnp.inf),
    cache=cache,
  )


def _fill(
  following: jax.Array, state: _Rows, empty: jax.Array
) -> tuple[jax.Array, _Rows]:
  """Free rows begin with the sentences from `following` on."""
  (rows, beam, columns), sentences = state.tokens.shape, empty.size
  free = state.free
  new = following + jnp.cumsum(free, dtype=jnp.int32) - 1
  sentence = jnp.where(free, new, state.sentence)
  # Behind the last sentence every row is finished from the start.
  finished = jnp.take(empty, sentence, mode='fill', fill_value=True)
  fresh = _idle(rows, beam, columns, sentences, state.cache)
  only_first = jnp.where(jnp.arange(beam) == 0, 0.0, _NEVER)
  fresh = fresh._replace(
    column=state.column,
    sentence=sentence,
    scores=jnp.broadcast_to(only_first, (rows, beam)),
    done=jnp.where(finished, beam, 0),
  )

  def begin(old: jax.Array, new: jax.Array) -> jax.Array:
    return jnp.where(jnp.expand_dims(free, range(1, new.ndim)), new, old)

  # The cache stays as it is: no path leads to what is in it.
  kept = {'column': state.column, 'cache': state.cache}
  changed = {
    name: begin(old, new)
    for (name, old), new in zip(state._asdict().items(), fresh, strict=True)
    if name not in kept
  }
  return following + jnp.sum(free), _Rows(**changed, **kept)


def _extend(state: _Rows, logits: jax.Array, normalization: float) -> _Rows:
  """Add one token to every hypothesis: logits [rows, beam, vocabulary]."""
  rows, beam, vocabulary = logits.shape
  # The best of all are among the best of each, so two small sorts suffice.
  each, pieces = jax.lax.top_k(logits, min(beam, vocabulary))
  each -= jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  each = (state.scores[:, :, None] + each).reshape(rows, -1)
  scores, at = jax.lax.top_k(each, beam)
  parents = at // pieces.shape[-1]
  pieces = jnp.take_along_axis(pieces.reshape(rows, -1), at, axis=1)
  follow = lambda x: jnp.take_along_axis(x, parents[:, :, None], axis=1)
  tokens = _put(follow(state.tokens), pieces, state.column)

  # Closed hypotheses give up their places in the beam.
  allowed = jnp.arange(beam)[None] < beam - state.done[:, None]
  scores = jnp.where(allowed, scores, _NEVER)
  real = scores > _NEVER / 2
  count, columns = state.position + 1, tokens.shape[-1]
  closed = real & ((pieces == EOS) | (count == columns)[:, None])
  normal = scores / count[:, None].astype(scores.dtype) ** normalization
  normal = jnp.where(closed, normal, -jnp.inf)
  best = jnp.argmax(normal, axis=1)
  score = jnp.take_along_axis(normal, best[:, None], axis=1)[:, 0]
  better = score > state.best_score
  winner = jnp.take_along_axis(tokens, best[:, None, None], axis=1)[:, 0]
  return state._replace(
    column=(state.column + 1) % columns,
    position=count,
    tokens=tokens,
    path=follow(state.path),
    scores=jnp.where(closed, _NEVER, scores),
    done=state.done + jnp.sum(closed, axis=1),
    best_tokens=jnp.where(better[:, None], winner, state.best_tokens),
    best_score=jnp.where(better, score, state.best_score),
  )


def _put(x: jax.Array, new: jax.Array, column: jax.Array) -> jax.Array:
  """`x` [rows, beam, columns] with `new` [rows, beam] in a column."""
  return jax.lax.dynamic_update_index_in_dim(x, new, column, axis=2)
