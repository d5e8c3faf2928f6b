"""Beam search against plain Python, on a model that is a table of numbers.

The toy model's logits are arbitrary: one random row for every sentence and
every history of tokens. What it remembers of the history is in its cache, so
that a search which mixes hypotheses up reads the wrong row.
"""

import functools
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stale_adam.nmt.data.vocabulary import BOS, EOS
from stale_adam.nmt.models import beam as beam_lib

VOCABULARY, LENGTH = 5, 4
HISTORIES = (VOCABULARY + 1) ** LENGTH
SENTENCES = 6


def history(before, token):
  """The index of history `before` with one more token; 0 is the empty one."""
  return (VOCABULARY + 1) * before + 1 + token


class Toy:
  """Logits [kinds, histories, vocabulary]; a source's first token is its kind.

  The search wants hidden states and an embedding: the logits, and identity.
  """

  def __init__(self, logits):
    self.logits = logits
    self.embedding = types.SimpleNamespace(table=jnp.eye(logits.shape[-1]))

  def encode(self, source, segments):
    return source[:, 0]

  def start(self, memory, segments):
    return memory

  def room(self, constant, rows, beam, columns):
    zeros = lambda *shape: jnp.full(shape, -1, jnp.int32)
    return {'state': zeros(rows, beam), 'stored': zeros(rows, columns, beam)}

  def advance(self, constant, cache, tokens, past):
    begins = past.position[:, None] == 0
    state = jnp.take_along_axis(cache['state'], past.parents, axis=1)
    state = jnp.where(begins, 0, history(state, tokens))
    stored = cache['stored'].at[:, past.column].set(tokens)
    # The first token that the model is given is the beginning of the sentence.
    right = (tokens == BOS) | ~begins
    # The same history, of what was stored: each path's entries in their order.
    columns = past.path.shape[-1]
    again = jnp.zeros_like(state)
    for i in reversed(range(columns)):
      at = (past.column - i) % columns
      entry = jnp.take_along_axis(stored[:, at], past.path[:, :, at], axis=1)
      after = past.position[:, None] > i
      again = jnp.where(after, history(again, entry), again)
      known = past.mask[:, :, at].any(axis=-1)
      right &= known == (past.position[:, None] >= i)
    right &= state == again
    hidden = self.logits[constant[:, None], state]
    hidden = jnp.where(right[..., None], hidden, jnp.nan)
    return {'state': state, 'stored': stored}, hidden


@functools.partial(jax.jit, static_argnums=(2, 3, 5))
def _search(logits, kinds, beam, length, normalization, rows):
  source = kinds[:, None]
  return beam_lib.search(
    *(Toy(logits), source, (source >= 0).astype(jnp.int32)),
    *(beam, length, rows, normalization),
  )


def search(logits, beam, normalization=0.6, kinds=None, length=LENGTH, rows=4):
  """Translations as tuples, each up to and with its EOS; kind -1 is empty."""
  kinds = np.arange(len(logits)) if kinds is None else np.array(kinds)
  found = _search(
    logits.astype(np.float32),
    kinds.astype(np.int32),
    beam,
    length,
    normalization,
    rows,
  )
  assert found.shape == (len(kinds), length)
  return [closed(tuple(row)) for row in np.asarray(found).tolist()]


def closed(tokens):
  return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


def toy_logits(seed):
  draw = np.random.default_rng(seed)
  return draw.normal(size=(SENTENCES, HISTORIES, VOCABULARY)) * 1.5


def log_probabilities(logits):
  """[histories, vocabulary] of one sentence."""
  return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def index(tokens):
  return functools.reduce(history, tokens, 0)


def total(logs, tokens):
  """log p of a translation."""
  return sum(logs[index(tokens[:i]), t] for i, t in enumerate(tokens))


def exhaustive(logits, normalization):
  """The best of all translations of at most LENGTH tokens."""
  logs = log_probabilities(logits)
  every = itertools.product(range(VOCABULARY), repeat=LENGTH)
  every = {closed(tokens) for tokens in every}
  score = lambda tokens: total(logs, tokens) / len(tokens) ** normalization
  return max(every, key=score)


def by_the_book(logits, beam, normalization):
  """What the docstring of `search` says, with lists."""
  logs = log_probabilities(logits)
  hypotheses, finished = [((), 0.0)], []
  for length in range(1, LENGTH + 1):
    places = beam - len(finished)
    grown = [
      ((*tokens, token), score + logs[index(tokens), token])
      for tokens, score in hypotheses
      for token in range(VOCABULARY)
    ]
    grown = sorted(grown, key=lambda h: -h[1])[:places]
    ends = lambda h, last=length == LENGTH: last or h[0][-1] == EOS
    finished += filter(ends, grown)
    hypotheses = list(itertools.filterfalse(ends, grown))
  return max(finished, key=lambda h: h[1] / len(h[0]) ** normalization)[0]


def greedy(logits):
  tokens = ()
  while len(tokens) < LENGTH and EOS not in tokens:
    tokens += (int(logits[index(tokens)].argmax()),)
  return tokens


@pytest.mark.slow
@pytest.mark.parametrize('normalization', [0.0, 0.6, 1.0])
def test_a_beam_for_everything_finds_the_best_of_all(normalization):
  # 4^t hypotheses stay open at length t; each closed one keeps its place.
  enough = sum(4**t for t in range(LENGTH)) + 4**LENGTH
  for seed in range(5):
    logits = toy_logits(seed)
    expected = [exhaustive(table, normalization) for table in logits]
    assert search(logits, enough, normalization) == expected


@pytest.mark.slow
@pytest.mark.parametrize('beam', [1, 2, 3, 4, 7])
def test_a_beam_does_what_its_docstring_says(beam):
  lengths = set()
  for seed, normalization in itertools.product(range(12), (0.0, 0.6, 1.5)):
    logits = toy_logits(seed)
    expected = [by_the_book(table, beam, normalization) for table in logits]
    assert search(logits, beam, normalization) == expected
    lengths |= {len(tokens) for tokens in expected}
  assert lengths == {1, 2, 3, 4}


@pytest.mark.slow
def test_beams_differ():
  # Otherwise the test above could not tell one beam from another.
  found = {}
  for beam, seed in itertools.product([1, 2, 4], range(12)):
    found.setdefault(beam, []).append(search(toy_logits(seed), beam))
  assert found[1] != found[2] != found[4] != found[1]


def test_a_beam_of_one_is_greedy():
  for seed in range(20):
    logits = toy_logits(seed)
    assert search(logits, 1) == [greedy(table) for table in logits]


@pytest.mark.parametrize('beam', [1, 3])
def test_a_sentence_does_not_depend_on_its_neighbours(beam):
  logits = toy_logits(3)
  logits[0, :, EOS] += 9  # Closed at once, while others go on.
  logits[1, :, EOS] -= 99  # Never closed.
  together = search(logits, beam)
  assert (len(together[0]), len(together[1])) == (1, LENGTH)
  for kind in range(SENTENCES):
    assert search(logits, beam, kinds=[kind] * 6) == [together[kind]] * 6
  kinds = [3, 1, 1, 5, 0, 3]
  assert search(logits, beam, kinds=kinds) == [together[k] for k in kinds]


@pytest.mark.parametrize('rows', [1, 2, 5, 16, 99])
def test_rows_take_one_sentence_after_another(rows):
  logits = toy_logits(4)
  logits[0, :, EOS] += 9  # Some end at once, some late, some are empty.
  logits[1, :, EOS] -= 99
  alone = [*search(logits, 3), (EOS,)]
  kinds = np.random.default_rng(rows).integers(-1, SENTENCES, 40)
  found = search(logits, 3, kinds=kinds, rows=rows)
  assert found == [alone[kind] for kind in kinds]


def test_normalization_favours_long_translations():
  # p(EOS) = 0.5 at once; else 3 with 0.4, and then EOS with 0.9.
  logits = np.full((1, HISTORIES, VOCABULARY), -20.0)
  logits[0, 0, [EOS, 3, 4]] = np.log([0.5, 0.4, 0.1])
  logits[0, index([3]), [EOS, 4]] = np.log([0.9, 0.1])
  # Equal at log(0.5) = log(0.36) / 2^n, n = log2(log(0.36) / log(0.5)) = 0.56.
  for normalization, expected in [
    (0.0, (EOS,)),
    (0.5, (EOS,)),
    (0.6, (3, EOS)),
    (1.0, (3, EOS)),
  ]:
    assert search(logits, 2, normalization) == [expected]


def test_what_is_cut_off_is_judged_by_its_length():
  # 3 again and again with 0.8, against EOS with 0.2.
  logits = np.full((1, HISTORIES, VOCABULARY), -20.0)
  logits[0, :, [3, EOS]] = np.log([[0.8], [0.2]])
  assert search(logits, 2) == [(3, 3, 3, 3)]
  # log(0.2) / 1 against 2 log(0.8) / 2^n: cut off early, it still wins.
  assert search(logits, 2, length=2) == [(3, 3)]
  logits[0, :, [3, EOS]] = np.log([[0.4], [0.6]])
  assert search(logits, 2) == [(EOS,)]


def test_a_beam_wider_than_the_vocabulary():
  logits = toy_logits(0)[:, :, :3]  # PAD, BOS and EOS.
  for row in search(logits, 8):
    assert EOS not in row[:-1] and len(row) <= LENGTH


def test_a_model_of_nan_translates_into_nothing():
  logits = np.full((2, HISTORIES, VOCABULARY), np.nan)
  assert search(logits, 2) == [(EOS,), (EOS,)]
