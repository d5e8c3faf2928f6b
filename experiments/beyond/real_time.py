"""Beyond the paper: the speed-up in real seconds, beside the virtual clock's.

  python -m experiments.beyond.real_time --scale=tiny    # needs Ray

Question: does the virtual clock tell how long real machines take? Four workers,
actors of a Ray cluster, train on real gradients. Each sleeps before it
computes, as long as a gamma distribution draws for the batch, with a mean of
80 ms and a coefficient of variation of 1: as unevenly as workers of a busy
cluster. Waiting for all four (`synchronous`) is compared to 4x global
accumulation, until a share of the best synchronous BLEU; two and a half epochs,
by the pool's real clock, which validation stops.

Beside each, the virtual clock's prediction for the same times: the same draws
by batch, and what the real run took on average besides, to pull, to compute, to
push, and for an update. One run each. About 17 minutes on two idle
processor cores: what else runs there prolongs real seconds.
"""

import copy
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments import command
from experiments.ledger import compiled, directory, execute, runs, scales, work
from experiments.ledger.records import Records
from experiments.ledger.settings import Settings
from experiments.ledger.store import Stored
from experiments.paper import printed as paper
from experiments.render import figures
from experiments.render.report import render
from stale_adam import files, pools
from stale_adam import trace as trace_lib
from stale_adam.clock import Clock
from stale_adam.nmt.translation import Translation
from stale_adam.pools.contract import Pool
from stale_adam.trace import Trace
from stale_adam.training.record import best, seconds_to, virtual_speed
from stale_adam.training.task import Budget

BUDGET = Budget(epochs=2.5, validate_every=50_000, patience=1000)
SLEEP = Clock(0.08, distribution='gamma', spread=1.0)
SHARES = (0.5, 0.75, 0.9)  # Of the best synchronous BLEU here.


def declare(communication: str) -> Settings:
  """A run of few epochs."""
  return runs.base('transformer', communication, budget=BUDGET)


RUNS = [declare(kind) for kind in (paper.SYNC, paper.GLOBAL)]


@dataclasses.dataclass(frozen=True)
class Sleeping:
  """Batches that take as long to be read as a clock draws."""

  batch: Callable[[int], Any]
  clock: Clock

  def __call__(self, batch_id: int) -> Any:
    time.sleep(self.clock.compute(0, batch_id))
    return self.batch(batch_id)


@dataclasses.dataclass(frozen=True)
class Measured(Clock):
  """A clock whose batches take `more_seconds` besides what is drawn."""

  more_seconds: float = 0.0

  def compute(self, worker: int, batch_id: int) -> float:
    return super().compute(worker, batch_id) + self.more_seconds


def measured(trace: Trace, sleep: Clock = SLEEP) -> Measured:
  """The clock of a real run: the draws, and means of what else took time.

  Args:
    trace: of the run, with times, its batches numbered from 0.
    sleep: what was drawn for each.
  """
  pulled, started, computed, arrived = (
    trace.columns[name].astype(np.float64) for name in trace_lib.TIMES
  )
  drawn = [sleep.compute(0, batch_id) for batch_id in range(len(trace))]
  handled = trace_lib.busy_until(trace) - trace.seconds
  updates = trace.columns['pulled_version'] + trace.columns['staleness']
  return Measured(
    **dataclasses.asdict(sleep)
    | {
      'pull_seconds': float(np.mean(started - pulled)),
      'push_seconds': float(np.mean(arrived - computed)),
      'update_seconds': float(handled.sum() / max(1, updates.max())),
      'more_seconds': float(np.mean(computed - started) - np.mean(drawn)),
    }
  )


def predicted(records: Stored) -> Stored:
  """The records of the virtual clock, beside those of real time."""
  return Stored(records.scale, records.directory.parents[1] / 'clock')


def report(records: Records) -> str:
  """Seconds to targets, real and predicted, and the ratio of the two runs."""
  clock = predicted(records) if isinstance(records, Stored) else records
  both = [[r.get(run) for run in RUNS] for r in (records, clock)]
  if not all(found for pair in both for found in pair):
    return records.missing
  top = best(both[0][0])
  header = ['', *(f'{100 * s:.0f}%: {s * top:.1f} BLEU' for s in SHARES)]
  header += ['target words/s']
  rows, seconds = [], {}
  for i, name in enumerate(('synchronous', '4x global')):
    for kind, pair in zip(('real', 'predicted'), both, strict=True):
      found = [seconds_to(pair[i], share * top) for share in SHARES]
      seconds[kind, i] = found
      cells = ['never' if s is None else f'{s:.0f} s' for s in found]
      rows.append([f'{name}, {kind}', *cells, f'{virtual_speed(pair[i]):,.0f}'])
  for kind, pair in zip(('real', 'predicted'), both, strict=True):
    pairs = zip(seconds[kind, 0], seconds[kind, 1], strict=True)
    cells = [f'{a / b:.2f}' if a and b else '-' for a, b in pairs]
    speeds = virtual_speed(pair[1]) / virtual_speed(pair[0])
    rows.append([f'times as fast, {kind}', *cells, f'{speeds:.2f}'])
  return figures.table(header, rows)


def slept(task: Translation) -> Translation:
  """The task, with batches that take as long as is drawn."""
  made = copy.copy(task)
  batch = Sleeping(task.problem.batch, SLEEP)
  made.problem = task.problem._replace(batch=batch)
  return made


def train(
  records: Stored, run: Settings, task: Translation, out: Path, pool: Pool
) -> None:
  """Trains a run and adds its record."""
  scale, name = records.scale, runs.name(records.scale, run)
  kind = type(pool).__name__.lower()
  print(f'\n{name}, {kind}', flush=True)
  with directory.hold(out):
    settings = runs.at(scale, run)
    made = execute.execute(
      *(settings, task, out, 'real_time', scale, name, pool),
      asked={'pool': kind},
      overwrite=True,
    )
  records.add(run, made)


def complete(records: Stored, root: Path, data_dir: str | None = None) -> None:
  """Trains what is missing: in real time, then on the clock that it had."""
  clock = predicted(records)
  for run in RUNS:
    name = runs.name(records.scale, run)
    task = work.task_of(records.scale, runs.at(records.scale, run), data_dir)
    real = root / 'real' / name
    if records.get(run) is None:
      train(records, run, slept(task), real, pools.Ray())
    if clock.get(run) is None:
      timed = pools.Virtual(measured(Trace.load(real / 'trace.npz')))
      train(clock, run, task, root / 'clock' / name, timed)


def run() -> None:
  """Trains what is missing, then renders."""
  scale, folder = command.SCALE.value, command.directory() / 'real_time'
  training = not command.PLOT_ONLY.value
  files.check_writable(folder)
  records = Stored(scale, folder, command.DATA_DIR.value, training)
  if training:
    compiled.use(command.root() / '.compiled')
    root = command.root() / 'real_time' / scale
    complete(records, root, command.DATA_DIR.value)
  every = [
    records if name == scale else Stored(name, folder) for name in scales.SCALES
  ]
  print('\n' + render(sys.modules[__name__], folder, every))


if __name__ == '__main__':
  command.start(run)
