"""Batches: every sentence once an epoch, one shape, functions of the id."""

import collections
import concurrent.futures
import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from experiments import grammar
from experiments.ledger import scales
from stale_adam.nmt.data import batches, vocabulary

PAD, EOS = vocabulary.PAD, vocabulary.EOS

# Lengths without EOS: (source, target) of each sentence.
LENGTHS = st.lists(
  st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=1, max_size=60
)
SHAPES = st.builds(
  batches.Shape, st.integers(1, 4), st.integers(2, 20), st.integers(2, 20)
)
SEEDS = st.integers(0, 2**32 - 1)
laws = hypothesis.settings(deadline=None, max_examples=60)


def sides(lengths):
  """Sentence i is 10+i, repeated, and its translation 1000+i, repeated."""
  source = [[10 + i] * a for i, (a, _) in enumerate(lengths)]
  target = [[1000 + i] * b for i, (_, b) in enumerate(lengths)]
  return source, target


def build(lengths, shape, seed=0):
  source, target = sides(lengths)
  return batches.Batches(
    batches.Tokens.of(source), batches.Tokens.of(target), shape, seed
  )


def fitting(lengths, shape):
  """The pairs of sentences that fit, each closed by EOS."""
  close = lambda sentence: (*sentence, EOS)
  pairs = zip(*sides(lengths), strict=True)
  pairs = [(close(a), close(b)) for a, b in pairs]
  return [
    (a, b)
    for a, b in pairs
    if len(a) <= shape.source and len(b) <= shape.target
  ]


def cut(ids, segments):
  """The sentences of one row; fails unless they lie side by side from 0."""
  counts = np.bincount(segments)[1:]
  assert (counts > 0).all()
  expected = np.repeat(np.arange(1, counts.size + 1), counts)
  np.testing.assert_array_equal(segments[: expected.size], expected)
  assert (segments[expected.size :] == 0).all()
  assert (ids[expected.size :] == PAD).all()
  parts = np.split(ids[: expected.size], np.cumsum(counts)[:-1])
  return [tuple(map(int, part)) for part in parts if part.size]


def unpack(batch):
  """The pairs of sentences of a batch, row by row."""
  found = []
  for row in range(len(batch['source'])):
    source, target = (
      cut(batch[side][row], batch[f'{side}_segments'][row])
      for side in ('source', 'target')
    )
    found += zip(source, target, strict=True)
  return found


def of_epoch(made, epoch):
  """Ids of the batches of an epoch."""
  after = itertools.dropwhile(
    lambda i: made.epoch(i) < epoch, itertools.count()
  )
  return list(itertools.takewhile(lambda i: made.epoch(i) == epoch, after))


@laws
@hypothesis.given(LENGTHS, SHAPES, SEEDS)
def test_every_sentence_that_fits_is_once_in_every_epoch(lengths, shape, seed):
  expected = collections.Counter(fitting(lengths, shape))
  hypothesis.assume(expected)
  made = build(lengths, shape, seed)
  assert made.skipped == len(lengths) - expected.total()
  words = sum(len(b) * n for (_, b), n in expected.items())
  assert made.target_words_per_epoch == words
  following = 0
  for epoch in range(3):
    ids = of_epoch(made, epoch)
    assert ids[0] == following
    following = ids[-1] + 1
    found = [unpack(made.batch(i)) for i in ids]
    assert collections.Counter(itertools.chain(*found)) == expected
    # Words are counted as in the batch, and no batch is empty.
    counted = [made.target_words(i) for i in ids]
    assert counted == [sum(len(b) for _, b in pairs) for pairs in found]
    assert min(counted) > 0
  assert made.first_epoch == len(of_epoch(made, 0))


@laws
@hypothesis.given(LENGTHS, SHAPES, SEEDS)
def test_every_batch_has_the_one_shape(lengths, shape, seed):
  hypothesis.assume(fitting(lengths, shape))
  made = build(lengths, shape, seed)
  for batch_id in range(2 * made.first_epoch):
    batch = made.batch(batch_id)
    assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
      'source': ((shape.rows, shape.source), np.int32),
      'source_segments': ((shape.rows, shape.source), np.int32),
      'target': ((shape.rows, shape.target), np.int32),
      'target_segments': ((shape.rows, shape.target), np.int32),
    }
    for sentence in itertools.chain(*unpack(batch)):
      assert sentence[-1] == EOS and EOS not in sentence[:-1]


LONG = [(i % 7, (i * 5) % 6) for i in range(200)]
WIDE = batches.Shape(rows=2, source=12, target=12)


def equal(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_a_batch_is_a_function_of_its_id_alone():
  made = build(LONG, WIDE)
  count = 3 * made.first_epoch
  expected = [made.batch(i) for i in range(count)]
  order = np.random.default_rng(0).permutation(count)
  backwards = build(LONG, WIDE)
  for batch_id in [count - 1, *order, 0, 0]:
    assert equal(backwards.batch(int(batch_id)), expected[batch_id])


def test_several_threads_get_the_same_batches():
  made = build(LONG, WIDE)
  ids = list(range(6 * made.first_epoch))
  expected = [made.batch(i) for i in ids]
  for attempt in range(5):
    shared = build(LONG, WIDE)
    order = np.random.default_rng(attempt).permutation(ids).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
      found = dict(zip(order, threads.map(shared.batch, order), strict=True))
    assert all(equal(found[i], expected[i]) for i in ids)


def test_a_batch_belongs_to_whoever_asked():
  made = build(LONG, WIDE)
  before = made.batch(0)
  for array in made.batch(0).values():
    array[:] = 99
  assert equal(made.batch(0), before)


def test_epochs_and_seeds_have_orders_of_their_own():
  orders = []
  for seed in range(3):
    made = build(LONG, WIDE, seed)
    for epoch in range(3):
      pairs = [unpack(made.batch(i)) for i in of_epoch(made, epoch)]
      orders.append(tuple(itertools.chain(*pairs)))
      # Not only the same batches in another order.
      orders.append(frozenset(map(frozenset, pairs)))
  assert len(set(orders)) == len(orders)


def test_sides_of_different_lengths():
  with pytest.raises(ValueError, match='2 source sentences, 1 target'):
    batches.Batches(
      batches.Tokens.of([[5], [6]]), batches.Tokens.of([[7]]), WIDE
    )


@pytest.mark.parametrize('lengths', [[], [(12, 1)], [(1, 12), (30, 30)]])
def test_nothing_fits(lengths):
  with pytest.raises(ValueError, match=f'none of {len(lengths)} .*longer rows'):
    build(lengths, WIDE)


@laws
@hypothesis.given(st.lists(st.lists(st.integers(3, 2**31 - 1))))
def test_tokens_give_back_what_they_were_made_of(sentences):
  tokens = batches.Tokens.of(sentences)
  assert tokens.ids.dtype == np.int32
  assert [tokens[i].tolist() for i in range(len(sentences))] == [
    [*sentence, EOS] for sentence in sentences
  ]
  assert tokens.lengths.tolist() == [len(s) + 1 for s in sentences]


@laws
@hypothesis.given(LENGTHS)
def test_no_two_rows_could_have_been_one(lengths):
  shape = batches.Shape(1, 20, 17)
  source, target = np.array(lengths).T + 1
  sentences = np.arange(len(lengths)) + 7
  rows = list(batches.pack(sentences, source, target, shape))
  assert sorted(np.concatenate(rows)) == sentences.tolist()
  used = [(source[r - 7].sum(), target[r - 7].sum()) for r in rows]
  assert all(a <= shape.source and b <= shape.target for a, b in used)
  for (a, b), (c, d) in itertools.combinations(used, 2):
    assert a + c > shape.source or b + d > shape.target


def empty_share(made):
  """Share of the first epoch's positions that hold no token."""
  ids = of_epoch(made, 0)
  full = sum(
    np.count_nonzero(made.batch(i)[side] != PAD)
    for i in ids
    for side in ('source', 'target')
  )
  shape = made.shape
  room = len(ids) * shape.rows * (shape.source + shape.target)
  share = 1 - full / room
  assert batches.padding(made, len(ids)) == pytest.approx(share)
  return share


@pytest.mark.slow
def test_little_is_padding_on_the_tiny_corpus(tmp_path):
  scale = scales.settings('tiny', 'transformer')
  pairs = grammar.corpus().train
  words = vocabulary.train(pairs, scale.vocabulary, tmp_path)
  made = batches.Batches(
    *(batches.Tokens.of(words.encode(side)) for side in pairs), scale.shape
  )
  assert made.skipped == 0
  assert empty_share(made) < 0.1


def test_little_is_padding_on_lengths_like_multi30k():
  draw = np.random.default_rng(0)
  source = np.clip(draw.lognormal(np.log(15), 0.4, 8000), 4, 60).round()
  ratio = draw.normal(1.0, 0.15, source.size)
  target = np.clip(source * ratio, 4, 60).round()
  assert 16 < source.mean() < 17 and 15.5 < target.mean() < 17
  lengths = np.stack([source, target], axis=1).astype(int).tolist()
  made = build(lengths, batches.Shape(16, 64, 64))
  assert made.skipped == 0
  assert empty_share(made) < 0.1
