"""The contract between a model and everything that trains it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Params = Any  # A pytree of arrays.
Batch = Any  # A pytree of arrays whose shapes are the same for every id.


class Problem(NamedTuple):
  """A training problem: three pure functions.

  Attributes:
    init: `init(key) -> params`, a pytree of arrays.
    loss: `loss(params, batch, key) -> scalar`, differentiable in `params`;
      `key` is for randomness in the model, such as dropout.
    batch: `batch(id) -> pytree of arrays`, a pure function of the non-negative
      batch id, with the same shapes and dtypes for every id.
  """

  init: Callable[[jax.Array], Params]
  loss: Callable[[Params, Batch, jax.Array], jax.Array]
  batch: Callable[[int], Batch]
