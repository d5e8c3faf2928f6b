"""Trains the toy regression in a process of its own, to be killed.

  python -m experiments.benchmarks.injected.child --out=DIRECTORY

Prints the number of each batch that has arrived.
"""

from pathlib import Path

from absl import flags

from experiments import launch
from experiments.benchmarks.injected import states, toys

OUT = flags.DEFINE_string('out', None, 'Directory of the run.', required=True)


def main(_):
  states.train(Path(OUT.value), toys.Regression(said=True))


if __name__ == '__main__':
  launch.main(main)
