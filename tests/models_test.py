"""What both translation models promise, whatever is inside them."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stale_adam.nmt import layers, loss, rnn, transformer

VOCABULARY = 11
BOS = 1
# Lengths of the sentences packed into each of two rows.
SOURCE_LENGTHS = ((3, 4, 2), (5, 1))
TARGET_LENGTHS = ((4, 2, 5), (3, 7))
SOURCE_LENGTH, TARGET_LENGTH = 11, 13


def _transformer():
  return transformer.Transformer(VOCABULARY, 8, 12, 2, 2, 0.3, rngs=nnx.Rngs(0))


def _rnn():
  return rnn.Rnn(VOCABULARY, 6, 5, 2, 3, 0.3, rngs=nnx.Rngs(0))


@pytest.fixture(scope='module', params=[_transformer, _rnn])
def model(request):
  """A micro model whose biases and scales are not at their special values."""
  graph, params = nnx.split(request.param())
  rng = np.random.default_rng(0)
  noise = lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32)
  return nnx.merge(graph, jax.tree.map(noise, params))


@pytest.fixture(scope='module')
def logits(model):
  """(source, source segments, inputs, segments, key) -> logits, compiled."""

  @jax.jit
  def run(source, source_segments, inputs, segments, key=None):
    keys = (None, None) if key is None else jax.random.split(key)
    memory = model.encode(source, source_segments, keys[0])
    hidden = model.decode(memory, source_segments, inputs, segments, keys[1])
    return hidden @ model.embedding.table[...].T

  return run


def _sentences(lengths, seed):
  rng = np.random.default_rng(seed)
  draw = lambda length: rng.integers(4, VOCABULARY, length).astype(np.int32)
  return [[draw(length) for length in row] for row in lengths]


def _pack(rows, length):
  tokens = np.zeros((len(rows), length), np.int32)
  segments = np.zeros_like(tokens)
  for i, row in enumerate(rows):
    end = sum(len(sentence) for sentence in row)
    tokens[i, :end] = np.concatenate(row)
    count = np.arange(len(row)) + 1
    segments[i, :end] = np.repeat(count, [len(sentence) for sentence in row])
  return tokens, segments


@pytest.fixture
def packed():
  """Two rows of several sentences and some padding."""
  source, segments = _pack(_sentences(SOURCE_LENGTHS, 1), SOURCE_LENGTH)
  target, target_segments = _pack(_sentences(TARGET_LENGTHS, 2), TARGET_LENGTH)
  inputs = np.asarray(layers.shift(target, target_segments, BOS))
  return source, segments, inputs, target_segments


def _alone():
  """The same sentences, each in a row of its own."""
  source = sum(_sentences(SOURCE_LENGTHS, 1), [])
  target = sum(_sentences(TARGET_LENGTHS, 2), [])
  source, segments = _pack([[s] for s in source], 5)
  target, target_segments = _pack([[s] for s in target], 7)
  return source, segments, layers.shift(target, target_segments, BOS), (
    target_segments
  )


def test_packed_sentences_get_the_logits_they_get_alone(logits, packed):
  together = np.asarray(logits(*packed))[packed[3] > 0]
  alone = _alone()
  separate = np.asarray(logits(*alone))[alone[3] > 0]
  np.testing.assert_allclose(together, separate, atol=2e-5, rtol=2e-5)


def test_rows_need_no_padding(logits, packed):
  source, segments, inputs, target_segments = packed
  whole = np.asarray(logits(*packed))[0, :11]
  exact = logits(
    source[:1, :9], segments[:1, :9], inputs[:1, :11], target_segments[:1, :11]
  )
  np.testing.assert_allclose(whole, exact[0], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize('position', [0, 2, 5, 6, 10])
def test_no_position_sees_a_later_input(logits, packed, position):
  source, segments, inputs, target_segments = packed
  changed = inputs.copy()
  changed[:, position] = 4 + (inputs[:, position] + 3) % (VOCABULARY - 4)
  assert (changed[:, position] != inputs[:, position]).all()
  before = np.asarray(logits(*packed))
  after = np.asarray(logits(source, segments, changed, target_segments))
  moved = np.abs(after - before).max(axis=-1)
  own = target_segments == target_segments[:, position : position + 1]
  later = np.arange(TARGET_LENGTH) >= position
  real = target_segments > 0
  assert (moved[real & ~(own & later)] < 1e-5).all()
  # What may see the change does see it, or the test would test nothing.
  real &= real[:, position : position + 1]
  assert (moved[real & own & later] > 1e-4).all()


def test_no_segment_sees_another(logits, packed):
  source, segments, inputs, target_segments = packed
  flip = lambda tokens, own: np.where(own == 2, 15 - tokens, tokens)
  before = np.asarray(logits(*packed))
  for changed in (
    (flip(source, segments), inputs),
    (source, flip(inputs, target_segments)),
  ):
    after = logits(changed[0], segments, changed[1], target_segments)
    moved = np.abs(after - before).max(axis=-1)
    assert (moved[(target_segments == 1) | (target_segments == 3)] < 1e-5).all()
    assert (moved[target_segments == 2] > 1e-4).any()


def test_no_sentence_sees_padding(logits, packed):
  source, segments, inputs, target_segments = packed
  assert (segments == 0).any() and (target_segments == 0).any()
  other_source = np.where(segments == 0, 7, source)
  other_inputs = np.where(target_segments == 0, 9, inputs)
  before = np.asarray(logits(*packed))
  after = np.asarray(
    logits(other_source, segments, other_inputs, target_segments)
  )
  real = target_segments > 0
  np.testing.assert_allclose(after[real], before[real], atol=1e-5)
  assert np.isfinite(after).all()


def test_advance_equals_decode_at_every_position(model, logits):
  source, segments, inputs, target_segments = _alone()
  expected = np.asarray(logits(source, segments, inputs, target_segments))
  memory = model.encode(source, segments)
  constant, cache = model.start(memory, segments, inputs.shape[1])
  for leaf in jax.tree.leaves((constant, cache)):
    assert leaf.shape[0] == source.shape[0]
  advance = jax.jit(model.advance)
  for position in range(inputs.shape[1]):
    cache, hidden = advance(constant, cache, inputs[:, position], position)
    found = np.asarray(hidden @ model.embedding.table[...].T)
    real = target_segments[:, position] > 0
    np.testing.assert_allclose(
      found[real], expected[real, position], atol=2e-5, rtol=2e-5
    )


def _objective(model, packed):
  graph, params = nnx.split(model)
  source, segments, inputs, target_segments = packed
  targets = jnp.roll(inputs, -1, axis=1).reshape(-1)
  weights = (target_segments > 0).reshape(-1).astype(jnp.float32)

  def objective(params, key):
    model = nnx.merge(graph, params)
    encoding, decoding = jax.random.split(key)
    memory = model.encode(source, segments, encoding)
    hidden = model.decode(memory, segments, inputs, target_segments, decoding)
    hidden = hidden.reshape(targets.size, -1)
    table = model.embedding.table[...]
    return loss.cross_entropy(hidden, table, targets, weights, 0.1, 13)

  return objective, nnx.to_pure_dict(params)


def test_every_parameter_gets_a_finite_gradient(model, packed):
  objective, params = _objective(model, packed)
  gradient = jax.jit(jax.grad(objective))(params, jax.random.key(0))
  # No leaf may be zero, though parts of one may be: the bias of the
  # Transformer's attention keys, and table rows of pieces that do not occur.
  for path, leaf in jax.tree.leaves_with_path(gradient):
    name = jax.tree_util.keystr(path)
    assert np.isfinite(leaf).all(), name
    assert np.abs(leaf).max() > 1e-6, name


def test_gradient_is_the_slope_of_the_loss(model, packed):
  objective, params = _objective(model, packed)
  key = jax.random.key(0)
  rng = np.random.default_rng(3)
  with jax.enable_x64(True):
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    along = lambda distance: jax.tree.map(
      lambda x, d: x + distance * d, params, direction
    )
    line = jax.jit(lambda distance: objective(along(distance), key))
    slope = jax.grad(line)(0.0)
    measured = (line(1e-5) - line(-1e-5)) / 2e-5
  np.testing.assert_allclose(slope, measured, rtol=1e-6)


def test_dropout_follows_its_key_alone(logits, packed):
  off, again = logits(*packed), logits(*packed)
  np.testing.assert_array_equal(off, again)
  first = logits(*packed, key=jax.random.key(1))
  same = logits(*packed, key=jax.random.key(1))
  other = logits(*packed, key=jax.random.key(2))
  np.testing.assert_array_equal(first, same)
  real = packed[3] > 0
  assert np.abs(first - other)[real].max() > 1e-2
  assert np.abs(first - off)[real].max() > 1e-2


def test_heads_must_divide_the_size():
  with pytest.raises(ValueError, match='size=8 must be a multiple of heads=3'):
    transformer.Transformer(VOCABULARY, 8, 12, 3, 1, 0.0, rngs=nnx.Rngs(0))


@pytest.mark.parametrize('depths', [(0, 2), (1, 1)])
def test_the_rnn_has_enough_cells(depths):
  with pytest.raises(ValueError, match=f'encoder_depth={depths[0]}'):
    rnn.Rnn(VOCABULARY, 6, 5, *depths, 0.0, rngs=nnx.Rngs(0))


def _count(build):
  model = nnx.eval_shape(build)
  return sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))


def test_parameters_of_transformer_base():
  def build():
    return transformer.Transformer(36000, 512, 2048, 8, 6, 0.1, rngs=nnx.Rngs(0))

  attention = 4 * (512 * 512 + 512)  # Query, key, value, output; with biases.
  forward = (512 * 2048 + 2048) + (2048 * 512 + 512)
  norm = 512 + 512  # Scale and bias.
  expected = (
    36000 * 512  # The one table for source, target and output.
    + 6 * (attention + forward + 2 * norm)  # Encoder.
    + 6 * (2 * attention + forward + 3 * norm)  # Decoder.
  )
  assert expected == 62570496
  assert _count(build) == expected


def test_parameters_of_the_deep_rnn():
  def build():
    return rnn.Rnn(36000, 512, 1024, 4, 8, 0.1, rngs=nnx.Rngs(0))

  gates = 3 * 1024  # Update, reset, candidate.
  cell = 1024 * gates + 2 * gates  # U, with a scale and a bias.
  fed = lambda inputs: inputs * gates + gates  # W, with a scale.
  expected = (
    36000 * 512  # The one table for source, target and output.
    + 2 * (fed(512) + 4 * cell)  # Encoder, two directions.
    + (2048 * 1024 + 2 * 1024)  # Initial state: W, scale, bias.
    + fed(512)  # Previous embedding into the decoder's first cell.
    + (2048 * 2048 + 2 * 2048)  # Attention's key: W, scale, bias.
    + (1024 * 2048 + 2048)  # Attention's query: W, scale.
    + 2048  # Attention's energy vector.
    + fed(2048)  # Context into the decoder's second cell.
    + 8 * cell  # Decoder.
    + (1024 + 512 + 2048) * 512  # Output: state, embedding, context,
    + 3 * 512  # their scales
    + 512  # and their bias.
  )
  assert expected == 89997312
  assert _count(build) == expected
