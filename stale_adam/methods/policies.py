"""Policies: which pushes are used, when to update, and who is answered."""

import dataclasses

from stale_adam import checks
from stale_adam.policy import MOST, Arrival, Decision


@dataclasses.dataclass(frozen=True)
class BackupWorkers:
  """Synchronous training that does not wait for its slowest workers.

  An update uses the first N - b pushes of the current version; their workers
  are answered after it. A push of an older version is dropped, and its worker
  is answered at once. With b = 0 this is synchronous training.

  Attributes:
    workers: N, backups included.
    backups: b, pushes that an update does not wait for.
    local_accumulation: L, gradients that a worker sums before it pushes.

  Raises:
    ValueError: if a number is not whole, b is negative, or N - b is below 1.

  Source: Chen, Pan, Monga, Bengio and Jozefowicz (2016), "Revisiting
    Distributed Synchronous SGD". They divide the sum by N - b; here, as
    everywhere in this library, it stays a sum.
  """

  workers: int
  backups: int = 1
  local_accumulation: int = 1

  def __post_init__(self) -> None:
    checks.whole('workers', self.workers, 1, MOST)
    checks.whole('local_accumulation', self.local_accumulation, 1, MOST)
    checks.whole('backups', self.backups, 0)
    if self.backups >= self.workers:
      raise ValueError(
        f'backups={self.backups}: an update needs at least one of the '
        f'{self.workers} workers; use fewer backups than workers'
      )

  def decide(self, arrival: Arrival) -> Decision:
    if arrival.staleness > 0:
      return Decision(use=False, reply=(arrival.worker,))
    update = arrival.summed + 1 == self.workers - self.backups
    return Decision(True, update, reply=arrival.waiting if update else ())
