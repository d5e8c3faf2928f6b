"""Injects faults, and prints what was lost: fault | tried | failed | lost.

  nice python -m experiments.benchmarks.faults

Training is killed and interrupted at random moments and resumed until it is
finished; states are damaged; pools are closed while a server waits for them;
processes end while threads compile; workers raise, sleep and send NaN; one
process makes many runs. A failure is a result that differs in one bit, an error
without a name, a hang, or memory that grows. Takes about 20 minutes on two
processor cores; flags choose how much of each, 0 leaves it out. --losses=20
kills workers of a Ray cluster, stops some, and kills machines, in seven minutes
more: it needs Ray. The exit status is 1 if anything failed.
"""

import signal
import sys

import jax
from absl import flags

from experiments import launch
from experiments.benchmarks.injected import (
  closes,
  exits,
  lives,
  machines,
  pushes,
  states,
)

_TIMES = {
  'kills': (100, 'SIGKILLs of a training process.'),
  'interrupts': (20, 'SIGINTs of a training process.'),
  'flips': (2000, 'Bits flipped in saved states, and truncations of them.'),
  'closes': (10_000, 'Pools closed, of each kind with one and four workers.'),
  'exits': (50, 'Processes ended while they compile.'),
  'pushes': (100_000, 'Pushes of unreliable workers.'),
  'runs': (50, 'Runs in one process, of each kind.'),
  'losses': (0, 'Workers of a Ray cluster killed, in each of two ways.'),
}
TIMES = {
  name: flags.DEFINE_integer(name, default, text, 0)
  for name, (default, text) in _TIMES.items()
}
SEED = flags.DEFINE_integer('seed', 0, 'Seed of all random moments.', 0)


def told(line: str) -> None:
  """Show progress."""
  print(line, file=sys.stderr, flush=True)


def rows():
  """The lines of the table that the flags ask for."""
  seed, times = SEED.value, {name: flag.value for name, flag in TIMES.items()}
  for name, number in (
    ('kills', signal.SIGKILL),
    ('interrupts', signal.SIGINT),
  ):
    if times[name]:
      yield states.kills(times[name], number, seed, told)
  if times['flips']:
    yield states.flips(times['flips'], seed)
  if times['closes']:
    yield from closes.rows(times['closes'], seed)
  if times['exits']:
    yield exits.row(times['exits'], seed)
  if times['pushes']:
    yield pushes.row(times['pushes'], seed)
  if times['runs']:
    yield from lives.rows(times['runs'])
  if times['losses']:
    yield from machines.rows(times['losses'], seed)


def main(_):
  jax.config.update('jax_num_cpu_devices', 4)
  print('| fault | tried | failed | lost |\n|---|--:|--:|---|', flush=True)
  failed = 0
  for row in rows():
    print(f'| {" | ".join(map(str, row))} |', flush=True)
    failed += row.failed
  sys.exit(int(failed > 0))


if __name__ == '__main__':
  launch.main(main)
