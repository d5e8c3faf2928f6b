"""What an order of arrivals decides, found by running the server dry.

Who pulls which version and what each push does needs no parameters: `serve`
itself is run on empty pytrees, which leaves a row of numbers for each push.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from stale_adam import server, trace
from stale_adam.policy import Communication
from stale_adam.problem import Problem

_NOTHING = Problem(lambda key: {}, None, None)
_IDENTITY = optax.identity()  # One for all: it is a key of jit's cache.
IDLE, FIRST, MIDDLE, LAST = range(4)  # Of the pushes that make an update.
_BYTES = 1 << 28  # Of batches handed to the compiled program at a time.


class _Order:
  """A pool whose workers arrive in a given order, and compute nothing."""

  def __init__(self, order: np.ndarray):
    self._order = enumerate(order.tolist())
    self._work: dict[int, server.Work] = {}

  def send(self, number: int, work: server.Work) -> None:
    self._work[number] = work

  def receive(self) -> server.Push | None:
    place, number = next(self._order, (None, None))
    if place is None:
      return None
    if number not in self._work:
      raise trace.infeasible(place, number, sorted(self._work))
    work = self._work.pop(number)
    return server.Push(number, work.snapshot.version, work.ids, 0.0, None, {})


class Rows(NamedTuple):
  """What the compiled program is told, by push or by place.

  A place is (group, device): a group's pushes are computed at once, each on a
  device. A place to which no push fell is idle.
  """

  staleness: np.ndarray  # [pushes]
  pulled_version: np.ndarray  # [pushes]
  place: np.ndarray  # [pushes], counted through all groups.
  pulled: np.ndarray  # [groups, devices], version.
  version: np.ndarray  # [groups, devices], in force after the push.
  case: np.ndarray  # [groups, devices]
  ids: np.ndarray  # [groups, devices, L]

  @property
  def versions(self) -> int:
    """How many are kept: the oldest that is still pulled, and all since."""
    return int(self.staleness.max(initial=0)) + 1

  @property
  def together(self) -> int:
    """The most pushes that are computed at once."""
    return int((self.case != IDLE).sum(1).max(initial=1))

  @property
  def cases(self) -> tuple[int, ...]:
    """Those that occur; the program has code for no other.

    IDLE is always one. Then each push is a branch of a conditional, which XLA
    does not fuse with the gradient: it would round in another way than `serve`.
    """
    return tuple(np.unique([IDLE, *self.case.ravel()]).tolist())

  def padded(self, length: int) -> 'Rows':
    """With idle groups up to a multiple of `length`, for one compilation."""
    more = -len(self.case) % length
    pad = lambda x, mode: np.pad(x, [(0, more), *[(0, 0)] * (x.ndim - 1)], mode)
    return self._replace(
      pulled=pad(self.pulled, 'constant'),
      version=pad(self.version, 'edge'),
      case=pad(self.case, 'constant'),
      ids=pad(self.ids, 'constant'),
    )

  def parts(self, problem: Problem) -> Iterator[tuple[Any, ...]]:
    """The rows and batches of every call of the compiled program."""
    with jax.ensure_compile_time_eval():
      leaves = jax.tree.leaves(problem.batch(0))
    size = sum(np.asarray(x).nbytes for x in leaves)
    length = max(1, _BYTES // (size * self.ids[:1].size or 1))
    rows = self.padded(length) if length < len(self.case) else self
    for start in range(0, len(rows.case), length):
      part = slice(start, start + length)
      ids = rows.ids[part]
      if ids.shape[1] == 1:  # One device has no axis of its own.
        ids = ids[:, 0]
      with jax.ensure_compile_time_eval():
        batches = [problem.batch(number) for number in ids.ravel().tolist()]
      stack = lambda *x, ids=ids: np.stack(x).reshape(
        ids.shape + np.shape(x[0])
      )
      yield (
        (
          rows.pulled[part] % self.versions,
          rows.version[part] % self.versions,
          rows.case[part],
        ),
        (ids, jax.tree.map(stack, *batches)),
      )


def dry_run(
  communication: Communication, order: np.ndarray, devices: int
) -> Rows:
  """Who pulls what, and what each push does: `serve`, with empty pytrees."""
  arrivals = server.serve(_NOTHING, _IDENTITY, communication, _Order(order))
  pushes, versions, places = [], [], []
  group, filled, newest = -1, devices, 0
  with jax.ensure_compile_time_eval():  # Even while jit traces us.
    for push, state in arrivals:
      if filled == devices or push.pulled_version > newest:
        group, filled = group + 1, 0
        newest = push.pulled_version + push.staleness
      places.append(group * devices + filled)
      filled += 1
      pushes.append(push)
      versions.append(state.version)
  count = len(pushes)

  def placed(values, *shape):
    laid = np.zeros(((group + 1) * devices, *shape), np.int32)
    laid[places] = np.reshape(np.array(values, np.int32), (count, *shape))
    return laid.reshape(group + 1, devices, *shape)

  every = communication.pushes_per_update
  cases = [
    LAST if i % every == every - 1 else MIDDLE if i % every else FIRST
    for i in range(count)
  ]
  # An idle place leaves the version that it finds.
  version = np.maximum.accumulate(placed(versions).ravel())
  return Rows(
    staleness=np.array([p.staleness for p in pushes], np.int32),
    pulled_version=np.array([p.pulled_version for p in pushes], np.int32),
    place=np.array(places, np.int32),
    pulled=placed([p.pulled_version for p in pushes]),
    version=version.reshape(-1, devices),
    case=placed(cases),
    ids=placed([p.ids for p in pushes], communication.local_accumulation),
  )
