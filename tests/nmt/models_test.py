"""What both translation models promise, whatever is inside them."""

import math
import re

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stale_adam.nmt.models import layers, loss, rnn, transformer

VOCABULARY = 11
BOS = 1
# Lengths of the sentences packed into each of two rows; other rows are empty.
SOURCE_LENGTHS = ((3, 4, 2), (5, 1))
TARGET_LENGTHS = ((4, 2, 5), (3, 7))
ROWS, SOURCE_LENGTH, TARGET_LENGTH = 5, 11, 13


def _transformer():
  return transformer.Transformer(VOCABULARY, 8, 12, 2, 2, 0.3, rngs=nnx.Rngs(0))


def _tfixup():
  return transformer.TFixup(VOCABULARY, 8, 12, 2, 2, 0.3, rngs=nnx.Rngs(0))


def _rnn():
  return rnn.Rnn(VOCABULARY, 6, 5, 2, 3, 0.3, rngs=nnx.Rngs(0))


@pytest.fixture(scope='module', params=[_transformer, _tfixup, _rnn])
def model(request):
  """A micro model in which no bias is 0 and no scale 1, as they begin."""
  graph, shapes = nnx.split(nnx.eval_shape(request.param))
  rng = np.random.default_rng(0)
  # Where nothing is normalised, large parameters saturate attention.
  size = 0.2 if request.param is _tfixup else 0.5
  draw = lambda x: jnp.asarray(size * rng.normal(size=x.shape), x.dtype)
  return nnx.merge(graph, jax.tree.map(draw, shapes))


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


def _other(tokens):
  """Another token everywhere."""
  return 4 + (tokens - 3) % (VOCABULARY - 4)


def _pack(rows, length):
  tokens = np.zeros((ROWS, length), np.int32)
  segments = np.zeros_like(tokens)
  for i, row in enumerate(rows):
    end = sum(len(sentence) for sentence in row)
    tokens[i, :end] = np.concatenate(row)
    count = np.arange(len(row)) + 1
    segments[i, :end] = np.repeat(count, [len(sentence) for sentence in row])
  return tokens, segments


@pytest.fixture
def packed():
  """Rows of several sentences and some padding."""
  source, segments = _pack(_sentences(SOURCE_LENGTHS, 1), SOURCE_LENGTH)
  target, target_segments = _pack(_sentences(TARGET_LENGTHS, 2), TARGET_LENGTH)
  inputs = np.asarray(layers.shift(target, target_segments, BOS))
  return source, segments, inputs, target_segments


def _alone():
  """The same sentences, each in a row of its own."""
  source = sum(_sentences(SOURCE_LENGTHS, 1), [])
  target = sum(_sentences(TARGET_LENGTHS, 2), [])
  source, segments = _pack([[s] for s in source], SOURCE_LENGTH)
  target, target_segments = _pack([[s] for s in target], TARGET_LENGTH)
  inputs = layers.shift(target, target_segments, BOS)
  return source, segments, inputs, target_segments


@pytest.mark.slow
def test_packed_sentences_get_the_logits_they_get_alone(logits, packed):
  together = np.asarray(logits(*packed))[packed[3] > 0]
  alone = _alone()
  separate = np.asarray(logits(*alone))[alone[3] > 0]
  np.testing.assert_allclose(together, separate, atol=2e-5, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize('position', [0, 2, 5, 6, 10])
def test_no_position_sees_a_later_input(logits, packed, position):
  source, segments, inputs, target_segments = packed
  changed = inputs.copy()
  changed[:, position] = _other(inputs[:, position])
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
  other_source = np.where(segments == 2, _other(source), source)
  other_inputs = np.where(target_segments == 2, _other(inputs), inputs)
  before = np.asarray(logits(*packed))
  for changed in ((other_source, inputs), (source, other_inputs)):
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


@pytest.mark.slow
def test_advance_equals_decode_at_every_position(model, logits):
  source, segments, inputs, target_segments = _alone()
  expected = np.asarray(logits(source, segments, inputs, target_segments))
  memory = jax.jit(model.encode)(source, segments)
  constant = jax.jit(model.start)(memory, segments)
  for leaf in jax.tree.leaves(constant):
    assert leaf.shape[0] == source.shape[0]
  rows, columns = inputs.shape
  # The second of two hypotheses is the right one from the second token on. The
  # ring begins near its end, and its cache is full of what is not theirs.
  room = jax.eval_shape(lambda c: model.room(c, rows, 2, columns), constant)
  cache = jax.tree.map(lambda x: jnp.full(x.shape, 7.0, x.dtype), room)
  path = np.full((rows, 2, columns), -1, np.int32)
  advance = jax.jit(model.advance)
  for position in range(columns):
    column = (columns - 2 + position) % columns
    path[:, :, column] = [0, 1]
    tokens = np.stack([inputs[:, position], _other(inputs)[:, position]], 1)
    tokens = tokens if position == 0 else tokens[:, ::-1]
    here = np.full(rows, position, np.int32)
    cache, hidden = advance(
      *(constant, cache, tokens),
      layers.Past(here, jnp.int32(column), jnp.asarray(path)),
    )
    right = 0 if position == 0 else 1
    path[:] = path[:, right : right + 1]
    found = np.asarray(hidden @ model.embedding.table[...].T)[:, right]
    real = target_segments[:, position] > 0
    np.testing.assert_allclose(
      found[real], expected[real, position], atol=2e-5, rtol=2e-5
    )


def _moved(compiled, elements):
  """Instructions of a program that transpose or copy so many elements."""
  found = re.findall(
    r'= \(?f32\[([\d,]+)\]\S* (?:transpose|copy)\(', compiled.as_text()
  )
  return [x for x in found if math.prod(map(int, x.split(','))) == elements]


def test_a_token_does_not_transpose_those_before_it():
  rows, beam, length, size = 3, 2, 17, 24
  build = lambda: transformer.Transformer(
    VOCABULARY, size, 16, 2, 1, 0.0, rngs=nnx.Rngs(0)
  )
  graph, params = nnx.split(nnx.eval_shape(build))
  model = lambda params: nnx.merge(graph, params)
  memory = jax.ShapeDtypeStruct((rows, 5, size), jnp.float32)
  start = lambda params, memory: model(params).start(
    memory, jnp.ones((rows, 5), jnp.int32)
  )
  constant = jax.eval_shape(start, params, memory)
  room = lambda params, x: model(params).room(x, rows, beam, length)
  cache = jax.eval_shape(room, params, constant)
  advance = lambda params, *args: model(params).advance(*args)
  whole = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  past = layers.Past(whole(rows), whole(), whole(rows, beam, length))
  arguments = params, constant, cache, whole(rows, beam), past
  compiled = jax.jit(advance, donate_argnums=2).lower(*arguments).compile()
  assert not _moved(compiled, rows * beam * length * size)
  # The check above can fail: the same cache, in another order.
  other = jax.jit(lambda x: x.swapaxes(1, 3) + 1).lower(cache[0][0]).compile()
  assert _moved(other, rows * beam * length * size)


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


@pytest.mark.slow
def test_gradient_is_the_slope_of_the_loss_in_every_parameter(model, packed):
  objective, params = _objective(model, packed)
  key = jax.random.key(0)
  with jax.enable_x64(True):
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
    gradient_of = jax.jit(jax.value_and_grad(objective))
    gradient = gradient_of(params, key)[1]
    rng = np.random.default_rng(3)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    at = lambda distance: gradient_of(
      jax.tree.map(lambda x, d: x + distance * d, params, direction), key
    )[0]
    measured = (at(1e-5) - at(-1e-5)) / 2e-5
  # No leaf may be zero, though parts of one may be: the bias of the
  # Transformer's attention keys, and table rows of pieces that do not occur.
  for path, leaf in jax.tree.leaves_with_path(gradient):
    name = jax.tree_util.keystr(path)
    assert np.isfinite(leaf).all(), name
    assert np.abs(leaf).max() > 1e-6, name
  dot = lambda one, other: np.vdot(np.asarray(one), other)
  slope = sum(jax.tree.leaves(jax.tree.map(dot, gradient, direction)))
  np.testing.assert_allclose(slope, measured, rtol=1e-6)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize('depth', [1, 4])
def test_tfixup_begins_small(depth):
  """Standard deviations by the source's rule: Xavier's is sqrt(2 / (in + out)).

  Normalisation has no parameters.
  """
  size, hidden = 64, 256
  made = transformer.TFixup(500, size, hidden, 4, depth, 0.0, rngs=nnx.Rngs(0))
  names = [path for path, _ in nnx.to_flat_state(nnx.state(made))]
  assert not any('norm' in str(path) for path in names)
  small = (9 * depth) ** -0.25
  square, wide = (1 / size) ** 0.5, (2 / (size + hidden)) ** 0.5
  deviation = lambda x: float(jnp.std(x))
  close = lambda wanted: pytest.approx(wanted, rel=0.05)
  assert deviation(made.embedding.table[...]) == close(small * size**-0.5)
  for side, scale in (
    (made.encoder, 0.67 * depth**-0.25),
    (made.decoder, small),
  ):
    for layer in side:
      source = [layer.source] if side is made.decoder else []
      for own in (layer.attention, *source):
        keys, values = jnp.split(own.key_value.kernel[...], 2, axis=1)
        assert deviation(own.query.kernel[...]) == close(square * 2**-0.5)
        assert deviation(keys) == close(square * 2**-0.5)
        assert deviation(values) == close(scale * square)
        assert deviation(own.out.kernel[...]) == close(scale * square)
      for linear in (layer.forward.widen, layer.forward.narrow):
        assert deviation(linear.kernel[...]) == close(scale * wide)


@pytest.mark.slow
def test_parameters_of_transformer_base():
  def build():
    rngs = nnx.Rngs(0)
    return transformer.Transformer(36000, 512, 2048, 8, 6, 0.1, rngs=rngs)

  attention = 4 * (512 * 512 + 512)  # Query, key, value, output; with biases.
  forward = (512 * 2048 + 2048) + (2048 * 512 + 512)
  norm = 512 + 512  # Scale and bias.
  expected = (
    36000 * 512  # The one table for source, target and output.
    + 6 * (attention + forward + 2 * norm)  # Encoder.
    + 6 * (2 * attention + forward + 3 * norm)  # Decoder.
  )
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
  assert _count(build) == expected
