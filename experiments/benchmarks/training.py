"""Training speed against the same model in PyTorch, in target words per second.

  pip install -c constraints.txt -e '.[benchmark]'   # a CPU build will do
  python -m experiments.benchmarks.training --data_dir=data/multi30k

Both sides train the `small` Transformer on the same text with the same budget
of words per batch, one Adam update per batch, on the same number of processor
cores. Ours is asynchronous training with four workers, server included, as in
experiments.train; the other is the plain loop of peer_torch.py. They take
turns, each in its own process. Prints the median of the turns. Without
--data_dir the sentences are those of the embedded grammar. Takes about two
minutes.
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
from experiments.ledger import execute, scales, texts
from stale_adam.policy import Communication

DATA_DIR, PAIR = options.data_dir(), options.pair()
CORES = flags.DEFINE_integer('cores', 2, 'Processor cores per side.', 1)
TURNS = flags.DEFINE_integer('turns', 7, 'Number of turns per side.', 1)
BATCHES = flags.DEFINE_integer('batches', 64, 'Batches per turn.', 1)
SIDE = flags.DEFINE_enum(
  'side', None, ['jax', 'torch'], 'Used by the command itself.'
)


def shared():
  """The settings and the task that both sides share."""
  settings = scales.settings(
    'small', 'transformer', pair=PAIR.value, communication=Communication(4)
  )
  scale = 'small' if DATA_DIR.value else 'tiny'
  text = texts.load(scale, PAIR.value, DATA_DIR.value)
  return settings, execute.make_task(settings, text)


def jax_side():
  """`train(count) -> (target words, seconds)` of the asynchronous server."""
  import stale_adam as sa

  settings, task = shared()
  schedule = sa.inverse_sqrt(settings.learning_rate, settings.warmup_updates)
  optimizer = sa.adam(schedule)

  def train(count):
    with sa.pools.Virtual(threads=CORES.value) as pool:
      arrivals = sa.serve(task.problem, optimizer, settings.communication, pool)
      next(arrivals)  # Parameters exist, and every worker computes.
      began = time.perf_counter()
      pushes = [push for push, _ in itertools.islice(arrivals, count)]
    # The pool has waited for gradients in flight: none runs in the next turn.
    seconds = time.perf_counter() - began
    words = sum(task.units(i) for push in pushes for i in push.ids)
    return words, seconds

  return train


def torch_side():
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
  train = {'jax': jax_side, 'torch': torch_side}[side]()
  train(16)  # Compiles and warms up.
  print('ready', flush=True)
  for _ in sys.stdin:
    words, seconds = train(BATCHES.value)
    print(json.dumps(words / seconds), flush=True)


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
    for side in ('jax', 'torch')
  }
  for side, process in sides.items():
    for line in process.stdout:
      if line == 'ready\n':
        break
    else:
      raise app.UsageError(f'the {side} side did not start: see above')
  speeds = {side: [] for side in sides}
  for _ in range(TURNS.value):
    for side, process in sides.items():
      process.stdin.write('go\n')
      process.stdin.flush()
      speeds[side].append(json.loads(process.stdout.readline()))
  for process in sides.values():
    process.stdin.close()
    process.wait()
  for side, speed in speeds.items():
    low, middle, high = np.percentile(speed, [0, 50, 100])
    print(f'{side}: {middle:,.0f} words/s (from {low:,.0f} to {high:,.0f})')
  ratio = np.median(speeds['jax']) / np.median(speeds['torch'])
  load = os.getloadavg()[0]
  print(f'jax / torch: {ratio:.2f}, {CORES.value} cores, load {load:.1f}')


if __name__ == '__main__':
  launch.main(main)
