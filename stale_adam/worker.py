"""What a worker receives, computes and sends: the sum of local gradients."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stale_adam import flat, sums
from stale_adam.problem import Batch, Params, Problem

AXIS = 'devices'  # The name of `per_device`'s axis, for collectives.

# (loss, message, memory) from (params, ids, memory): what a worker runs.
Compute = Callable[[Params, Sequence[int], Any], tuple[Any, Any, Any]]


class Snapshot(NamedTuple):
  """What a pull returns: parameters, and the version that they belong to."""

  version: int
  params: Params


class Times(NamedTuple):
  """The timeline of a push, in seconds of the pool's clock.

  Attributes:
    pulled: the server sent the work.
    started: the worker has its snapshot and begins to compute.
    computed: the gradient is ready.
    arrived: it is at the server, which handles it at the push's `seconds`.
  """

  pulled: float
  started: float
  computed: float
  arrived: float


class Push(NamedTuple):
  """A worker's contribution, and what is known about it.

  Attributes:
    worker: who pushed.
    pulled_version: version of the snapshot that the push was computed at.
    ids: the L batches that it was computed on.
    seconds: when the server handled it, by the pool's clock.
    loss: mean over the L batches, a scalar array.
    message: what the worker sends, as the parameters: by default the sum of
      the gradients of its L batches. None if the pool has added it to another
      push of the same update (an all-reduce), and once the server has used it.
    memory: the worker's memory after the push; None if it has none, and once
      the server has stored it.
    times: the push's timeline; None if the pool does not know it.
    staleness: version in force on arrival - pulled_version, in updates.
    staleness_pushes: pushes that the server received since the pull.
    age_seconds: since the arrival that the pull was the reply to.
    used: whether the push went into the sum; otherwise it was dropped.
    restarted: workers that abandoned their work when this push arrived.
    nbytes: that the message takes on its way.
    measured: what `measure` returned, by name; None if nothing is measured.
    settings: of the run: policy and seed. Shared by all pushes of a run.
  """

  worker: int
  pulled_version: int
  ids: Sequence[int]
  seconds: float
  loss: Any
  message: Any
  memory: Any = None
  times: Times | None = None
  staleness: int = 0
  staleness_pushes: int = 0
  age_seconds: float = 0.0
  used: bool = True
  restarted: int = 0
  nbytes: int = 0
  measured: Mapping[str, Any] | None = None
  settings: Mapping[str, Any] | None = None


class Work(NamedTuple):
  """What the server sends a worker in reply to its push.

  Attributes:
    compute: `compute(params, ids, memory) -> (loss, message, memory)`.
    snapshot: where to compute.
    ids: the L batches to compute on.
    memory: the worker's memory; None if it has none.
    version: updates applied when this was sent. It exceeds snapshot.version
      only under artificial staleness.
    gradient: the run's gradient. A pool may call `gradient.over` instead of
      `compute` where `compute` is its plain sum; otherwise None.
    group: workers at this snapshot whose messages are only ever used as a sum;
      the pool may return one message for all. 1 if there is no such group.
    settings: of the run, as in its pushes.
    restart: the worker has work already, which it abandons.
    share: bytes of the push to come / those of a whole gradient; a virtual
      clock's push takes this share of its time.
  """

  compute: Compute
  snapshot: Snapshot
  ids: Sequence[int]
  memory: Any
  version: int
  gradient: 'Gradient | None'
  group: int
  settings: Mapping[str, Any]
  restart: bool = False
  share: float = 1.0


class Worker(NamedTuple):
  """What a worker sends, and what it remembers between two pushes.

  Attributes:
    init: `init(params, worker) -> memory`, any pytree of arrays, or None.
    compute: `compute(gradient, params, batches, memory) -> (loss, message,
      memory)`. `batches` is range(L); `gradient(params, batches) -> (loss, sum
      of gradients)` takes all of them or a part, in one call or in several.
      `message` has the structure, shapes and dtypes of the parameters; `loss`
      is the scalar array to report.
    nbytes: `nbytes(params, pushes) -> int`, the bytes that a message takes on
      its way, encoded, after so many pushes of the worker; None for those of a
      whole gradient.

  Between two gradients, and after the last one, all arrays are computed in one
  jitted function: XLA may round two of them differently once they are compiled
  together, as in `simulate`. Nothing is donated: what is in flight may be
  computed again.
  """

  init: Callable[[Params, int], Any]
  compute: Callable[..., tuple[Any, Any, Any]]
  nbytes: Callable[[Params, int], int] | None = None


def size(params: Params) -> int:
  """Bytes of a whole gradient, or of parameters."""
  return sum(x.nbytes for x in jax.tree.leaves(params))


def _sum_locally(
  gradient: Callable[..., Any], params: Params, batches: Any, memory: Any
) -> tuple[Any, Any, Any]:
  return *gradient(params, batches), memory


SUM = Worker(init=lambda params, worker: None, compute=_sum_locally)


def compute(
  worker: Worker,
  gradient: 'Gradient',
  params: Params,
  ids: Sequence[int],
  memory: Any,
) -> tuple[Any, Any, Any]:
  """Runs a worker on the batches that its work names: (loss, message, memory).

  Raises:
    ValueError: if it does not return these three, or the message is not of the
      parameters' structure, shapes and dtypes.
  """
  some = lambda params, batches: gradient(params, [ids[i] for i in batches])
  found = worker.compute(some, params, range(len(ids)), memory)
  if len(found) != 3:
    raise ValueError(
      f'the worker returned {len(found)} values: return loss, message, memory'
    )
  loss, message, new = found
  check_message('worker', message, params)
  # The server reuses the message's memory; what is kept must not share it.
  kept = {id(x) for x in jax.tree.leaves((params, memory, new))}
  copy = lambda x: jnp.copy(x) if id(x) in kept else x
  return loss, jax.tree.map(copy, message), new


def check_message(sender: str, message: Any, params: Params) -> None:
  """Refuses a message that the server cannot sum.

  Raises:
    ValueError: if structure, shapes or dtypes are not the parameters'.
  """
  form = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  if (found := form(message)) != (wanted := form(params)):
    raise ValueError(
      f'the message of the {sender} has shapes and dtypes {found}: it must '
      f'have those of the parameters, {wanted}'
    )


class Gradient:
  """The gradient that every worker of a run computes.

    loss = (1 / L) sum_l loss_l        gradient = sum_l d loss_l / d params

  over the L batches named by the ids, all at the same parameters. Both sums are
  kept in float32 if their own types are narrower; the gradient's is rounded to
  the parameters' types when it is complete. The key of a
  batch is `fold_in(key, id)`, so that the result is a pure function of
  (params, ids), whoever computes it, wherever and whenever.

  Calling it, `gradient(params, ids)`, is thread-safe, and compiles once for
  each device that `params` is on. The result shares no memory with any
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
    """(mean loss, sum of the gradients), on the parameters' device."""
    total: Any = None
    for batch_id in ids:
      batch = self.problem.batch(batch_id)
      total = add(self.problem.loss, total, params, batch, self.key, batch_id)
      if len(ids) > 1:  # One is no sum.
        total = sums.widened(total)
    loss, gradient = total
    return loss / len(ids), sums.narrowed(gradient, params)

  def over(
    self, devices: Sequence[jax.Device], params: Params
  ) -> Callable[
    [jax.Array, Sequence[Sequence[int]]], tuple[jax.Array, jax.Array]
  ]:
    """The same for one worker on each of several devices, at one snapshot.

    Parameters and gradients travel as flat vectors: the cost of moving a pytree
    grows with its leaves.

    Args:
      devices: where the workers are.
      params: of the problem, for their structure.

    Returns:
      `compute(vector, ids)`, ids of each worker's batches, which returns
      (losses, one for each worker; the sum of all gradients, flat). With
      several devices that sum is an all-reduce, which adds in an order of its
      own.
    """
    first, another, finish = _programs(
      self.problem.loss, tuple(devices), flat.Structure(params)
    )

    def compute(
      vector: jax.Array, ids: Sequence[Sequence[int]]
    ) -> tuple[jax.Array, jax.Array]:
      total = None
      for batch_ids in zip(*ids, strict=True):
        batches = [self.problem.batch(batch_id) for batch_id in batch_ids]
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
        more = (vector, batch, self.key, np.array(batch_ids))
        # pmap confuses the axes of its arguments if one of them is None.
        total = first(*more) if total is None else another(total, *more)
      losses, vectors = finish(total)
      return losses / len(ids[0]), vectors.addressable_shards[0].data[0]

    return compute


@functools.lru_cache(maxsize=64)
def _programs(
  loss: Callable[..., jax.Array],
  devices: tuple[jax.Device, ...],
  structure: flat.Structure,
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
  """On every device: a first batch, another one, and the end of the sum."""
  # One device has nothing to reduce, and its sum is exact.
  several = len(devices) > 1
  reduce = lambda x: jax.lax.psum(x, AXIS) if several else x
  first = lambda vector, batch, key, batch_id: add(
    loss, None, structure.unravel(vector), batch, key, batch_id
  )
  another = lambda total, vector, batch, key, batch_id: add(
    loss, total, structure.unravel(vector), batch, key, batch_id
  )
  # The sum over devices, too, is rounded when it is complete.
  finish = lambda total: (
    total[0],
    reduce(flat.ravel(sums.widened(total[1]))).astype(structure.dtype),
  )
  return (
    per_device(first, devices, in_axes=(None, 0, None, 0)),
    per_device(another, devices, in_axes=(0, None, 0, None, 0)),
    per_device(finish, devices),
  )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def add(
  loss_function: Callable[[Params, Batch, jax.Array], jax.Array],
  total: tuple[jax.Array, Any] | None,
  params: Params,
  batch: Batch,
  key: jax.Array,
  batch_id: Any,
) -> tuple[jax.Array, Any]:
  """Adds a batch to (loss, gradient): theirs alone if `total` is None.

  Sums have the types of `sums.widened`.
  """
  key = jax.random.fold_in(key, batch_id)
  new = jax.value_and_grad(loss_function)(params, batch, key)
  if total is not None:
    new = sums.add(total, new)
  return new


def per_device(
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
