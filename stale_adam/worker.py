"""What a worker does: the sum of local gradients at one snapshot."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from stale_adam.problem import Params, Problem

# (params, batch ids) -> (mean loss, sum of the gradients)
Gradient = Callable[[Params, Sequence[int]], tuple[jax.Array, Any]]


def gradient(problem: Problem, key: jax.Array) -> Gradient:
  """Builds the function that every worker of a run computes.

    loss = (1 / L) sum_l loss_l        gradient = sum_l d loss_l / d params

  over the L batches named by the ids, all at the same parameters. The key of a
  batch is `fold_in(key, id)`, so that the result is a pure function of
  (params, ids), whoever computes it, wherever and whenever.

  Args:
    problem: the model and its batches.
    key: root of the keys of all batches.

  Returns:
    `gradient(params, ids)`; thread-safe, compiled once for each device that
    `params` is found on. The gradient shares no memory with any argument.

  Source: local accumulation, the paper's section 5.1.
  """

  def summed(params, ids):
    total = None
    for number in ids:
      batch = problem.batch(number)
      total = _add(problem.loss, total, params, batch, key, number)
    loss, gradients = total
    return loss / len(ids), gradients

  return summed


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _add(loss_function, total, params, batch, key, number):
  key = jax.random.fold_in(key, number)
  new = jax.value_and_grad(loss_function)(params, batch, key)
  if total is not None:
    new = jax.tree.map(jnp.add, total, new)
  return new
