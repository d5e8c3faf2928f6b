"""What a worker does: the sum of local gradients at one snapshot."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from stale_adam.problem import Params, Problem

AXIS = 'devices'  # What `parallel` names its axis, for collectives.


class Gradient:
  """The function that every worker of a run computes.

    loss = (1 / L) sum_l loss_l        gradient = sum_l d loss_l / d params

  over the L batches named by the ids, all at the same parameters. The key of a
  batch is `fold_in(key, id)`, so that the result is a pure function of
  (params, ids), whoever computes it, wherever and whenever.

  Calling it, `gradient(params, ids)`, is thread-safe, and compiled once for
  each device that `params` is found on. The result shares no memory with any
  argument.

  Args:
    problem: the model and its batches.
    key: root of the keys of all batches.

  Source: local accumulation, the paper's section 5.1.
  """

  def __init__(self, problem: Problem, key: jax.Array):
    self.problem, self.key = problem, key

  def __call__(
    self, params: Params, ids: Sequence[int]
  ) -> tuple[jax.Array, Any]:
    """(mean loss, sum of the gradients), on one device."""
    total = None
    for number in ids:
      batch = self.problem.batch(number)
      total = add(self.problem.loss, total, params, batch, self.key, number)
    loss, gradient = total
    return loss / len(ids), gradient

  def over(
    self, devices: Sequence[jax.Device], params: Params
  ) -> Callable[[jax.Array, Sequence[Sequence[int]]], tuple[jax.Array, Any]]:
    """The same for one worker on each of `devices`, all at one snapshot.

    Parameters and gradients travel as flat vectors: moving a pytree takes a
    time for every leaf.

    Args:
      devices: where the workers are.
      params: of the problem, for their structure.

    Returns:
      `compute(vector, ids)`, ids of each worker's batches, which returns
      (losses, one for each worker; the sum of all gradients, flat). That sum is
      an all-reduce, which adds in an order of its own.
    """
    first, another, finish = _programs(
      self.problem.loss, tuple(devices), _Structure(params)
    )

    def compute(vector, ids):
      total = None
      for numbers in zip(*ids, strict=True):
        batches = [self.problem.batch(number) for number in numbers]
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
        more = (vector, batch, self.key, np.array(numbers))
        # pmap confuses the axes of its arguments if one of them is None.
        total = first(*more) if total is None else another(total, *more)
      losses, vectors = finish(total)
      return losses / len(ids[0]), vectors.addressable_shards[0].data[0]

    return compute


class _Structure:
  """What a program depends on: equal if all shapes and types are."""

  def __init__(self, params: Params):
    leaves, tree = jax.tree.flatten(params)
    self._key = tree, tuple((x.shape, x.dtype) for x in leaves)
    self.unravel = ravel_pytree(params)[1]

  def __eq__(self, other):
    return self._key == other._key

  def __hash__(self):
    return hash(self._key)


@functools.lru_cache(maxsize=64)
def _programs(loss, devices, structure):
  """On every device: a first batch, another one, and the end of it."""
  # One device has nothing to reduce, and its sum is exact.
  several = len(devices) > 1
  reduce = lambda x: jax.lax.psum(x, AXIS) if several else x
  first = lambda vector, batch, key, number: add(
    loss, None, structure.unravel(vector), batch, key, number
  )
  another = lambda total, vector, batch, key, number: add(
    loss, total, structure.unravel(vector), batch, key, number
  )
  finish = lambda total: (total[0], reduce(ravel_pytree(total[1])[0]))
  return (
    parallel(first, devices, in_axes=(None, 0, None, 0)),
    parallel(another, devices, in_axes=(0, None, 0, None, 0)),
    parallel(finish, devices),
  )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def add(loss_function, total, params, batch, key, number):
  """Adds a batch to (loss, gradient): theirs alone if `total` is None."""
  key = jax.random.fold_in(key, number)
  new = jax.value_and_grad(loss_function)(params, batch, key)
  if total is not None:
    new = jax.tree.map(jnp.add, total, new)
  return new


def parallel(
  function: Callable[..., Any],
  devices: Sequence[jax.Device],
  in_axes: Any = 0,
  out_axes: Any = 0,
) -> Callable[..., Any]:
  """`function` on several devices at once: the only use of pmap.

  Args:
    function: of one device's part; may use collectives over `AXIS`.
    devices: where.
    in_axes: by argument, the axis along which each device has its part, or
      None: the same for all.
    out_axes: likewise, by result.
  """
  return jax.pmap(
    function,
    axis_name=AXIS,
    devices=devices,
    in_axes=in_axes,
    out_axes=out_axes,
  )
