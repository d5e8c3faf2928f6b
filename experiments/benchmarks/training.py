"""Training speed against the same model in PyTorch, in target words per second.

  pip install -c constraints.txt -e '.[benchmark]'   # a CPU build will do
  python -m experiments.benchmarks.training --scale=small --data_dir=DIRECTORY
  python -m experiments.benchmarks.training          # tiny

Both train the Transformer of a scale on the same text with the same budget of
words per batch, one Adam update per batch, on the same processor cores. Ours is
asynchronous training with four workers, server included, as in
experiments.train. PyTorch is the plain loop of peer_torch.py, eager and
compiled (torch.compile), each with as many threads as there are cores. The
sides take turns, each in its own process. Prints the median of the turns, and
the ratio to the faster PyTorch. Without --data_dir the sentences are those of
the embedded grammar. Takes about three minutes.
"""

import itertools
import json
import os
import subprocess
import sys
import time

import numpy as np
from absl import app, flags

from experiments import launch, options
from experiments.benchmarks import timed
from experiments.ledger import execute, scales, texts
from stale_adam.policy import Communication
from stale_adam.training import flat_problem

SCALE = options.scale()
DATA_DIR, PAIR = options.data_dir(), options.pair()
CORES = flags.DEFINE_integer('cores', 2, 'Processor cores per side.', 1)
TURNS = flags.DEFINE_integer('turns', 7, 'Number of turns per side.', 1)
BATCHES = flags.DEFINE_integer('batches', 64, 'Batches per turn.', 1)
SIDES = ('jax', 'torch', 'torch.compile')
SIDE = flags.DEFINE_enum('side', None, SIDES, 'Used by the command itself.')


def shared():
  """The settings and the task that both sides share."""
  communication = Communication(4)
  settings = scales.settings(
    SCALE.value, 'transformer', pair=PAIR.value, communication=communication
  )
  text = texts.load(SCALE.value, PAIR.value, DATA_DIR.value)
  return settings, execute.make_task(settings, text)


def jax_side():
  """`train(count) -> (target words, seconds)` of the asynchronous server."""
  import stale_adam as sa

  settings, task = shared()
  optimizer = settings.transformation()
  problem = flat_problem.form(task.problem, optimizer).problem

  def train(count):
    with sa.pools.Virtual(threads=CORES.value) as pool:
      arrivals = sa.serve(problem, optimizer, settings.communication, pool)
      next(arrivals)  # Parameters exist, and every worker computes.
      began = time.perf_counter()
      pushes = [push for push, _ in itertools.islice(arrivals, count)]
    # The pool has waited for gradients in flight: none runs in the next turn.
    seconds = time.perf_counter() - began
    words = sum(task.units(i) for push in pushes for i in push.ids)
    return words, seconds

  return train


def torch_side(compiled):
  """`train(count) -> (target words, seconds)` of PyTorch's plain loop."""
  import torch

  from experiments.benchmarks import peer_torch

  torch.set_num_threads(CORES.value)
  settings, task = shared()
  encode = lambda side: [
    np.array([*s, peer_torch.EOS]) for s in task.model.vocabulary.encode(side)
  ]
  pairs = task.corpus.train
  shape = settings.shape
  batches = peer_torch.length_sorted(
    encode(pairs.source), encode(pairs.target), shape.rows * shape.target
  )
  inner = peer_torch.trainer(
    task.model.vocabulary.size,
    dict(settings.sizes),
    batches,
    settings.smoothing,
    settings.learning_rate,
    compiled,
  )

  def train(count):
    began = time.perf_counter()
    return inner(count), time.perf_counter() - began

  return train


def play(side: str) -> None:
  """Run one side: train once for every line of stdin, and print the speed."""
  if hasattr(os, 'sched_setaffinity'):
    cores = sorted(os.sched_getaffinity(0))[: CORES.value]
    os.sched_setaffinity(0, cores)
  train = jax_side() if side == 'jax' else torch_side(side == 'torch.compile')
  # Compiles and warms up: PyTorch compiles anew for some lengths.
  train(16 if side == 'jax' else 4 * BATCHES.value)
  print('ready', flush=True)
  for _ in sys.stdin:
    words, seconds = train(BATCHES.value)
    found = words / seconds, seconds / BATCHES.value
    print(json.dumps(found), flush=True)


def main(_):
  if SIDE.value:
    return play(SIDE.value)
  command = [sys.executable, *sys.orig_argv[1:]]
  sides = {
    side: subprocess.Popen(
      [*command, f'--side={side}'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    for side in SIDES
  }
  for side, process in sides.items():
    for line in process.stdout:
      if line == 'ready\n':
        break
    else:
      raise app.UsageError(f'the {side} side did not start: see above')
  speeds = {side: ([], []) for side in sides}
  for _ in range(TURNS.value):
    for side, process in sides.items():
      process.stdin.write('go\n')
      process.stdin.flush()
      found = json.loads(process.stdout.readline())
      for column, value in zip(speeds[side], found, strict=True):
        column.append(value)
  for process in sides.values():
    process.stdin.close()
    process.wait()
  found = {}
  for side, (words, batches) in speeds.items():
    low, found[side], high = np.percentile(words, [0, 50, 100])
    print(
      f'{side}: {found[side]:,.0f} words/s (from {low:,.0f} to {high:,.0f}), '
      f'{1e3 * np.median(batches):.2f} ms a batch'
    )
  best = max(SIDES[1:], key=found.__getitem__)
  print(f'jax / {best}: {found["jax"] / found[best]:.2f}, {timed.load()}')


if __name__ == '__main__':
  launch.main(main)
