"""Label-smoothed cross-entropy against NumPy and against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stale_adam.nmt.models import loss

POSITIONS, SIZE, VOCABULARY = 12, 5, 7


def _case():
  rng = np.random.default_rng(0)
  hidden = rng.normal(size=(POSITIONS, SIZE)).astype(np.float32) * 2
  table = rng.normal(size=(VOCABULARY, SIZE)).astype(np.float32)
  targets = rng.integers(0, VOCABULARY, POSITIONS).astype(np.int32)
  weights = rng.uniform(0.5, 2.0, POSITIONS).astype(np.float32)
  weights[[2, 3, 11]] = 0
  return hidden, table, targets, weights


def _reference(hidden, table, targets, weights, smoothing):
  """Value and both gradients, from the equations, in float64."""
  hidden, table, weights = (
    x.astype(np.float64) for x in (hidden, table, weights)
  )
  logits = hidden @ table.T
  probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  wanted = np.eye(VOCABULARY)[targets] * (1 - smoothing)
  wanted += smoothing / VOCABULARY
  value = -np.sum(weights[:, None] * wanted * np.log(probability))
  error = weights[:, None] * (probability - wanted)
  return value, error @ table, error.T @ hidden


def _naive(hidden, table, targets, weights, smoothing):
  logs = jax.nn.log_softmax(hidden @ table.T)
  picked = jnp.take_along_axis(logs, targets[:, None], axis=1)[:, 0]
  cost = -(1 - smoothing) * picked - smoothing * jnp.mean(logs, axis=1)
  return jnp.sum(cost * weights)


@pytest.mark.slow
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('chunk', [1, 4, 12, 100])
def test_value_and_gradients(smoothing, chunk):
  case = _case()

  def cost(hidden, table):
    return loss.cross_entropy(hidden, table, *case[2:], smoothing, chunk)

  value, *expected = _reference(*case, smoothing)
  found, gradients = jax.value_and_grad(cost, (0, 1))(*case[:2])
  np.testing.assert_allclose(found, value, rtol=1e-5)
  np.testing.assert_allclose(cost(*case[:2]), value, rtol=1e-5)
  for gradient, reference in zip(gradients, expected, strict=True):
    np.testing.assert_allclose(gradient, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_agrees_with_log_softmax_differentiated(smoothing):
  case = _case()
  found = jax.grad(loss.cross_entropy, (0, 1))(*case, smoothing, 4)
  expected = jax.grad(_naive, (0, 1))(*case, smoothing)
  for gradient, reference in zip(found, expected, strict=True):
    np.testing.assert_allclose(gradient, reference, rtol=1e-4, atol=1e-5)


def test_gradient_scales_with_what_follows():
  case = _case()
  double = lambda hidden: 2 * loss.cross_entropy(hidden, *case[1:], 0.1, 4)
  once = jax.grad(loss.cross_entropy)(*case, 0.1, 4)
  np.testing.assert_allclose(jax.grad(double)(case[0]), 2 * once, rtol=1e-6)


def test_a_weight_of_zero_removes_a_position():
  hidden, table, targets, weights = _case()
  present = weights > 0
  some = loss.cross_entropy(
    hidden[present], table, targets[present], weights[present], 0.1, 3
  )
  every = loss.cross_entropy(hidden, table, targets, weights, 0.1, 4)
  np.testing.assert_allclose(some, every, rtol=1e-6)
  gradient = jax.grad(loss.cross_entropy)(hidden, table, targets, weights)
  np.testing.assert_array_equal(gradient[~present], 0)


def test_large_logits_stay_finite():
  hidden, table, targets, weights = _case()
  args = 1000 * hidden, table, targets, weights, 0.1, 4
  value, gradient = jax.value_and_grad(loss.cross_entropy)(*args)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize('chunk', [5, 8])
def test_chunk_must_divide(chunk):
  with pytest.raises(ValueError, match=f'chunk={chunk} must divide the 12'):
    loss.cross_entropy(*_case(), 0.1, chunk)
  with pytest.raises(ValueError, match=f'chunk={chunk} must divide the 12'):
    jax.grad(loss.cross_entropy)(*_case(), 0.1, chunk)
