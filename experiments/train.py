"""One run by flags: from parallel text to BLEU.

  python -m experiments.train --scale=small --data_dir=data/multi30k \\
    --pair=en-de --model=transformer --communication=asynchronous \\
    --workers=4 --global_accumulation=4 --out=runs/en-de-global4

Prints what was read, a progress bar, and the scores; leaves in --out the
result record (record.json), the best parameters (params.npz) with their
vocabulary, which experiments.translate reads, and TensorBoard events.

`tiny` needs no files and takes one to three minutes on two processor cores;
`small` reads text files and takes about nine; `paper` reads WMT, prepared
once by TensorFlow Datasets, and wants an accelerator.
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from experiments import scales
from stale_adam import experiment, server

SCALE = flags.DEFINE_enum(
  'scale', 'tiny', list(scales.SCALES), 'Size of model, data and run.'
)
DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  'Directory of train, val and test_* files, each ending in .<language> or '
  '.<language>.gz; for --scale=paper that of TensorFlow Datasets.',
)
PAIR = flags.DEFINE_string('pair', 'en-de', 'Source-target.')
MODEL = flags.DEFINE_enum(
  'model', 'transformer', ['transformer', 'rnn'], 'What is trained.'
)
COMMUNICATION = flags.DEFINE_enum(
  'communication',
  'synchronous',
  ['synchronous', 'asynchronous'],
  'Whether workers wait for each other.',
)
WORKERS = flags.DEFINE_integer('workers', 4, 'Number of workers.', 1)
LOCAL = flags.DEFINE_integer(
  'local_accumulation', 1, 'Gradients a worker sums before it pushes.', 1
)
GLOBAL = flags.DEFINE_integer(
  'global_accumulation',
  1,
  'Pushes the server sums before it updates; a synchronous update always uses '
  'those of all workers.',
  1,
)
PULL_EVERY = flags.DEFINE_integer(
  'pull_every', 1, 'Updates between two snapshots: artificial staleness.', 1
)
LEARNING_RATE = flags.DEFINE_float(
  'learning_rate', None, "Peak learning rate; by default the scale's.", 0.0
)
WARMUP = flags.DEFINE_integer(
  'warmup_updates', None, "Updates of warm-up; by default the scale's.", 0
)
EPOCHS = flags.DEFINE_float(
  'epochs', None, "Passes over the data at most; by default the scale's.", 0.0
)
SEED = flags.DEFINE_integer(
  'seed', 0, 'Of parameters, dropout, order and clock.', 0
)
OUT = flags.DEFINE_string(
  'out',
  None,
  'Directory for what the run leaves; by default runs/<scale>/<run>.',
)


def run_name(communication: server.Communication) -> str:
  """A readable id: transformer-en-de-asynchronous-4-local1-global4-seed0."""
  kind = 'synchronous' if communication.synchronous else 'asynchronous'
  parts = [MODEL.value, PAIR.value, kind, str(communication.workers)]
  parts.append(f'local{communication.local_accumulation}')
  parts.append(f'global{communication.pushes_per_update}')
  if communication.pull_every > 1:
    parts.append(f'pull{communication.pull_every}')
  for flag in (LEARNING_RATE, WARMUP, EPOCHS):
    if flag.value is not None:
      parts.append(f'{flag.name}{flag.value:g}')
  return '-'.join([*parts, f'seed{SEED.value}'])


def main(_):
  budget = scales.SCALES[SCALE.value].budget
  try:
    if EPOCHS.value is not None:
      budget = dataclasses.replace(budget, epochs=EPOCHS.value)
    communication = server.Communication(
      WORKERS.value,
      LOCAL.value,
      GLOBAL.value,
      COMMUNICATION.value == 'synchronous',
      PULL_EVERY.value,
    )
    settings = scales.settings(
      SCALE.value,
      MODEL.value,
      communication,
      SEED.value,
      learning_rate=LEARNING_RATE.value,
      warmup_updates=WARMUP.value,
      budget=budget,
    )
    text = scales.load(SCALE.value, PAIR.value, DATA_DIR.value)
    learning = experiment.task(settings, text)
    name = run_name(communication)
    out = Path(OUT.value or Path('runs') / SCALE.value / name)
    out.mkdir(parents=True, exist_ok=True)
  except (ValueError, OSError) as error:
    sys.exit(str(error))
  record, _ = experiment.run(
    settings, learning, out, 'train', SCALE.value, name
  )
  speed = record['words_per_second']
  print(f'best validation BLEU {record["best_bleu"]:.2f}')
  for test, score in record['test_bleu'].items():
    print(f'{test} BLEU {score:.2f} ({record["sacrebleu_signature"]})')
  print(
    f'mean staleness {record["mean_staleness"]:.2f}; target words a second: '
    f'{speed["virtual"]:.0f} virtual, {speed["measured"]:.0f} measured'
  )
  print(f'record, parameters and events: {out}')


if __name__ == '__main__':
  experiment.main(main)
