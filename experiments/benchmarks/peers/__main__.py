"""Training and decoding beside two toolkits: JoeyNMT 2.3.0 and eole 0.6.4.

  python -m experiments.benchmarks.peers --data_dir=data/multi30k

All sides train the `small` Transformer on the same sentences, which the same
vocabulary has split, for the same number of target words, with the same rates
of Adam and as many target words in an update, on the same cores. Each runs in a
process of its own, one after another. The first use installs the toolkits and
PyTorch 2.13 below build/peers, an environment each (4 GB). Results are kept as
they finish: the same command goes on where it was ended, and shows all results
once it has them. Takes about half an hour.

Measured are target words a second of training, the median over windows of
25,000 after the first two, each sentence's end counted; sacreBLEU of the first
1,000 test sentences after the last word; and sentences a second of beam 4, in
the second and third pass over them. The toolkits' batches are padded, ours are
packed: short runs find the setting with which a toolkit's have as many words.
The two YAML files say what differs. PyTorch's threads wait passively, because
on cores that others use, too, they are ten times as slow otherwise;
OMP_WAIT_POLICY=ACTIVE before the command shows the difference.
"""

import os
import sys
from pathlib import Path

from absl import flags

from experiments import launch, options
from experiments.benchmarks.peers import parts, summary
from experiments.benchmarks.peers.measurement import Measurement

DATA_DIR, PAIR = options.data_dir(), options.pair()
SIDES = flags.DEFINE_multi_enum(
  'sides',
  list(summary.NAMES),
  list(summary.NAMES),
  'Side to measure; may be given several times.',
)
WORDS = flags.DEFINE_integer(
  'words', 2_500_000, 'Target words to train on.', 100_000
)
CORES = flags.DEFINE_integer('cores', 2, 'Processor cores of each side.', 1)
OUT = options.out(
  'build/peers', 'Directory of environments, models and results.'
)
OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Measure again what is kept, on the chosen sides.'
)


def measure() -> str:
  """Make what is missing; return the table.

  Raises:
    ValueError, OSError, Failed: with a message for the user.
  """
  if not DATA_DIR.value:
    raise ValueError(
      'all sides train on text from disk: name its directory by --data_dir'
    )
  measured = Measurement(
    Path(OUT.value), DATA_DIR.value, PAIR.value, WORDS.value, CORES.value
  )
  sides = [side for side in summary.NAMES if side in SIDES.value]
  if OVERWRITE.value:
    measured.forget(sides)
  return summary.report(
    {side: measured.trained(side) for side in sides},
    {side: measured.decoded(side) for side in sides},
    {side: measured.bleu(side) for side in sides},
  )


def main(_):
  if hasattr(os, 'sched_setaffinity'):  # Of this process and of all sides.
    cores = sorted(os.sched_getaffinity(0))[: CORES.value]
    os.sched_setaffinity(0, cores)
  try:
    table = measure()
  except (ValueError, OSError, parts.Failed) as error:
    sys.exit(str(error))
  print(f'\n{WORDS.value:,} target words, {CORES.value} cores\n\n{table}')


if __name__ == '__main__':
  launch.main(main)
