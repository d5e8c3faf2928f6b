"""Who and when, in whole numbers: what a policy sees, and what it decides.

The server tells its policy about every arrival and does what the policy says.
No policy holds arrays or state: a decision is a pure function of the arrival,
so that any order of arrivals can be replayed.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from stale_adam import checks

MOST = 2**16  # Workers, or gradients in a sum.


class Arrival(NamedTuple):
  """What a policy may know about a push when it arrives.

  Attributes:
    worker: who pushed.
    staleness: updates since its snapshot.
    summed: pushes in the server's sum, without this one.
    version: updates so far.
    waiting: workers without an answer, with this one, in ascending order.
    pushes: of every worker so far, with this one.
  """

  worker: int
  staleness: int
  summed: int
  version: int
  waiting: tuple[int, ...]
  pushes: tuple[int, ...]


class Decision(NamedTuple):
  """What the server does about an arrival, in this order.

  Attributes:
    use: add the push to the sum; otherwise drop it.
    update: then run the optimizer on the sum and clear it.
    publish: then let pulls return the version in force, new or not.
    reply: then answer these waiting workers, in this order.
    restart: then answer these, too, who still compute, in this order. They
      abandon what they have; it never arrives.
  """

  use: bool = True
  update: bool = False
  publish: bool = True
  reply: Sequence[int] = ()
  restart: Sequence[int] = ()


class Policy(Protocol):
  """Decides who is used, when to update, and who is answered.

  A frozen dataclass, whose fields a trace keeps. Seconds are not known to it:
  the order of arrivals alone determines a run.

  A policy may have a property `all_reduce`. If it is true, all workers always
  push at one snapshot, nobody is restarted, no push is dropped, and the update
  on the last of them answers all: then a pool may sum their gradients before
  they arrive.
  """

  @property
  def workers(self) -> int:
    """N, the number of workers."""

  @property
  def local_accumulation(self) -> int:
    """L, batches that a worker is given with every snapshot."""

  def decide(self, arrival: Arrival) -> Decision:
    """What to do about an arrival: a pure function."""


def settings(policy: Policy) -> dict[str, Any]:
  """A policy's name and its fields, for a trace to keep and to compare.

  Raises:
    TypeError: if the policy is not a dataclass, or JSON cannot hold a field.
    ValueError: if workers or local_accumulation is no whole number from 1 to
      65,536, or a number is not finite.
  """
  if not dataclasses.is_dataclass(policy) or isinstance(policy, type):
    raise TypeError(
      f'policy={policy!r}: use an instance of a frozen dataclass, whose fields '
      'a trace can keep'
    )
  for name in ('workers', 'local_accumulation'):
    checks.whole(name, getattr(policy, name), 1, MOST)
  found = {'name': type(policy).__name__} | dataclasses.asdict(policy)
  try:
    return json.loads(json.dumps(found, allow_nan=False, default=_number))
  except (TypeError, ValueError) as error:
    raise type(error)(
      f'policy={policy!r}: a trace keeps its fields as JSON: {error}'
    ) from None


def _number(value: Any) -> Any:
  if hasattr(value, 'tolist'):  # NumPy's or JAX's.
    return value.tolist()
  raise TypeError(f'{value!r} is no JSON')


@dataclasses.dataclass(frozen=True)
class Communication:
  """The paper's five numbers: how workers and server communicate.

  Attributes:
    workers: N, the number of workers.
    local_accumulation: L, gradients that a worker sums at one snapshot before
      it pushes.
    global_accumulation: G, pushes that the server sums before it updates. A
      synchronous update always uses all N pushes: use 1, the default, or N.
    synchronous: nobody pulls until the update that uses all N pushes is done.
    pull_every: U, updates between two published snapshots: artificial
      staleness.

  Raises:
    ValueError: if a number is not whole, below 1 or above 65,536, or G is
      neither 1 nor N while synchronous.

  Source: the paper's sections 4.3 (U) and 5.1 (L, G); Table 3.
  """

  workers: int
  local_accumulation: int = 1
  global_accumulation: int = 1
  synchronous: bool = False
  pull_every: int = 1

  def __post_init__(self) -> None:
    counts = dataclasses.asdict(self)
    synchronous = counts.pop('synchronous')
    if not isinstance(synchronous, bool):
      raise ValueError(f'synchronous={synchronous!r}: use True or False')
    for name, count in counts.items():
      checks.whole(name, count, 1, MOST)
    if synchronous and self.global_accumulation not in (1, self.workers):
      raise ValueError(
        f'global_accumulation={self.global_accumulation}: a synchronous update '
        f'uses the pushes of all {self.workers} workers; leave it at 1, or use '
        f'{self.workers}, which means the same'
      )
    if synchronous:  # Settings that mean the same compare equal.
      object.__setattr__(self, 'global_accumulation', 1)

  @property
  def pushes_per_update(self) -> int:
    """Pushes that one update sums: N if synchronous, else G."""
    return self.workers if self.synchronous else self.global_accumulation

  @property
  def batches_per_update(self) -> int:
    """Batches whose gradients one update sums."""
    return self.pushes_per_update * self.local_accumulation

  @property
  def all_reduce(self) -> bool:
    """Whether pools may sum the workers' gradients; see `Policy`."""
    return self.synchronous

  def decide(self, arrival: Arrival) -> Decision:
    """Update on every G-th push; answer at once, or all after the update."""
    update = arrival.summed + 1 == self.pushes_per_update
    publish = update and (arrival.version + 1) % self.pull_every == 0
    ready = update or not self.synchronous
    return Decision(True, update, publish, arrival.waiting if ready else ())
