"""Writes all results as a page to look at.

  python -m experiments.page                    # runs/page/index.html
  python -m experiments.page --results=runs/again   # runs/again/page/index.html

Reads Markdown and records of --results, as `experiments.paper.reproduce` leaves
them, and writes a directory that any browser opens from disk, without a
network: every table and figure with the paper's numbers beside ours, figures
that can be explored, and a page for every run with its curve, staleness,
timeline, settings, origin and translations. The directory is replaced.
"""

import sys
from pathlib import Path

from absl import flags

from experiments import command, launch
from experiments.ledger import scales
from experiments.ledger.store import Stored
from experiments.page import site
from experiments.paper import reproduce

RESULTS = command.RESULTS
flags.declare_key_flag('results')
OUT = flags.DEFINE_string(
  'out',
  None,
  'Directory to write; by default runs/page, or page in --results if that is '
  'given.',
)


def main(_):
  results = Path(RESULTS.value or 'results')
  try:
    every = [Stored(scale, results) for scale in scales.SCALES]
    out = Path(OUT.value) if OUT.value else reproduce.place(results)
    path = site.build(results, out, reproduce.EXPERIMENTS, every)
  except (ValueError, OSError) as error:
    sys.exit(str(error))
  print(f'open {path}')


if __name__ == '__main__':
  launch.main(main)
