"""How workers and server talk: what tells one method from another."""

import dataclasses
import numbers


@dataclasses.dataclass(frozen=True)
class Communication:
  """How workers and server talk: five numbers.

  Attributes:
    workers: N, the number of workers.
    local_accumulation: L, gradients that a worker sums at one snapshot before
      it pushes.
    global_accumulation: G, pushes that the server sums before it updates. A
      synchronous update always uses all N pushes; there 1 (the default) and N
      mean the same.
    synchronous: nobody pulls until the update that uses all N pushes is done.
    pull_every: U, updates between two snapshots given out: artificial
      staleness.

  Raises:
    ValueError: if a number is not whole or below 1, or G is neither 1 nor N
      while synchronous.

  Source: the paper's sections 4.3 (U) and 5.1 (L, G); Table 3.
  """

  workers: int
  local_accumulation: int = 1
  global_accumulation: int = 1
  synchronous: bool = False
  pull_every: int = 1

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name == 'synchronous':
        if not isinstance(value, bool):
          raise ValueError(f'synchronous={value!r}: use True or False')
        continue
      whole = isinstance(value, numbers.Integral) and not isinstance(
        value, bool
      )
      if not (whole and value >= 1):
        raise ValueError(f'{field.name}={value}: use a whole number, 1 or more')
    if self.synchronous and self.global_accumulation not in (1, self.workers):
      raise ValueError(
        f'global_accumulation={self.global_accumulation}: a synchronous update '
        f'uses the pushes of all {self.workers} workers; leave it at 1, or use '
        f'{self.workers}, which means the same'
      )
    if self.synchronous:  # What means the same is the same.
      object.__setattr__(self, 'global_accumulation', 1)

  @property
  def pushes_per_update(self) -> int:
    """Pushes that one update sums: N if synchronous, else G."""
    return self.workers if self.synchronous else self.global_accumulation

  @property
  def batches_per_update(self) -> int:
    """Batches whose gradients one update sums."""
    return self.pushes_per_update * self.local_accumulation
