"""Packed rows, positions, dropout and the embedding table."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stale_adam.nmt.models import layers

SEGMENTS = np.array([[1, 1, 1, 2, 3, 3, 0, 0], [1, 1, 2, 2, 2, 2, 2, 2]])


def test_starts():
  expected = np.zeros((2, 8), bool)
  expected[0, [0, 3, 4, 6]] = True  # Padding counts as a segment.
  expected[1, [0, 2]] = True
  np.testing.assert_array_equal(layers.starts(SEGMENTS), expected)
  leading = layers.starts(np.array([0, 0, 1, 1]))
  np.testing.assert_array_equal(leading, [False, False, True, False])


def test_positions():
  expected = [[0, 1, 2, 0, 0, 1, 0, 1], [0, 1, 0, 1, 2, 3, 4, 5]]
  found = layers.positions(SEGMENTS)
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == jnp.int32


def test_shift():
  tokens = np.array(
    [[11, 12, 13, 21, 31, 32, 0, 0], [41, 42, 51, 52, 53, 54, 55, 56]]
  )
  expected = [[9, 11, 12, 9, 9, 31, 9, 0], [9, 41, 9, 51, 52, 53, 54, 55]]
  found = layers.shift(tokens, SEGMENTS, 9)
  np.testing.assert_array_equal(found, expected)


def test_same_segment():
  queries, keys = np.array([[1, 2, 0]]), np.array([[1, 1, 2, 0]])
  expected = [[[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]]
  found = layers.same_segment(queries, keys)
  np.testing.assert_array_equal(found, np.array(expected, bool))


def test_sinusoids():
  table = np.asarray(layers.sinusoids(50, 8))
  assert table.shape == (50, 8)
  for position in (0, 1, 7, 49):
    for i in range(4):
      angle = position / 10000 ** (2 * i / 8)
      np.testing.assert_allclose(table[position, i], np.sin(angle), atol=1e-5)
      np.testing.assert_allclose(
        table[position, 4 + i], np.cos(angle), atol=1e-5
      )


def test_embedding_is_scaled_rows_of_the_table():
  embedding = layers.Embedding(7, 4, rngs=nnx.Rngs(0))
  tokens = np.array([[3, 0], [6, 3]])
  expected = np.asarray(embedding.table[...])[tokens] * 2.0
  np.testing.assert_allclose(embedding(tokens), expected, rtol=1e-6)


@pytest.mark.parametrize('rate', [0.05, 0.1, 0.5, 0.9])
def test_dropout_keeps_its_rate_and_the_mean(rate):
  count = 200_000
  kept = np.asarray(
    layers.dropout(jnp.ones((count // 100, 100)), rate, jax.random.key(3))
  )
  zero = kept == 0
  np.testing.assert_allclose(kept[~zero], 1 / (1 - rate), rtol=1e-6)
  # Five standard deviations of the mean of `count` independent draws.
  bound = 5 * np.sqrt(rate * (1 - rate) / count)
  assert abs(zero.mean() - rate) < bound
  assert abs(kept.mean() - 1) < bound / (1 - rate)


def test_dropout_treats_rows_columns_and_keys_as_independent():
  ones, rate = jnp.ones((400, 400)), 0.3
  masks = [
    np.asarray(layers.dropout(ones, rate, key)) == 0
    for key in jax.random.split(jax.random.key(0), 3)
  ]
  bound = 5 * np.sqrt(rate * (1 - rate) / 400)
  for mask in masks:
    assert (abs(mask.mean(axis=0) - rate) < bound).all()
    assert (abs(mask.mean(axis=1) - rate) < bound).all()
  pairs = [(masks[0], masks[1]), (masks[1], masks[2])]
  pairs += [(mask[1:], mask[:-1]) for mask in masks]
  pairs += [(mask[:, 1:], mask[:, :-1]) for mask in masks]
  for one, other in pairs:
    both = rate**2
    assert abs((one & other).mean() - both) < 5 * np.sqrt(both / one.size)


def test_dropout_follows_its_key():
  x = jnp.arange(1.0, 101.0)
  key, other = jax.random.split(jax.random.key(0))
  first = layers.dropout(x, 0.5, key)
  np.testing.assert_array_equal(first, layers.dropout(x, 0.5, key))
  assert (first != layers.dropout(x, 0.5, other)).any()


def test_dropout_switches_off():
  x = jnp.arange(6.0)
  np.testing.assert_array_equal(layers.dropout(x, 0.5, None), x)
  np.testing.assert_array_equal(layers.dropout(x, 0.0, jax.random.key(0)), x)


def test_dropout_passes_the_gradient_of_what_it_keeps():
  x = jnp.linspace(1.0, 2.0, 50)
  key = jax.random.key(0)
  mask = layers.dropout(jnp.ones(50), 0.4, key)
  gradient = jax.grad(lambda x: jnp.sum(layers.dropout(x, 0.4, key)))(x)
  np.testing.assert_array_equal(gradient, mask)
