"""One run by flags: from parallel text to BLEU.

  python -m experiments.train --scale=small --data_dir=data/multi30k \\
    --pair=en-de --model=transformer --communication=asynchronous \\
    --workers=4 --global_accumulation=4 --out=runs/en-de-global4

Prints what was read, a progress bar, and the scores; leaves in --out the
result record (record.json), the best parameters (params.npz) with their
vocabulary, which experiments.translate reads, the order of arrivals with all
times (trace.npz), which experiments.timeline draws, and TensorBoard events.

--pool=threads trains on real host threads, one for each device, by the real
clock. Any run can be had again, in its very order of arrivals:

  python -m experiments.train --replay=runs/en-de/trace.npz

repeats it under the flags it was made with, to the same parameters; with
--counterfactual and further flags, what the same order would have led to under
another learning rate, accumulation or seed.

`tiny` needs no files and takes about a minute on two processor cores; `small`
reads text files and takes two or three; `paper` reads WMT, prepared once by
TensorFlow Datasets, and wants an accelerator.
"""

import dataclasses
import sys
from pathlib import Path

import jax
from absl import flags

from experiments.ledger import execute as experiment
from experiments.ledger import scales
from stale_adam import measure, pools
from stale_adam.compiled import decisions
from stale_adam.nmt import translation
from stale_adam.policy import Communication
from stale_adam.trace import Trace

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
START_ON_ZERO = flags.DEFINE_bool(
  'start_on_zero',
  False,
  'Run the optimizer once on a zero gradient before the first update, as the '
  "paper's own code does when asynchronous.",
)
TICKS = flags.DEFINE_integer(
  'ticks_per_update',
  1,
  'Counts of the learning rate schedule an update; the local accumulation, as '
  "in the paper's own code.",
  1,
)
POOL = flags.DEFINE_enum(
  'pool',
  'virtual',
  ['virtual', 'threads'],
  'Where the workers run: on a virtual clock, or on host threads.',
)
MEASURE = flags.DEFINE_bool(
  'measure',
  False,
  'Measure each push: distance of its snapshot, cosine to the last update, '
  "Adam's noise by layer; into the trace and the events. It costs.",
)
REPLAY = flags.DEFINE_string(
  'replay',
  None,
  'A trace.npz whose order of arrivals to repeat. Flags that are not given are '
  'those that it was recorded with.',
)
COUNTERFACTUAL = flags.DEFINE_bool(
  'counterfactual',
  False,
  'Let flags differ from those that the trace was recorded with.',
)
OUT = flags.DEFINE_string(
  'out',
  None,
  'Directory for what the run leaves; by default runs/<scale>/<run>.',
)


# What decides a run's numbers: kept in its trace.
RECORDED = (
  *(SCALE, DATA_DIR, PAIR, MODEL, COMMUNICATION, WORKERS, LOCAL, GLOBAL),
  *(PULL_EVERY, LEARNING_RATE, WARMUP, EPOCHS, SEED, START_ON_ZERO, TICKS),
)


def run_name(communication: Communication) -> str:
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
  if START_ON_ZERO.value:
    parts.append('start_on_zero')
  if TICKS.value > 1:
    parts.append(f'ticks{TICKS.value}')
  if POOL.value != 'virtual':
    parts.append(POOL.value)
  if REPLAY.value:
    parts.append('counterfactual' if COUNTERFACTUAL.value else 'replay')
  return '-'.join([*parts, f'seed{SEED.value}'])


def recall(trace: Trace) -> None:
  """Gives every flag that the command line leaves open its recorded value."""
  recorded = trace.settings.get('flags', {})
  for name in (flag.name for flag in RECORDED):
    if name in recorded and flags.FLAGS[name].using_default_value:
      flags.FLAGS[name].value = recorded[name]


def check(
  trace: Trace,
  chosen: experiment.Settings,
  learning: translation.Translation,
  out: Path,
) -> None:
  """Refuses, before anything is written, what cannot be replayed.

  Raises:
    ValueError: if settings differ from those recorded, but for counterfactual
      runs; if the order cannot happen; if `out` is the trace's own directory.
  """
  if not COUNTERFACTUAL.value:
    # Not by flags: one that is given its default changes nothing.
    trace.check(trace.settings | experiment.about(chosen, learning))
  decisions.record(chosen.communication, trace.worker)
  if out.resolve() == Path(REPLAY.value).resolve().parent:
    raise ValueError(
      f'--out={out} holds the trace to replay, which would be lost: name '
      'another directory'
    )


def settings() -> experiment.Settings:
  """What the flags say."""
  budget = scales.SCALES[SCALE.value].budget[MODEL.value]
  if EPOCHS.value is not None:
    budget = dataclasses.replace(budget, epochs=EPOCHS.value)
  communication = Communication(
    WORKERS.value,
    LOCAL.value,
    GLOBAL.value,
    COMMUNICATION.value == 'synchronous',
    PULL_EVERY.value,
  )
  return scales.settings(
    SCALE.value,
    MODEL.value,
    communication,
    SEED.value,
    learning_rate=LEARNING_RATE.value,
    warmup_updates=WARMUP.value,
    budget=budget,
    start_on_zero=START_ON_ZERO.value,
    ticks_per_update=TICKS.value,
  )


def pool(trace: Trace | None) -> pools.Virtual | pools.Threads | None:
  """Where the workers run; None for the virtual clock of the settings."""
  if trace is not None:
    return pools.Virtual(trace, counterfactual=COUNTERFACTUAL.value)
  return pools.Threads() if POOL.value == 'threads' else None


def main(_):
  if POOL.value == 'threads':  # A CPU is one device unless told otherwise.
    jax.config.update('jax_num_cpu_devices', WORKERS.value)
  trace = None
  try:
    if REPLAY.value is not None and POOL.value == 'threads':
      sys.exit('--replay decides who arrives when: leave out --pool=threads')
    if REPLAY.value is not None:
      trace = Trace.load(REPLAY.value)
      recall(trace)
      # XLA splits sums by the number of devices: the same, the same rounding.
      jax.config.update('jax_num_cpu_devices', trace.settings.get('devices', 1))
    elif COUNTERFACTUAL.value:
      sys.exit('--counterfactual replays another run: name it by --replay')
    chosen = settings()
    text = scales.load(SCALE.value, PAIR.value, DATA_DIR.value)
    learning = experiment.task(chosen, text)
    about = {'flags': {f.name: f.value for f in RECORDED}}
    name = run_name(chosen.communication)
    out = Path(OUT.value or Path('runs') / SCALE.value / name)
    if trace is not None:
      check(trace, chosen, learning, out)
    out.mkdir(parents=True, exist_ok=True)
  except (ValueError, OSError) as error:
    sys.exit(str(error))
  record, _ = experiment.run(
    chosen,
    learning,
    out,
    'train',
    SCALE.value,
    name,
    pool(trace),
    measure.Measure() if MEASURE.value else None,
    about,
  )
  speed = record['words_per_second']
  print(f'best validation BLEU {record["best_bleu"]:.2f}')
  for test, score in record['test_bleu'].items():
    print(f'{test} BLEU {score:.2f} ({record["sacrebleu_signature"]})')
  print(
    f'mean staleness {record["mean_staleness"]:.2f}; target words a second: '
    f"{speed['virtual']:.0f} by the pool's clock, {speed['measured']:.0f} "
    'measured'
  )
  if busy := record['busy_share']:
    print(
      f'busy: workers {100 * busy["workers"]:.0f}% of their time, the server '
      f'{100 * busy["server"]:.0f}%'
    )
  here = record['provenance']['device']
  if trace and (there := trace.settings.get('device', here)) != here:
    print(f'recorded on {there}, replayed on {here}: the same but for rounding')
  print(f'record, parameters, trace and events: {out}')


if __name__ == '__main__':
  experiment.main(main)
