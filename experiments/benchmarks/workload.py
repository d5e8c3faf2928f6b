"""Batches of random pieces, and how much work a gradient of them is."""

from typing import Any

import jax
import numpy as np

from experiments.ledger.settings import Settings


def random_batch(settings: Settings, batch_id: int) -> dict[str, np.ndarray]:
  """A batch without padding: every row is one sentence."""
  shape, draw = settings.shape, np.random.default_rng(batch_id)
  pieces = lambda length: draw.integers(
    4, settings.vocabulary, (shape.rows, length), np.int32
  )
  ones = lambda length: np.ones((shape.rows, length), np.int32)
  return {
    'source': pieces(shape.source),
    'source_segments': ones(shape.source),
    'target': pieces(shape.target),
    'target_segments': ones(shape.target),
  }


def operations(settings: Settings, params: Any) -> float:
  """Multiplications and additions of a gradient's matrix products.

  Six for each word and parameter: two forward, four backward. The embedding
  counts once, as the output layer. Attention multiplies queries and keys, and
  weights and values: with n positions, 12 n x size more for each word, in each
  of three attentions of a layer.
  """
  shape, sizes = settings.shape, dict(settings.sizes)
  leaves = jax.tree.leaves(params)
  weights = sum(leaf.size for leaf in leaves if leaf.ndim > 1)
  words = shape.rows * shape.target
  attention = 3 * sizes['depth'] * 12 * shape.target * sizes['size']
  return words * (6.0 * weights + attention)
