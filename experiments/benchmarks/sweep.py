"""Gradients a second of runs that train together, as one program, and alone.

Asynchronous runs of a model of a scale, each with its own rate, seed and order
of arrivals: one alone as experiments.train does it, and several together as
tables do it with --together. The sides take turns; the first turn of each
compiles and does not count. Prints gradients a second, and milliseconds of all
cores for each gradient.

  python -m experiments.benchmarks.sweep         # six minutes on two cores
  python -m experiments.benchmarks.sweep --model=rnn
  python -m experiments.benchmarks.sweep --scale=small --data_dir=DIRECTORY

What memory runs need together, --dry_run of any table shows.
"""

import itertools
import time

import jax
import numpy as np
from absl import flags

import stale_adam as sa
from experiments import launch, options
from experiments.benchmarks import timed
from experiments.ledger import execute, scales, texts
from experiments.ledger import settings as settings_lib
from stale_adam import server
from stale_adam.compiled import decisions, legs
from stale_adam.compiled.sweep import Sweep
from stale_adam.pools.virtual import Dry
from stale_adam.training import flat_problem

SCALE = options.scale()
DATA_DIR, PAIR = options.data_dir(), options.pair()
MODEL = flags.DEFINE_enum(
  'model', 'transformer', settings_lib.MODELS, 'Model to train.'
)
PUSHES = flags.DEFINE_integer('pushes', 32, 'Gradients of a run in a turn.', 1)
TURNS = flags.DEFINE_integer('turns', 3, 'Number of turns per side.', 1)
RUNS = flags.DEFINE_list('runs', ['1', '8', '64'], 'Runs together.')
WORKERS = flags.DEFINE_list('workers', ['4', '64'], 'Workers of every run.')


class Timed:
  """A side: `turn()` returns its seconds; keeps those of all cores."""

  def __init__(self, work, gradients: int):
    self._work, self.gradients = work, gradients
    self.processor = []

  def __call__(self) -> float:
    began, used = time.perf_counter(), time.process_time()
    self._work()
    self.processor.append(time.process_time() - used)
    return time.perf_counter() - began


def clock(seed: int) -> sa.Clock:
  """Uneven workers, in an order that the seed decides."""
  return sa.Clock(1.0, 0.1, 0.2, 0.1, 'gamma', 0.4, seed=seed)


def alone(problem, settings, policy):
  """One run, gradient by gradient."""
  pool = sa.pools.Virtual(clock(0))
  optimizer = settings.transformation()
  arrivals = sa.serve(problem, optimizer, policy, pool)

  def work():
    *_, (_, last) = itertools.islice(arrivals, PUSHES.value)
    jax.block_until_ready(last.params)

  return Timed(work, PUSHES.value)


def together(problem, settings, policy, runs: int):
  """Several runs as one program."""
  rates = np.geomspace(1e-4, 1e-3, runs, dtype=np.float32)
  count = (TURNS.value + 1) * PUSHES.value
  recorded, servers, versions = [], [], 0
  for seed in range(runs):
    with Dry(clock(seed)) as pool:
      rows = itertools.islice(decisions.dry(policy, pool, seed), count)
      columns, _, bare = zip(*rows, strict=True)
    recorded.append(decisions.stacked(list(columns)))
    versions = max(versions, *map(decisions.span, bare))
    params = jax.jit(problem.init)(server.keys(seed)[0])
    servers.append(
      server.init(settings.transformation(), params, policy.workers)
    )
  cases = {decisions.IDLE}.union(*(c['case'].ravel() for c in recorded))
  group = Sweep(
    *(problem.loss, settings.transformation, rates, range(runs), servers),
    *(versions, tuple(sorted(map(int, cases)))),
  )
  turns = itertools.count()

  def work():
    begin = next(turns) * PUSHES.value
    cut = slice(begin, begin + PUSHES.value)
    parts = [
      legs.Part({k: x[cut] for k, x in columns.items()}, problem.batch)
      for columns in recorded
    ]
    group.advance(parts)
    jax.block_until_ready(group.params(0))

  return Timed(work, runs * PUSHES.value)


def main(_):
  settings = scales.settings(SCALE.value, MODEL.value, pair=PAIR.value)
  text = texts.load(SCALE.value, PAIR.value, DATA_DIR.value)
  task = execute.make_task(settings, text)
  problem = flat_problem.form(task.problem, settings.transformation()).problem
  for workers in map(int, WORKERS.value):
    policy = sa.Communication(workers)
    sides = {'alone': alone(problem, settings, policy)}
    for runs in map(int, RUNS.value):
      sides[f'{runs} together'] = together(problem, settings, policy, runs)
    found = timed.turns(sides, TURNS.value, 1)
    base = None
    for name, seconds in found.items():
      side = sides[name]
      rate = side.gradients / float(np.median(seconds))
      base = base or rate
      used = float(np.median(side.processor[1:])) / side.gradients
      print(
        f'{workers} workers, {name}: {rate:,.0f} gradients/s, '
        f'{rate / base:.2f} times; {1e3 * used:.2f} ms of all cores for each',
        flush=True,
      )
  print(timed.load())


if __name__ == '__main__':
  launch.main(main)
