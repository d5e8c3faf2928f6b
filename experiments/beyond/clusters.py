"""Beyond the paper: when does asynchrony pay?

  python -m experiments.beyond.clusters --scale=tiny

Question: on which clusters does 4x global accumulation, or plain asynchronous
training at the better of two rates, reach 95% of the best synchronous BLEU, the
mean over the seeds, before synchronous training does? On the paper's four
workers, or on 8 or 16 such; and on four that differ from them in one respect:
compute times that are gamma-distributed with a coefficient of variation of
0.25, 0.5 or 1; one of four workers half as fast (`half`); four speeds, 2.6 : 2
: 1.3 : 1 (`mixed`); an exchange, push and pull, of a twentieth to half of the
compute time. 8 workers sum 8 pushes, and 16 sum 16. A backup worker is a fifth
machine, as fast as the fastest; an update waits for all but one.

The parameters of a synchronous run do not depend on the clock. Of asynchronous
runs, we assume that the words they need to a target hardly depend on the order
of arrivals. So the seconds are those of the run on the paper's cluster, times
its raw speed there, over its raw speed here; dry runs of the clock measure
both. Four runs that are trained on their own cluster test the assumption. An
update with a backup worker is a synchronous update of other batches. Since the
schedule counts updates, plain asynchronous training warms up for a quarter of
the words: synchronous runs whose schedule is as short in words, at the same two
rates, show what that alone does. 38 runs, 16 of them also in Tables 1 and 3 and
in `workers`; about an hour and a half on two processor cores at `tiny`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import command
from experiments.beyond import workers
from experiments.ledger import runs
from experiments.ledger.cluster import CLUSTERS, PAPER
from experiments.ledger.records import Records, spread
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from experiments.paper.ratios import Ratio, ratio
from experiments.render import figures
from stale_adam import theory
from stale_adam.clock import Clock
from stale_adam.compiled import decisions
from stale_adam.methods import BackupWorkers
from stale_adam.policy import Communication, Policy
from stale_adam.pools.virtual import Dry
from stale_adam.training.record import best, seconds_to, virtual_speed

PUSHES = 4000  # Of a dry run.
SHARE = 0.95  # Of the synchronous best.
TARGETS = (0.5, 0.75, 0.9, SHARE, 0.98)
SYNC, GLOBAL, ASYNC = 'synchronous', 'G = N', 'G = 1'  # Keys of workers.PUSHES.
BACKUP = 'backup worker'
WORKERS = (4, 8, 16)
CAPTION = (
  'Left: where a line is above 1, global accumulation is sooner there than '
  'synchronous training; the legend has the coefficient of variation from '
  "which on it is. Right: four workers that differ from the paper's in one "
  'respect; exchange: push and pull, in percent of the compute time. On the '
  'left the raw speed is that of theory, on the right that of dry runs. Bands '
  'and bars are two standard errors of the words needed; those of backup '
  'workers are assumed to be as many as those of synchronous training.'
)
SAID = {  # Of the clusters on the right, how they differ.
  PAPER: "the paper's cluster",
  'half': 'one half as fast',
  'mixed': 'speeds 2.6, 2, 1.3, 1',
  'exchange0.05': 'exchange 5%',
  'exchange0.1': 'exchange 10%',
  'exchange0.25': 'exchange 25%',
  'exchange0.5': 'exchange 50%',
}
SPREADS = [i / 20 for i in range(21)]
CASES = [*((name, 4) for name in CLUSTERS), (PAPER, 8), (PAPER, 16)]


RATES = list(paper.TABLE1)[:2]  # Where plain asynchronous training loses least.


def plain(count: int) -> list[Settings]:
  """The plain asynchronous runs."""
  made = workers.declare(count, ASYNC)
  return [dataclasses.replace(made, learning_rate=rate) for rate in RATES]


# Synchronous, with the schedule that four plain asynchronous workers have.
SHORT = [
  dataclasses.replace(
    workers.declare(4, SYNC), learning_rate=rate, ticks_per_update=4
  )
  for rate in RATES
]


TRAINED = [  # Beside the same runs on the paper's cluster.
  dataclasses.replace(run, cluster=name)
  for name in ('gamma1', 'mixed')
  for run in (workers.declare(4, GLOBAL), plain(4)[0])
]
RUNS = runs.seeds(
  workers.declare(n, kind) for n in WORKERS for kind in (SYNC, GLOBAL)
)
RUNS += runs.seeds([*plain(4), *SHORT]) + [*plain(8), *plain(16), *TRAINED]


@functools.cache
def speed(clock: Clock, policy: Policy) -> float:
  """Batches whose gradients updates use in a virtual second, by a dry run."""
  used, found = 0, math.nan
  with Dry(clock) as pool:
    arrivals = decisions.dry(policy, pool)
    for _, push, server in itertools.islice(arrivals, PUSHES):
      used += push.used
      if push.used and not server.summed:  # An update.
        found = used / push.seconds
  return found


def seconds(
  found: Sequence[float | None],
  run: Settings,
  cluster: str,
  policy: Policy | None = None,
) -> list[float | None]:
  """Virtual seconds on a cluster, of those on the run's own; None stays None.

  Args:
    found: seconds to a goal, by seed.
    run: the one that took them.
    cluster: a name in cluster.py.
    policy: one whose updates have the same curve; the run's own by default.
  """
  if not any(found):  # No dry run for nothing.
    return list(found)
  factor = faster(run, cluster, policy or run.communication)
  return [None if one is None else one / factor for one in found]


def faster(run: Settings, cluster: str, policy: Policy) -> float:
  """Raw speed of a policy on a cluster, over the run's own on its own."""
  there = dataclasses.replace(run, cluster=cluster)
  here = speed(run.clock(1.0), _alike(run.communication))
  return speed(there.clock(1.0), _alike(policy)) / here


def _alike(policy: Policy) -> Policy:
  """One policy for all that are equally fast, for fewer dry runs.

  Updates take no time here, so asynchronous workers are as fast for any G.
  """
  if isinstance(policy, Communication) and not policy.synchronous:
    return dataclasses.replace(policy, global_accumulation=1)
  return policy


def raw(cluster: str, count: int) -> tuple[float, float]:
  """Raw speed, asynchronous over synchronous: by theory, and of dry runs."""
  pair = [workers.declare(count, kind) for kind in (SYNC, GLOBAL)]
  clock = dataclasses.replace(pair[0], cluster=cluster).clock(1.0)
  rate = theory.asynchronous_rate(clock, count, count)
  expected = theory.synchronous_seconds(clock, count) * rate / count
  slow, fast = (speed(clock, _alike(run.communication)) for run in pair)
  return expected, fast / slow


def goal(records: Records, count: int, share: float = SHARE) -> float:
  """A share of the mean of the synchronous best BLEU."""
  return share * (records.mean(workers.declare(count, SYNC)) or 0.0)


def compared(
  records: Records, cluster: str, count: int, share: float = SHARE
) -> dict[str, tuple[list[float | None], list[float | None]]]:
  """Seconds to the goal, synchronous and of the others, by the others' name.

  Of each pair, those of the seeds that both runs have, in the same order.
  """
  waiting = workers.declare(count, SYNC)
  accumulating = workers.declare(count, GLOBAL)
  others = {
    '4x global' if count == 4 else GLOBAL: (accumulating, None),
    BACKUP: (waiting, BackupWorkers(count + 1)),
    'plain': (_better(records, plain(count)), None),
  }
  target = goal(records, count, share)
  to_goal = functools.partial(seconds_to, target=target)
  pairs = {}
  for name, (run, policy) in others.items():
    slow, fast = records.paired(waiting, run, to_goal)
    fast = seconds(fast, run, cluster, policy)
    pairs[name] = seconds(slow, waiting, cluster), fast
  return pairs


def _better(records: Records, made: Sequence[Settings]) -> Settings:
  """The run with the higher mean BLEU of those that have records."""
  tried = [run for run in made if records.all(run)]
  return max(tried, key=records.mean, default=made[0])


def quotient(
  ours: Sequence[float | None], theirs: Sequence[float | None]
) -> Ratio | None:
  """The ratio of both means; None where one is missing, never or 0."""
  if None in (*ours, *theirs) or not (any(ours) and any(theirs)):
    return None
  return ratio(ours, theirs)


def cell(slow: Sequence[float | None], fast: Sequence[float | None]) -> str:
  """A ratio of seconds as text; where there is none, why."""
  if found := quotient(slow, fast):
    return found.text(digits=2)
  if None in fast:
    never = fast.count(None)
    return 'never' if never == len(fast) else f'{never} of {len(fast)} never'
  if never := slow.count(None):
    return f'synchronous: {never} of {len(slow)} never'
  return '-' if slow and fast else Records.missing


def report(records: Records) -> str:
  """Speeds and ratios by cluster; when to wait; predicted beside trained."""
  header = ['cluster', 'workers', 'raw speed, asynchronous / synchronous']
  header += ['by theory', f'seconds to {SHARE:.0%}, synchronous']
  header += ['speedup by global accumulation', 'by a backup worker']
  header += ['by plain asynchronous training']
  rows = []
  for cluster, count in CASES:
    if not records.all(workers.declare(count, SYNC)):
      rows.append([cluster, str(count), *[records.missing] * 6])
      continue
    expected, found = raw(cluster, count)
    pairs = compared(records, cluster, count)
    slow, _ = pairs[BACKUP]  # Of all seeds.
    rows.append(
      [
        cluster,
        str(count),
        f'{found:.3f}',
        f'{expected:.3f}',
        spread(slow),
        *(_cell(name, pair) for name, pair in pairs.items()),
      ]
    )
  known = {n: goal(records, n) for n in WORKERS}
  goals = [f'{bleu:.1f} with {n} workers' for n, bleu in known.items() if bleu]
  said = (
    f'The target, in BLEU: {", ".join(goals)}. Seconds are with their standard '
    'deviation over the seeds; a speedup, the seconds of synchronous training '
    'over those of the other, is with two standard errors. With a backup '
    'worker the curve over updates is taken to be the same, so the speedup is '
    'the ratio of raw speeds, the same for every seed.'
  )
  lines = [line for count in WORKERS for line in _advice(records, count)]
  parts = [figures.table(header, rows), said]
  parts += [*lines, _by_target(records), _scheduled(records), _trained(records)]
  return '\n\n'.join(part for part in parts if part)


def _cell(
  name: str, pair: tuple[list[float | None], list[float | None]]
) -> str:
  """A cell of the first table; without an error where none is measured."""
  found = quotient(*pair)
  if name == BACKUP and found:
    return f'{found.value:.2f}'
  return cell(*pair)


def _by_target(records: Records) -> str:
  """Speedups on the paper's cluster, early and late in training."""
  usual, short = workers.declare(4, SYNC), _better(records, SHORT)
  rows = []
  for share in TARGETS:
    target = goal(records, 4, share)
    pairs = compared(records, PAPER, 4, share)
    to_goal = functools.partial(seconds_to, target=target)
    sooner = records.paired(usual, short, to_goal)
    speedups = [cell(*pairs[name]) for name in ('4x global', 'plain')]
    rows.append([f'{share:.0%}', f'{target:.1f}', *speedups, cell(*sooner)])
  header = ["on the paper's cluster, to", 'BLEU', 'speedup by 4x global']
  header += ['by plain asynchronous training', 'by a short schedule alone']
  return figures.table(header, rows)


def _advice(records: Records, count: int) -> list[str]:
  """The raw speed from which on asynchronous training takes less time."""
  if not (words := words_ratio(records, count)):
    return []
  first = [_break_even(curve) for curve in _over_spreads(count, words)]
  bounds = f' ({first[2]:.2f} to {first[1]:.2f})' if words.error else ''
  usual = workers.declare(count, SYNC).clock(1.0).spread
  return [
    f'With {count} workers, G = {count} needs {words.text(digits=2)} times the '
    'words of synchronous training. So it takes less time on clusters where '
    f'its raw speed is more than {words.value:.2f} times that of synchronous '
    'training: if compute times are gamma-distributed, from a coefficient of '
    f'variation of {first[0]:.2f}{bounds} on. Below, it takes '
    f"longer. The paper's cluster has {usual:.2f}."
  ]


def _scheduled(records: Records) -> str:
  """How much of plain asynchronous training's gain is the schedule's."""
  short = _better(records, SHORT)
  if not records.all(short):
    return ''
  rate = lambda run: f'{run.learning_rate * records.rate_factor:.3g}'
  usual, fast = workers.declare(4, SYNC), _better(records, plain(4))
  said = (
    'A short schedule is that of plain asynchronous training, which updates '
    'four times as often: it takes a quarter of the words. Synchronous '
    f'training with it, at the better of the two rates ({rate(short)}; plain '
    f'asynchronous: {rate(fast)}), has a best BLEU of {records.cell(short)}, '
    f'with the usual schedule {records.cell(usual)}.'
  )
  ratios = []
  for share in TARGETS:
    to_goal = functools.partial(seconds_to, target=goal(records, 4, share))
    found = cell(*records.paired(short, fast, to_goal))
    ratios.append(f'{found} to {share:.0%}')
  return (
    f'{said} Over it, plain asynchronous training is so many times as fast: '
    f'{", ".join(ratios)}.'
  )


def _trained(records: Records) -> str:
  """Runs on their own cluster, beside what the paper's cluster predicts."""
  header = ['cluster', 'G', 'learning rate', 'words/s, predicted', 'trained']
  header += [f'seconds to {SHARE:.0%}, predicted', 'trained']
  header += ["best BLEU on the paper's cluster", 'trained']
  rows, target = [], goal(records, 4)
  time = lambda seconds: 'never' if seconds is None else f'{seconds:.1f}'
  for run in TRAINED:
    base = dataclasses.replace(run, cluster=PAPER)
    pair = [records.get(base), records.get(run)]
    cells = [Records.missing] * 6
    if predicted := pair[0]:
      factor = faster(base, run.cluster, run.communication)
      cells[::2] = [
        f'{virtual_speed(predicted) * factor:,.0f}',
        time(seconds([seconds_to(predicted, target)], base, run.cluster)[0]),
        f'{best(predicted):.1f}',
      ]
    if trained := pair[1]:
      cells[1::2] = [
        f'{virtual_speed(trained):,.0f}',
        time(seconds_to(trained, target)),
        f'{best(trained):.1f}',
      ]
    rate = f'{run.learning_rate * records.rate_factor:.3g}'
    pushes = str(run.communication.pushes_per_update)
    rows.append([run.cluster, pushes, rate, *cells])
  return figures.table(header, rows)


def draw(path: Path, records: Records) -> None:
  """Draw the ratio of times over unevenness, and for every other cluster."""
  lines, points = {}, {}
  for count in WORKERS:
    if words := words_ratio(records, count):
      curves = _over_spreads(count, words)
      label = f'{count} workers, G = {count}: from {_break_even(curves[0]):.2f}'
      lines[label] = SPREADS, *curves
  for cluster, said in reversed(SAID.items()):
    for name, pair in compared(records, cluster, 4).items():
      if found := quotient(*pair):
        half = 2 * (found.error or 0.0)
        bounds = found.value - half, found.value + half
        points.setdefault(name, {})[said] = found.value, *bounds
  figures.wait_or_not(
    path,
    lines,
    points,
    workers.declare(4, SYNC).clock(1.0).spread,
    'coefficient of variation of gamma-distributed compute times',
    'time to 95% of the best BLEU, synchronous / other',
  )


def words_ratio(records: Records, count: int) -> Ratio | None:
  """Words needed by G = N, over those of synchronous training."""
  slow, fast = next(iter(compared(records, PAPER, count).values()))
  if not (found := quotient(fast, slow)):
    return None
  gain = raw(PAPER, count)[1]
  return Ratio(*(None if x is None else x * gain for x in found))


def _break_even(curve: Sequence[float]) -> float:
  """The spread from which on a ratio of times over spreads is above 1."""
  return float(np.interp(1.0, curve, SPREADS))


def _over_spreads(
  count: int, words: Ratio
) -> tuple[list[float], list[float], list[float]]:
  """The ratio of times at every spread, with two standard errors of words."""
  usual = workers.declare(count, SYNC).clock(1.0)
  speeds = []
  for spread_ in SPREADS:
    shape = 'gamma' if spread_ else 'equal'
    clock = dataclasses.replace(usual, distribution=shape, spread=spread_)
    rate = theory.asynchronous_rate(clock, count, count)
    speeds.append(theory.synchronous_seconds(clock, count) * rate / count)
  half = 2 * (words.error or 0.0)
  over = lambda ratio: [speed / ratio for speed in speeds]
  return over(words.value), over(words.value + half), over(words.value - half)


if __name__ == '__main__':
  command.main(__name__)
