"""What an order of arrivals leads to, recorded by running the server dry.

Who pulls which version and what each push does needs no parameters: `serve`
runs on empty pytrees, and every push leaves its numbers.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import server, trace
from stale_adam.policy import Policy
from stale_adam.pools import contract
from stale_adam.problem import Problem
from stale_adam.worker import Push, Work

_NOTHING = Problem(lambda key: {}, lambda *_: jnp.zeros(()), lambda id: id)
_IDENTITY = optax.identity()  # One for all: it is a key of jit's cache.
_BYTES = 1 << 28  # Of batches handed to the compiled program at a time.

# What a push does, as a sum: it is used; the accumulator has pushes already;
# the optimizer runs. A push that is dropped, or none, is IDLE.
IDLE, USED, SUMMED, UPDATED = 0, 1, 2, 4


class _Order(contract.Pool):
  """A pool whose workers arrive in a given order, and compute nothing."""

  def __init__(self, order: np.ndarray):
    self._order = enumerate(order.tolist())
    self._work: dict[int, Work] = {}
    self.sent: list[int] = []  # Workers that were answered, in order.

  def send(self, worker: int, work: Work) -> None:
    self._work[worker] = work
    self.sent.append(worker)

  def receive(self) -> Push | None:
    place, worker = next(self._order, (None, None))
    if place is None or worker is None:
      return None
    if worker not in self._work:
      raise trace.infeasible(place, worker, sorted(self._work))
    work, self.sent = self._work.pop(worker), []
    return Push(worker, work.snapshot.version, work.ids, 0.0, None, {})

  def paused(self) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()

  def state(self) -> dict[str, Any]:
    return {}

  def restore(self, state: Mapping[str, Any]) -> None:
    pass

  def close(self) -> None:
    pass


class Decisions(NamedTuple):
  """What the compiled program is told, by push or by place.

  A place is (group, device): a group's pushes are computed at once, each on a
  device. A place to which no push fell is idle.
  """

  staleness: np.ndarray  # [pushes]
  pulled_version: np.ndarray  # [pushes]
  used: np.ndarray  # [pushes]
  place: np.ndarray  # [pushes], counted through all groups.
  columns: Mapping[str, np.ndarray]  # [groups, devices, ...], by name.

  @property
  def versions(self) -> int:
    """How many are kept: the oldest that is still pulled, and all since."""
    return int(self.staleness.max(initial=0)) + 1

  @property
  def at_once(self) -> int:
    """The most pushes that are computed at once."""
    return int((self.columns['batches'] > 0).sum(1).max(initial=1))

  @property
  def cases(self) -> tuple[int, ...]:
    """Those that occur; the program has code for no other.

    IDLE is always one. Then each push is a branch of a conditional, which XLA
    does not fuse with the gradient: it would round in another way than `serve`.
    """
    return tuple(np.unique([IDLE, *self.columns['case'].ravel()]).tolist())

  def padded(self, length: int) -> 'Decisions':
    """With idle groups up to a multiple of `length`, for one compilation."""
    more = -len(self.columns['case']) % length

    def pad(name: str, x: np.ndarray) -> np.ndarray:
      width = [(0, more), *[(0, 0)] * (x.ndim - 1)]
      return np.pad(x, width, 'edge' if name == 'version' else 'constant')

    columns = {name: pad(name, x) for name, x in self.columns.items()}
    return self._replace(columns=columns)

  def parts(self, problem: Problem) -> Iterator[tuple[Any, Any]]:
    """(columns, batches) of every call of the compiled program.

    Versions are slots of a ring. Batches are stacked by place.
    """
    with _computed():
      leaves = jax.tree.leaves(problem.batch(0))
    size = sum(np.asarray(x).nbytes for x in leaves)
    groups = len(self.columns['case'])
    length = max(1, _BYTES // (size * self.columns['ids'][:1].size or 1))
    whole = self.padded(length) if length < groups else self
    for start in range(0, len(whole.columns['case']), length):
      part = {k: x[start : start + length] for k, x in whole.columns.items()}
      ids = part.pop('ids')
      if ids.shape[1] == 1:  # One device has no axis of its own.
        ids = ids[:, 0]
      with _computed():
        batches = [problem.batch(batch_id) for batch_id in ids.ravel().tolist()]
      stack = lambda *x, ids=ids: np.stack(x).reshape(
        ids.shape + np.shape(x[0])
      )
      for name in ('pulled', 'version'):
        part[name] %= self.versions
      yield part, (ids, jax.tree.map(stack, *batches))


def dry(
  policy: Policy,
  pool: contract.Pool,
  seed: int = 0,
  resume: server.Server | None = None,
) -> Iterator[tuple[dict[str, Any], Push, server.Server]]:
  """Runs `serve` on empty pytrees.

  Args:
    policy: who is used, when to update, who is answered.
    pool: who arrives next; its workers compute nothing.
    seed: only kept in the pushes.
    resume: a server without arrays to continue, as `bare` makes it.

  Yields:
    (numbers of the push by column, push, server) for every arrival.
  """
  before = resume
  known = (_NOTHING, _IDENTITY, policy, pool, seed)
  for push, after in server.serve(*known, resume=resume):
    yield _row(push, before, after), push, after
    before = after


def bare(full: server.Server) -> server.Server:
  """A server without its arrays: numbers and versions, for `dry`."""
  empty = server.init(_IDENTITY, {}, len(full.pushes))
  stripped = lambda snapshot: snapshot._replace(params={})
  held = {
    worker: sent._replace(snapshot=stripped(sent.snapshot))
    for worker, sent in full.held.items()
  }
  return full._replace(
    params=empty.params,
    optimizer_state=empty.optimizer_state,
    per_push_state=empty.per_push_state,
    accumulator=None if full.accumulator is None else {},
    loss=None,
    published=stripped(full.published),
    held=held,
    memory={},
    last=None,
  )


def stacked(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
  """Columns of rows that `dry` yields, [pushes, 1, ...], as for one device."""
  return {
    name: np.array([row[name] for row in rows], np.int32)[:, None]
    for name in _COLUMNS
  }


def span(running: server.Server) -> int:
  """Versions from the oldest that anybody may yet use to the one in force."""
  held = [sent.snapshot.version for sent in running.held.values()]
  return running.version - min([running.published.version, *held]) + 1


def _computed() -> contextlib.AbstractContextManager[None]:
  """Where batches are computed and not traced, even while jit traces us.

  Nothing else if it does not: one operation after the other, as JAX computes
  then, a jitted function of the user's would round differently than in `serve`.
  """
  traced = isinstance(jnp.zeros(()), jax.core.Tracer)
  return jax.ensure_compile_time_eval() if traced else contextlib.nullcontext()


def record(
  policy: Policy, order: np.ndarray, devices: int = 1, replies: bool = False
) -> Decisions:
  """Runs `serve` on empty pytrees and keeps every decision.

  Args:
    policy: who is used, when to update, who is answered.
    order: the worker of every arrival.
    devices: that compute gradients: the most pushes of a group.
    replies: also keep who is answered: N numbers a push.

  Raises:
    ValueError: if a worker arrives that has no work.
  """
  pool = _Order(order)
  names = [*_COLUMNS, *(_REPLIES if replies else ())]
  found: dict[str, list[Any]] = {name: [] for name in names}
  places, used = [], []
  group, filled, newest, before = -1, devices, 0, None
  with jax.ensure_compile_time_eval():  # Even while jit traces us.
    for row, push, after in dry(policy, pool):
      if filled == devices or push.pulled_version > newest:
        group, filled = group + 1, 0
        newest = push.pulled_version + push.staleness
      places.append(group * devices + filled)
      filled += 1
      used.append(push.used)
      if replies:
        answers = [*pool.sent, *[0] * (policy.workers - len(pool.sent))]
        old = 0 if before is None else before.published.version
        row |= {'answered': len(pool.sent), 'replies': answers}
        row |= {'published': after.published.version > old}
        row |= {'total': after.version}
      for name, value in row.items():
        found[name].append(value)
      before = after
  count, shape = len(places), {'ids': (policy.local_accumulation,)}
  shape['replies'] = (policy.workers,)

  def placed(name: str) -> np.ndarray:
    size = shape.get(name, ())
    laid = np.zeros(((group + 1) * devices, *size), np.int32)
    laid[places] = np.reshape(np.array(found[name], np.int32), (count, *size))
    return laid.reshape(group + 1, devices, *size)

  columns = {name: placed(name) for name in names}
  # An idle place leaves the version that it finds.
  version = np.maximum.accumulate(columns['version'].ravel())
  columns['version'] = version.reshape(-1, devices)
  return Decisions(
    staleness=np.array(found['staleness'], np.int32),
    pulled_version=np.array(found['pulled'], np.int32),
    used=np.array(used, bool),
    place=np.array(places, np.int32),
    columns=columns,
  )


_COLUMNS = (
  'worker',
  'pulled',  # Version.
  'staleness',
  'case',
  'summed',  # Pushes in the sum before this one, and their staleness: the sum
  'summed_staleness',  # and the largest.
  'stalest',
  'version',  # In force after the push.
  'batches',  # L; 0 where no push is.
  'ids',  # [L]
)
_REPLIES = (
  'total',  # Updates after the push: 'version' is a slot of a ring.
  'published',  # Whether the push published a version.
  'answered',  # How many workers are, after the push.
  'replies',  # [N], these workers.
)


def _row(
  push: Push, before: server.Server | None, after: server.Server
) -> dict[str, Any]:
  """The numbers of a push, between the server before it and after it."""
  summed = before.summed if before is not None else 0
  version = before.version if before is not None else 0
  updated = after.version > version
  case = USED * push.used + UPDATED * updated + SUMMED * (summed > 0)
  return {
    'worker': push.worker,
    'pulled': push.pulled_version,
    'staleness': push.staleness,
    'case': case if push.used or updated else IDLE,
    'summed': summed,
    'summed_staleness': before.staleness if before is not None else 0,
    'stalest': before.stalest if before is not None else 0,
    'version': after.version,
    'batches': len(push.ids),
    'ids': push.ids,
  }
