"""Problems and a task that take next to no time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import stale_adam as sa
from stale_adam.training.task import Evaluation

SGD = optax.sgd(1.0)  # One for all runs: programs are kept by it.


def _product(params: Any, batch: Any, key: Any) -> jax.Array:
  del key
  return jnp.vdot(params, batch)


def _whole(number: int) -> np.ndarray:
  return np.array([1.0, number % 8], np.float32)


# Its gradients are its batches, in whole numbers: float32 adds them exactly.
LINEAR = sa.Problem(lambda key: jnp.zeros(2), _product, _whole)


def _error(params: Any, batch: Any, key: jax.Array) -> jax.Array:
  noise = jax.random.normal(key, batch['target'].shape)
  hidden = jnp.tanh(batch['inputs'] @ params['inner'])
  error = hidden @ params['outer'] - batch['target'] - 0.1 * noise
  return jnp.mean(jnp.square(error))


def _init(key: jax.Array) -> Any:
  inner, outer = jax.random.split(key)
  return {
    'inner': jax.random.normal(inner, (4, 6)),
    'outer': jax.random.normal(outer, (6,)),
  }


def _examples(number: int) -> dict[str, np.ndarray]:
  inputs = np.random.default_rng(number).normal(size=(10, 4))
  target = np.sin(inputs.sum(axis=1))
  return {'inputs': np.float32(inputs), 'target': np.float32(target)}


class Regression:
  """Learning a sine: a `training.task.Task`.

  Args:
    said: whether to print the number of each batch that has arrived.
    fails_at: a batch that cannot be read.
  """

  metric, unit, rate = 'score', 'examples', 'examples_per_second'
  units_per_epoch = 1000

  def __init__(self, said: bool = False, fails_at: int | None = None):
    self._said, self._fails_at = said, fails_at
    self.problem = sa.Problem(_init, _error, self._batch)

  def _batch(self, number: int) -> dict[str, np.ndarray]:
    if number == self._fails_at:
      raise OSError(f'batch {number} cannot be read')
    return _examples(number)

  def units(self, batch_id: int) -> int:
    if self._said:
      print(batch_id, flush=True)
    return 10

  def validation_loss(self, params: Any) -> float:
    return float(_error(params, _examples(10**6), jax.random.key(0)))

  def validation_score(self, params: Any) -> float:
    return -self.validation_loss(params)

  def test(self, params: Any) -> Evaluation:
    return Evaluation({'test': self.validation_score(params)})
