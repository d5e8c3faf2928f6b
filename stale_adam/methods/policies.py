"""Policies: which pushes are used, when to update, and who is answered.

Sums stay sums, as everywhere in this library; where a source divides an update
by the number of its pushes, `average_pushes` does. K-batch-async (Dutta et al.
2018) is `Communication` with global_accumulation = K.
"""

import dataclasses
from typing import Any

import optax

from stale_adam import checks
from stale_adam.methods import rates
from stale_adam.policy import MOST, Arrival, Communication, Decision


@dataclasses.dataclass(frozen=True)
class _Workers:
  """What every policy has."""

  workers: int
  local_accumulation: int = dataclasses.field(default=1, kw_only=True)

  def __post_init__(self) -> None:
    checks.whole('workers', self.workers, 1, MOST)
    checks.whole('local_accumulation', self.local_accumulation, 1, MOST)


@dataclasses.dataclass(frozen=True)
class BackupWorkers(_Workers):
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
    Distributed Synchronous SGD". The paper was not at hand; checked against
    TensorFlow's SyncReplicasOptimizer. It divides the sum by N - b, and there a
    fast worker may push twice for an update.
  """

  backups: int = 1

  def __post_init__(self) -> None:
    super().__post_init__()
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


@dataclasses.dataclass(frozen=True)
class DropStale(_Workers):
  """Asynchronous training that drops what is too stale.

  A push is dropped if its staleness exceeds the threshold, and its worker is
  answered at once, as all others are.

  Attributes:
    workers: N.
    threshold: the largest staleness, in updates, that is used. Ringmaster ASGD
      with the threshold R drops staleness R and more: its threshold is R - 1
      here.
    global_accumulation: G, pushes that an update sums. With a threshold of 0
      this is Rennala SGD, whose S is G: the updates are those of synchronous
      training. If G = N and all workers are equally fast, it drops N - 1 of
      2 N - 1 pushes: those who are answered before the update go on with what
      it makes old.
    local_accumulation: L, gradients that a worker sums before it pushes.

  Raises:
    ValueError: if a number is not whole, G is below 1 or the threshold below 0.

  Source: Maranjyan, Tyurin and Richtarik (2025), "Ringmaster ASGD", in the form
    that discards; the rule itself is older. Tyurin and Richtarik (2023),
    "Optimal Time Complexities of Parallel Stochastic Optimization Methods Under
    a Fixed Computation Model": Rennala SGD.
  """

  threshold: int
  global_accumulation: int = 1

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.whole('threshold', self.threshold, 0)
    checks.whole('global_accumulation', self.global_accumulation, 1, MOST)

  def decide(self, arrival: Arrival) -> Decision:
    use = arrival.staleness <= self.threshold
    update = use and arrival.summed + 1 == self.global_accumulation
    return Decision(use, update, reply=(arrival.worker,))


@dataclasses.dataclass(frozen=True)
class FirstWorkers(_Workers):
  """K-sync: an update uses the first K workers, and the others are restarted.

  All then pull the new version, so that nothing is ever stale. With K = N this
  is synchronous training.

  Attributes:
    workers: N.
    first: K, pushes that an update uses.
    local_accumulation: L, gradients that a worker sums before it pushes.

  Raises:
    ValueError: if a number is not whole, or K is not from 1 to N.

  Source: Dutta, Joshi, Ghosh, Dube and Nagpurkar (2018), "Slow and Stale
    Gradients Can Win the Race", as in the paper. They divide the sum by K.
  """

  first: int

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.whole('first', self.first, 1, self.workers)

  def decide(self, arrival: Arrival) -> Decision:
    if arrival.summed + 1 < self.first:
      return Decision()
    others = sorted({*range(self.workers)} - {*arrival.waiting})
    return Decision(update=True, reply=arrival.waiting, restart=others)


@dataclasses.dataclass(frozen=True)
class FreshPushes(_Workers):
  """K-batch-sync: an update uses K pushes of the current version.

  Whoever pushes is answered at once: with the same snapshot and other batches
  until the update is made. So fast workers push several times. Then all others
  are restarted, so that nothing is ever stale. Rennala SGD does not restart
  them, and drops what they push: `DropStale` with a threshold of 0.

  Attributes:
    workers: N.
    pushes: K, pushes that an update uses.
    local_accumulation: L, gradients that a worker sums before it pushes.

  Raises:
    ValueError: if a number is not whole or below 1.

  Source: Dutta et al. (2018), see `FirstWorkers`: K-batch-sync; Diskin et al.
    (2021): a target batch, to which whoever is there contributes.
  """

  pushes: int

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.whole('pushes', self.pushes, 1, MOST)

  def decide(self, arrival: Arrival) -> Decision:
    me = arrival.worker
    if arrival.summed + 1 < self.pushes:
      return Decision(reply=(me,))
    others = [w for w in range(self.workers) if w != me]
    return Decision(update=True, reply=(me,), restart=others)


@dataclasses.dataclass(frozen=True)
class FirstToFinish(_Workers):
  """K-async and AdaSync: an update uses pushes of the first K workers.

  They wait for the update and pull the new version; the others go on with what
  they have, which will be stale. K may grow during the run, which lowers the
  staleness later on. With K = N this is synchronous training, with
  K = 1 plain asynchronous training.

  Attributes:
    workers: N.
    first: K, a number; or pairs (version, K), ascending, the first of version
      0: the K of an update is that of the last version that it has reached.
    local_accumulation: L, gradients that a worker sums before it pushes.

  Raises:
    ValueError: if a K is not from 1 to N, or the versions do not ascend from 0.

  Source: Dutta et al. (2018), see `FirstWorkers`: K-async, as in the paper,
    which divides the sum by K; Dutta, Wang and Joshi (2020), "Slow and Stale
    Gradients Can Win the Race", AdaSync: they choose K by the loss; here it
    follows a table, so that a run replays. ABS (Tan et al. 2023) also restarts
    workers that are too stale, and adds local updates. These two papers were
    not at hand.
  """

  first: int | tuple[tuple[int, int], ...]

  def __post_init__(self) -> None:
    super().__post_init__()
    versions = [version for version, _ in self._table]
    if versions[:1] != [0] or versions != sorted({*versions}):
      raise ValueError(
        f'first={self.first}: use a number of workers, or pairs (version, '
        'workers) whose versions ascend from 0'
      )
    for _, first in self._table:
      checks.whole('first', first, 1, self.workers)

  @property
  def _table(self) -> tuple[tuple[int, int], ...]:
    return self.first if isinstance(self.first, tuple) else ((0, self.first),)

  def decide(self, arrival: Arrival) -> Decision:
    *_, first = (k for v, k in self._table if v <= arrival.version)
    update = arrival.summed + 1 >= first
    return Decision(update=update, reply=arrival.waiting if update else ())


@dataclasses.dataclass(frozen=True)
class StaleSynchronous(_Workers):
  """Stale synchronous parallel: who is more than s pushes ahead waits.

  Every push is an update. Its worker is answered unless it has made more than s
  pushes more than the slowest worker; then it waits for that one.

  Attributes:
    workers: N.
    slack: s, the largest lead in pushes with which a worker goes on; 0 is a
      barrier after every round.
    local_accumulation: L, gradients that a worker sums before it pushes.

  Raises:
    ValueError: if a number is not whole, or s is negative.

  Source: Ho et al. (2013), "More Effective Distributed ML via a Stale
    Synchronous Parallel Parameter Server". The paper was not at hand; checked
    against Bosen, code of the same group. There a worker caches parameters and
    reads them again only when they are too old; here it pulls after every push.
  """

  slack: int

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.whole('slack', self.slack, 0)

  def decide(self, arrival: Arrival) -> Decision:
    limit = min(arrival.pushes) + self.slack
    ready = [w for w in arrival.waiting if arrival.pushes[w] <= limit]
    return Decision(update=True, reply=ready)


@dataclasses.dataclass(frozen=True)
class OneRoundLate(_Workers):
  """Synchronous training whose workers pull the version before the newest.

  An update uses the pushes of all workers. They pull the version before it, as
  if they had begun to compute while it was made and sent. So every push is
  exactly one update stale, after the first round. Pools do not overlap the two:
  a clock for it has push_seconds and pull_seconds of 0.

  Attributes:
    workers: N, at least 2.
    local_accumulation: L, gradients that a worker sums before it pushes.

  Raises:
    ValueError: if a number is not whole, or N is below 2.

  Source: delayed parameter updates, an option of hivemind, the library of
    Diskin et al. (2021), "Distributed Deep Learning in Open Collaborations", as
    in its code; `delay(inner, 1)` in a training loop. ACCO (Nabli et al. 2024)
    goes on from there: it guesses the parameters and takes the guess back.
  """

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.whole('workers', self.workers, 2, MOST)

  def decide(self, arrival: Arrival) -> Decision:
    first, last = arrival.summed == 0, arrival.summed + 1 == self.workers
    # The first push of a round publishes what the round before it made.
    return Decision(True, last, first, arrival.waiting if last else ())


def softsync(
  optimizer: optax.GradientTransformation,
  workers: int,
  splits: int = 1,
  local_accumulation: int = 1,
) -> dict[str, Any]:
  """n-softsync: updates on the mean of N // n pushes, at 1 / n of the rate.

    theta <- theta - eta / n mean(g_1 ... g_c),   c = floor(N / n)

  Mean staleness is then about n, by which the source divides the rate. With
  n = 1 this is 1-softsync, an update for as many pushes as there are workers,
  and with n = N plain asynchronous training at 1 / N of the rate.

  Args:
    optimizer: the server's, at the rate eta of synchronous training.
    workers: N.
    splits: n, updates for as many pushes as there are workers.
    local_accumulation: L, gradients that a worker sums before it pushes.

  Returns:
    Arguments of `serve` and `simulate`: `policy` and `optimizer`.

  Raises:
    ValueError: if N or L is not a whole number from 1 on, or n not one from 1
      to N.

  Source: Gupta, Zhang and Wang (2016), "Model Accuracy and Runtime Tradeoff in
    Distributed Deep Learning: A Systematic Study" (Rudra). The paper was not at
    hand: the rule is as commonly stated. It has SGD; that what another
    optimizer makes is divided by n is ours.
  """
  checks.whole('workers', workers, 1, MOST)
  checks.whole('splits', splits, 1, workers)
  count = workers // splits
  policy = Communication(workers, local_accumulation, count)
  chained = optax.chain(
    rates.average_pushes(), optimizer, optax.scale(1 / splits)
  )
  return {'policy': policy, 'optimizer': chained}
