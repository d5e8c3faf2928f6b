"""Translation with micro models, against NumPy and against itself."""

import dataclasses
import threading
import types

import jax
import numpy as np
import optax
import pytest
import sacrebleu

from experiments import grammar
from stale_adam.nmt import translation
from stale_adam.nmt.data import batches, corpus, vocabulary
from stale_adam.nmt.data.vocabulary import BOS, EOS
from stale_adam.training import checkpoint

ROWS = 24  # Of the reference.
SHAPE = batches.Shape(rows=3, source=64, target=80)
SIZES = {
  'transformer': {'size': 8, 'hidden': 12, 'heads': 2, 'depth': 1},
  'rnn': {'size': 8, 'hidden': 6, 'encoder_depth': 1, 'decoder_depth': 2},
}


@pytest.fixture(scope='module')
def text():
  return grammar.corpus(train=200, validation=9, test=8)


@pytest.fixture(scope='module')
def pieces(text, tmp_path_factory):
  cache = tmp_path_factory.mktemp('vocabulary')
  return vocabulary.train(text.train, 150, cache)


@pytest.fixture(scope='module', params=sorted(SIZES))
def model(request, pieces):
  sizes = SIZES[request.param] | {'dropout': 0.1}
  return translation.Model(request.param, pieces, sizes)


@pytest.fixture(scope='module')
def params(model):
  """Parameters large enough that no two sentences are translated alike."""
  rng = np.random.default_rng(0)
  noise = lambda x: x + 0.5 * rng.normal(size=x.shape).astype(np.float32)
  return jax.tree.map(noise, model.init(jax.random.key(0)))


@pytest.fixture(scope='module')
def task(model, text):
  return translation.Translation(model, text, SHAPE, smoothing=0.2)


@pytest.fixture
def echo(pieces):
  """A model whose translation is the source, and the shapes it was given."""
  seen = []

  def search(params, source, segments, beam, rows):
    seen.append((rows, source.shape[1], beam))
    assert rows <= len(source) <= 8 * rows
    np.testing.assert_array_equal(segments, source != 0)
    return source

  model = translation.Model('transformer', pieces, SIZES['transformer'])
  vars(model)['_search'] = search  # Where the compiled search would be kept.
  return model, seen


def test_every_sentence_comes_back_in_its_place(echo, text):
  model, seen = echo
  # Of no piece, of about 1,500, and 150 of any length between.
  long = ' '.join((text.train.source * 2)[:80])
  assert len(model.vocabulary.encode([long])[0]) > 1500
  sentences = [
    *text.train.source[:75],
    '',
    long,
    '',
    *text.train.source[75:150],
  ]
  assert model.translate({}, sentences, 3) == sentences
  assert model.translate({}, sentences[::-1], 3) == sentences[::-1]
  assert model.translate({}, ['Ja.']) == ['Ja.']
  assert model.translate({}, ['']) == ['']
  assert model.translate({}, []) == []
  # Few shapes, that is few compilations; none much larger than the others.
  assert len({shape[:2] for shape in seen}) <= 5
  assert {beam for *_, beam in seen} == {3, 4}
  assert all(length % 16 == 0 for _, length, _ in seen)
  assert all(rows == 1 or rows * length <= 2048 for rows, length, _ in seen)


@pytest.mark.slow
def test_translations_follow_their_sentences(model, params, text):
  sentences = [text.train.source[0], '', *text.train.source[1:5], 'x']
  found = model.translate(params, sentences, 2)
  assert len(found) == len(sentences)
  assert all(isinstance(sentence, str) for sentence in found)
  assert len(set(found)) > 3  # Or an order could not be told.
  order = [3, 0, 6, 5, 1, 2, 4]
  again = model.translate(params, [sentences[i] for i in order], 2)
  assert again == [found[i] for i in order]


@pytest.mark.slow
def test_a_sentence_of_1500_pieces_is_translated(model, params, text):
  long = ' '.join((text.train.source * 2)[:80])
  assert len(model.vocabulary.encode([long])[0]) > 1500
  (found,) = model.translate(params, [long], 1)
  assert isinstance(found, str)


def test_an_unknown_kind_of_model(pieces):
  with pytest.raises(ValueError, match="model='cnn': use one of .*'rnn'"):
    translation.Model('cnn', pieces, {}).init(jax.random.key(0))


def alone(sentences, width):
  """One sentence a row, closed by EOS, and empty rows: (ids, segments)."""
  ids = np.zeros((ROWS, width), np.int32)
  for row, sentence in zip(ids, sentences, strict=False):
    row[: len(sentence) + 1] = [*sentence, EOS]
  return ids, (ids != 0).astype(np.int32)


@pytest.fixture(scope='module')
def reference(model, params):
  """Cross-entropy of each sentence, summed over its words; and the words.

  Each sentence has a row to itself, and the softmax is NumPy's.
  """

  @jax.jit
  def decode(source, source_segments, inputs, segments):
    module = model.network.bind(params)
    memory = module.encode(source, source_segments)
    hidden = module.decode(memory, source_segments, inputs, segments)
    return hidden, module.embedding.table[...]

  def costs(pairs, smoothing):
    assert len(pairs.source) <= ROWS
    source, target = map(model.vocabulary.encode, pairs)
    target, segments = alone(target, SHAPE.target)
    inputs = np.roll(target, 1, axis=1)
    inputs[:, 0] = BOS
    found = decode(*alone(source, SHAPE.source), inputs, segments)
    hidden, table = (np.asarray(x, np.float64) for x in found)
    logits = hidden @ table.T
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(logs, target[..., None], axis=-1)[..., 0]
    costs = -(1 - smoothing) * picked - smoothing * logs.mean(axis=-1)
    used = slice(len(pairs.source))
    return (costs * segments).sum(axis=1)[used], segments.sum(axis=1)[used]

  return costs


def of_batch(batch, pieces):
  """The text of a batch: source and target sentences."""
  sides = []
  for side in ('source', 'target'):
    segments, sentences = batch[f'{side}_segments'], []
    for ids, own in zip(batch[side], segments, strict=True):
      parts = [ids[own == k].tolist() for k in range(1, own.max() + 1)]
      sentences += pieces.decode(parts)
    sides.append(sentences)
  return corpus.Pairs(*sides)


# What follows is written once for both kinds of model.
@pytest.mark.slow
@pytest.mark.parametrize('model', ['transformer'], indirect=True)
def test_losses_sum_over_the_words(model, params, task, pieces, reference):
  batch = task.batches.batch(0)
  pairs = of_batch(batch, pieces)
  assert len(pairs.source) > SHAPE.rows  # Some row holds several.
  costs, words = reference(pairs, 0.2)
  run = jax.jit(lambda p, b: model.network.losses(p, b, None, 0.2))
  loss, count = run(params, batch)
  assert count == words.sum() == task.units(0)
  np.testing.assert_allclose(loss, costs.sum(), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('model', ['transformer'], indirect=True)
def test_the_problem_is_the_mean_over_the_words(
  model, text, params, pieces, reference
):
  still = dataclasses.replace(model, sizes=model.sizes | {'dropout': 0.0})
  task = translation.Translation(still, text, SHAPE, smoothing=0.2)
  batch = task.problem.batch(1)
  costs, words = reference(of_batch(batch, pieces), 0.2)
  found = task.problem.loss(params, batch, jax.random.key(0))
  np.testing.assert_allclose(found, costs.sum() / words.sum(), rtol=1e-4)
  assert np.shape(found) == ()


@pytest.mark.slow
def test_validation_is_the_mean_over_its_words(params, task, text, reference):
  costs, words = reference(text.validation, 0.0)
  found = task.validation_loss(params)
  np.testing.assert_allclose(found, costs.sum() / words.sum(), rtol=1e-4)
  assert task.validation_loss(params) == found


def test_validation_sums_its_batches_in_order(monkeypatch):
  """Several at a time: here the first waits for all others."""
  sums, others = (1.0, 1e16, -1e16), threading.Semaphore(0)

  def losses(network, params, batch_id):
    del network, params
    if batch_id == 0:
      assert all(others.acquire(timeout=60) for _ in sums[1:])
    else:
      others.release()
    return np.float64(sums[batch_id]), np.float64(2 + batch_id)

  monkeypatch.setattr(translation.network_lib, 'losses', losses)
  monkeypatch.setattr(translation.os, 'cpu_count', lambda: 2)
  batches = types.SimpleNamespace(first_epoch=3, batch=lambda i: i)
  model = types.SimpleNamespace(network=None)
  task = types.SimpleNamespace(validation=batches, model=model)
  # 1 + 1e16 - 1e16 is 0, and 1e16 - 1e16 + 1 is 1.
  assert translation.Translation.validation_loss(task, {}) == 0


def test_words_of_an_epoch_are_those_of_its_batches(task, text, pieces):
  expected = sum(len(ids) + 1 for ids in pieces.encode(text.train.target))
  assert task.units_per_epoch == expected
  count = task.batches.first_epoch
  assert sum(map(task.units, range(count))) == expected


@pytest.mark.slow
def test_adam_learns_twenty_sentences(model, text):
  few = corpus.Pairs(*(side[:20] for side in text.train))
  small = dataclasses.replace(text, train=few, validation=few)
  task = translation.Translation(model, small, SHAPE)
  optimizer = optax.adam(0.02)
  params = model.init(jax.random.key(0))
  state = optimizer.init(params)

  @jax.jit
  def update(params, state, batch, key):
    loss = jax.value_and_grad(task.problem.loss)
    loss, gradient = loss(params, batch, key)
    change, state = optimizer.update(gradient, state)
    return loss, optax.apply_updates(params, change), state

  before = task.validation_loss(params)
  batch = task.problem.batch(0)
  keys = map(jax.random.key, (0, 1, 0))
  losses = [float(update(params, state, batch, key)[0]) for key in keys]
  assert losses[0] == losses[2] != losses[1]  # Dropout follows the key.
  for batch_id in range(30):
    batch = task.problem.batch(batch_id)
    key = jax.random.key(batch_id)
    _, params, state = update(params, state, batch, key)
  # At first no better than chance; then it knows how often each piece comes.
  assert before > 0.95 * np.log(150)
  assert task.validation_loss(params) < 0.85 * before


def test_bleu_of_the_references_is_100(echo, text):
  model, seen = echo
  same = corpus.Pairs(text.validation.target, text.validation.target)
  task = translation.Translation(
    model, dataclasses.replace(text, validation=same), SHAPE, validation_beam=2
  )
  score, signature, texts = task.bleu({}, same, 5)
  assert score == pytest.approx(100)
  assert texts == same.target
  assert 'version:' in signature and 'tok:13a' in signature
  assert task.validation_score({}) == score
  beams = [beam for *_, beam in seen]
  assert set(beams) == {5, 2} and beams == sorted(beams, reverse=True)


def test_a_test_has_every_set_and_the_first_sentences_of_the_first(echo, text):
  model, seen = echo
  same = corpus.Pairs(text.train.target[:20], text.train.target[:20])
  half = corpus.Pairs(text.train.source[:5], text.train.target[:5])
  both = dataclasses.replace(text, tests={'same': same, 'half': half})
  found = translation.Translation(model, both, SHAPE, beam=3).test({})
  assert found.scores['same'] == pytest.approx(100)
  assert found.scores['half'] < 50
  assert [line['reference'] for line in found.examples] == same.target[:10]
  assert all(line['translation'] == line['source'] for line in found.examples)
  assert 'version:' in found.signature['sacrebleu_signature']
  assert {beam for *_, beam in seen} == {3}


@pytest.mark.slow
def test_a_model_that_a_run_left_translates_the_same(model, params, tmp_path):
  checkpoint.save(tmp_path / 'params.npz', params, model.metadata())
  model.vocabulary.save(tmp_path / translation.VOCABULARY)
  again, same = translation.load(tmp_path)
  sentences = ['The old man reads a book.', '']
  assert again.translate(same, sentences, 2) == model.translate(
    params, sentences, 2
  )


def test_another_vocabulary_is_refused(pieces, tmp_path):
  """Any of 40 flipped bits, a cut file, and that of another text."""
  own = SIZES['transformer'] | {'dropout': 0.0}
  model = translation.Model('transformer', pieces, own)
  params = model.init(jax.random.key(0))
  checkpoint.save(tmp_path / 'params.npz', params, model.metadata())
  path = tmp_path / translation.VOCABULARY
  other = vocabulary.train(grammar.corpus(train=201).train, 150, tmp_path)
  damaged = [other.model, pieces.model[:-1], pieces.model + b'\0', b'']
  bits = np.random.default_rng(0).integers(8 * len(pieces.model), size=40)
  for byte, bit in (divmod(int(place), 8) for place in bits):
    data = bytearray(pieces.model)
    data[byte] ^= 1 << bit
    damaged.append(bytes(data))
  for data in damaged:
    path.write_bytes(data)
    with pytest.raises(ValueError, match='is not the vocabulary of params'):
      translation.load(tmp_path)
  path.write_bytes(pieces.model)
  assert translation.load(tmp_path)[0].vocabulary == pieces


def test_parameters_that_do_not_name_their_vocabulary_are_refused(
  pieces, tmp_path
):
  checkpoint.save(tmp_path / 'params.npz', {}, {'model': 'rnn', 'sizes': {}})
  pieces.save(tmp_path / translation.VOCABULARY)
  with pytest.raises(ValueError, match='does not say which .* vocabulary'):
    translation.load(tmp_path)


def test_bleu_tells_translations_from_references(echo, text):
  references = text.train.target[:50]
  short = [' '.join(sentence.split()[:5]) for sentence in references]
  task = translation.Translation(echo[0], text, SHAPE)
  score, *_ = task.bleu({}, corpus.Pairs(short, references), 1)
  assert score == sacrebleu.corpus_bleu(short, [references]).score
  assert score != sacrebleu.corpus_bleu(references, [short]).score


@pytest.mark.slow
def test_one_endless_line_does_not_decide_how_long_scores_take(
  text, pieces, monkeypatch
):
  """Its source is cut to four rows and counted; others stay whole."""
  model = translation.Model('rnn', pieces, SIZES['rnn'] | {'dropout': 0.0})
  source, target = text.validation
  long = corpus.Pairs(
    [*source[:2], ' '.join(source[:1] * 1000)], [*target[:2], target[0]]
  )
  task = translation.Translation(
    model, dataclasses.replace(text, validation=long), SHAPE
  )
  assert task.longest == 4 * SHAPE.source
  assert task.shortened == {'validation': 1}
  lengths, search = [], model._search

  def noted(params, source, *rest):
    lengths.append(source.shape[1])
    return search(params, source, *rest)

  monkeypatch.setitem(vars(model), '_search', noted)
  params = model.init(jax.random.key(0))
  task.validation_score(params)
  assert max(lengths) == task.longest and min(lengths) < SHAPE.source
  # A sentence that fits is translated as it was without a limit.
  cut = model.translate(params, source[:2], 1, task.longest)
  assert cut == model.translate(params, source[:2], 1)
  assert task.test(params).signature['shortened'] == {'validation': 1}


@pytest.mark.parametrize('sizes', [{'size': 12}, {'depth': 2}, {'hidden': 'x'}])
def test_parameters_of_another_model_are_refused(pieces, tmp_path, sizes):
  own = SIZES['transformer'] | {'dropout': 0.0}
  model = translation.Model('transformer', pieces, own)
  params, known = model.init(jax.random.key(0)), model.metadata()
  pieces.save(tmp_path / translation.VOCABULARY)
  path = tmp_path / 'params.npz'
  checkpoint.save(path, params, known)
  translation.load(tmp_path)
  checkpoint.save(path, params, known | {'sizes': own | sizes})
  with pytest.raises(ValueError, match='params.npz (has other|describes a)'):
    translation.load(tmp_path)
