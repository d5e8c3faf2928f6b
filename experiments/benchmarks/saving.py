"""What saving the state of a run costs: milliseconds, and share of training.

  python -m experiments.benchmarks.saving

Trains the `tiny` Transformer asynchronously with four workers, and in turns
without saving, with a state every second, and with states as often as
possible. Prints the target words per second of each, and for one state the time
that training waits (a copy in memory), the time in the background (digests and
the file), and its size. Takes about two minutes.
"""

import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

import stale_adam as sa
from experiments import launch, options
from experiments.ledger import execute, scales, texts
from stale_adam.training import resume
from stale_adam.training.loop import Budget, train

SCALE = options.scale()
DATA_DIR = options.data_dir()
PUSHES = flags.DEFINE_integer('pushes', 2000, 'Pushes of every turn.', 1)
TURNS = flags.DEFINE_integer('turns', 3, 'Turns of each.', 1)
SIDES = {'none': None, 'every second': 1.0, 'always': 0.0}


class Quiet:
  """The task, without validations."""

  def __init__(self, task):
    self._task = task

  def __getattr__(self, name):
    return getattr(self._task, name)

  def validation_loss(self, params):
    return 0.0

  def validation_score(self, params):
    return 0.0


def state(task, settings, folder):
  """Milliseconds to copy and to write one state, and its bytes."""
  pool = sa.pools.Virtual()
  with pool:
    optimizer = settings.transformation()
    arrivals = sa.serve(task.problem, optimizer, sa.Communication(4), pool)
    times = []
    for push, server in itertools.islice(arrivals, 8, 24):
      trace = sa.Trace.of([push])
      params = server.params
      progress = resume.Progress(pool.state(), [], 0, 0.0, 0, params, trace)
      began = time.perf_counter()
      captured = resume.capture(server, progress)
      copied = time.perf_counter()
      resume.write(folder / 'state.npz', captured)
      times.append((copied - began, time.perf_counter() - copied))
  copy, write = 1e3 * np.median(times, axis=0)
  return copy, write, (folder / 'state.npz').stat().st_size


def main(_):
  settings = scales.settings(SCALE.value, 'transformer')
  text = texts.load(SCALE.value, settings.pair, DATA_DIR.value)
  task = Quiet(execute.make_task(settings, text))
  words = task.units_per_epoch / task.batches.first_epoch
  epochs = PUSHES.value * words / task.units_per_epoch
  budget = Budget(epochs, task.units_per_epoch * 100)
  speeds = {name: [] for name in SIDES}
  with tempfile.TemporaryDirectory() as folder:
    for turn in range(TURNS.value + 1):  # The first one warms up.
      for name, seconds in SIDES.items():
        out = Path(folder) / f'{turn}-{name}'
        out.mkdir()
        outcome = train(
          *(task, settings.transformation(), sa.Communication(4)),
          *(sa.pools.Virtual(), budget, 0, out, {}, name),
          save_seconds=seconds,
        )
        if turn:
          speeds[name].append(outcome.speed()['measured'])
    copy, write, size = state(task, settings, Path(folder))
  plain = np.median(speeds['none'])
  for name, found in speeds.items():
    speed = np.median(found)
    print(f'{name}: {speed:,.0f} words/s, {speed / plain:.3f} of none')
  print(
    f'one state: {copy:.1f} ms waiting, {write:.1f} ms in the background, '
    f'{size / 1e6:.1f} MB; every 60 s: {copy / 600:.3f}% of training waiting'
  )
  print(f'load {os.getloadavg()[0]:.1f}')


if __name__ == '__main__':
  launch.main(main)
