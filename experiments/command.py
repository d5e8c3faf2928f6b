"""The command line of tables and figures: make what is missing, then render.

An experiment declares `RUNS` and `report(records)`; one with a picture,
`draw(path, records)`, too.
"""

import functools
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType

import jax
from absl import flags

from experiments.ledger import execute as experiment
from experiments.ledger import scales
from experiments.ledger.records import Records
from experiments.ledger.runs import Run, base
from experiments.paper import printed as paper
from experiments.render.report import render
from stale_adam.nmt import translation
from stale_adam.policy import Communication

SCALE = flags.DEFINE_enum(
  'scale', 'tiny', list(scales.SCALES), 'Size of model, data and run.'
)
DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  'Directory of the text, for any scale but tiny and micro; see '
  'experiments.train.',
)
PLOT_ONLY = flags.DEFINE_bool(
  'plot_only', False, 'Render from the records that are there; train nothing.'
)
DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'Print what would be trained, how large it is and what memory it takes; '
  'train nothing.',
)
ONLY = flags.DEFINE_string(
  'only',
  None,
  'Regular expression: train only runs whose name it is found in, such as '
  '"transformer.*seed0"; --dry_run prints the names of those to make.',
)
MINUTES = flags.DEFINE_float(
  'minutes',
  None,
  'Begin no run expected to end later than this from now, as finished runs of '
  'its model took; the first of a model is begun all the same.',
  0.0,
)
RESULTS = flags.DEFINE_string(
  'results',
  None,
  'Directory of records, tables and figures; by default results, or runs/micro '
  'for --scale=micro.',
)


@functools.lru_cache(maxsize=1)
def _corpus(scale: str, pair: str, data_dir: str | None):
  return scales.load(scale, scales.SCALES[scale].pairs[pair], data_dir)


@functools.lru_cache(maxsize=8)
def _task(
  scale: str, model: str, pair: str, seed: int, data_dir: str | None
) -> translation.Translation:
  """Shared by runs that differ in nothing else, with what is compiled."""
  some = base(model, paper.SYNC, pair=pair, seed=seed)
  return experiment.task(some.settings(scale), _corpus(scale, pair, data_dir))


def complete(
  runs: Sequence[Run],
  records: Records,
  data_dir: str | None,
  minutes: float | None = None,
) -> None:
  """Makes the runs that are missing, in their order, each kept when finished.

  Killed, it loses the run that it was at; started again, it goes on there. It
  ends before a run that is expected to end after so many minutes.
  """
  missing, began = todo(runs, records), time.monotonic()
  for i, run in enumerate(missing, start=1):
    if records.get(run) is not None:
      continue  # Another process has made it meanwhile.
    if minutes is not None:
      seconds = time.monotonic() - began + (_seconds([run], records) or 0)
      if seconds >= 60 * minutes:
        print(f'\nThe next run would end after {minutes:g} minutes; missing:')
        print('\n'.join(r.name(records.scale) for r in todo(runs, records)))
        return
    name = run.name(records.scale)
    left = _time_left(missing[i - 1 :], records)
    print(f'\n[{i}/{len(missing)}] {name}; {left}', flush=True)
    record, _ = experiment.run(
      run.settings(records.scale),
      _task(records.scale, run.model, run.pair, run.seed, data_dir),
      Path('runs') / 'paper' / records.scale / name,
      'paper',
      records.scale,
      name,
    )
    records.add(run, record)
    seconds = record['provenance']['seconds']
    print(f'best BLEU {record["best_bleu"]:.1f}, {seconds:.0f} s', flush=True)


def todo(runs: Iterable[Run], records: Records) -> list[Run]:
  """Those that the scale has and nobody has made yet, once each."""
  return [
    run
    for run in dict.fromkeys(runs)
    if records.pair(run.pair) and records.get(run) is None
  ]


def only(runs: Iterable[Run], scale: str, pattern: str | None) -> list[Run]:
  """Those whose name at the scale the expression is found in.

  Raises:
    ValueError: if it is none, or is found nowhere.
  """
  runs = [run for run in runs if run.pair in scales.SCALES[scale].pairs]
  try:
    found = [run for run in runs if re.search(pattern or '', run.name(scale))]
  except re.error as error:
    raise ValueError(
      f'--only={pattern} is no regular expression: {error}'
    ) from None
  if runs and not found:
    raise ValueError(
      f'--only={pattern} is in the name of none of {len(runs)} runs, such as '
      f'{runs[0].name(scale)}: --dry_run alone prints those to make'
    )
  return found


def _seconds(runs: Sequence[Run], records: Records) -> float | None:
  """What runs will take, by finished ones of the same model; None: unknown."""
  took = {run.model: records.durations(run.model) for run in runs}
  if not all(took.values()):
    return None
  return sum(statistics.median(took[run.model]) for run in runs)


def _time_left(missing: Sequence[Run], records: Records) -> str:
  seconds = _seconds(missing, records)
  if seconds is None:
    return 'time left unknown until a run of each model is finished'
  return f'about {seconds / 60:.0f} minutes left'


def directory() -> Path:
  """Where records, tables and figures are."""
  rehearsal = SCALE.value == 'micro'
  return Path(RESULTS.value or ('runs/micro' if rehearsal else 'results'))


def execute(*experiments: ModuleType) -> None:
  """Trains what is missing, then renders, as the flags say."""
  records = Records(SCALE.value, directory())
  wanted = [run for module in experiments for run in module.RUNS]
  try:
    wanted = only(wanted, SCALE.value, ONLY.value)
    if DRY_RUN.value:
      print(dry_run(wanted, records, DATA_DIR.value))
      return
    if not PLOT_ONLY.value:
      # What one run has compiled, the next one finds, whatever its process.
      jax.config.update('jax_compilation_cache_dir', 'runs/.compiled')
      jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
      complete(wanted, records, DATA_DIR.value, MINUTES.value)
    elif missing := todo(wanted, records):
      stale = sum(records.path(run).exists() for run in missing)
      print(
        f'{len(missing)} runs are missing at {SCALE.value}, {stale} of which '
        'were made with other settings: without --plot_only they are made'
      )
    for module in experiments:
      print('\n' + render(module, directory()))
  except (ValueError, OSError) as error:
    sys.exit(str(error))


def main(name: str) -> None:
  """The command of the one experiment whose module has this name."""
  run(lambda _: execute(sys.modules[name]))


def run(function: Callable[[list[str]], None]) -> None:
  """`experiment.main`, whose --help explains the flags of this file too."""
  for flag in (SCALE, DATA_DIR, ONLY, MINUTES, PLOT_ONLY, DRY_RUN, RESULTS):
    flags.FLAGS.register_key_flag_for_module(
      sys.argv[0], flags.FLAGS[flag.name]
    )
  experiment.main(function)


def dry_run(runs: Iterable[Run], records: Records, data_dir: str | None) -> str:
  """What `complete` would train, and the size and memory of each model."""
  scale, missing = records.scale, todo(runs, records)
  lines = [run.name(scale) for run in missing]
  lines.append(f'{len(missing)} runs to make; {_time_left(missing, records)}')
  for model in sorted({run.model for run in missing}):
    own = [run for run in missing if run.model == model]
    lines += [f'{model}:', *_sizes(own, scale, data_dir)]
  return '\n'.join(lines)


def _sizes(
  runs: Sequence[Run], scale: str, data_dir: str | None
) -> Iterable[str]:
  """Lines about runs of one model: parameters, memory, words."""
  settings = runs[0].settings(scale)
  parameters, gradient_bytes = experiment.size(settings)
  held = max(_snapshots(run.communication) for run in runs)
  server = 4 * parameters * (3 + held) / 2**20
  yield f'  {parameters:,} parameters'
  yield (
    f'  server {server:,.0f} MiB: two moments, a sum, and {held} versions of '
    'the parameters at most, if workers are about equally fast'
  )
  yield (
    f'  each worker {gradient_bytes / 2**20:,.0f} MiB for a gradient of '
    f'{settings.shape.rows} rows of {settings.shape.target} positions'
  )
  for pair in dict.fromkeys(run.pair for run in runs):
    ours = scales.SCALES[scale].pairs[pair]
    try:
      task = _task(scale, settings.model, pair, 0, data_dir)
    except (ValueError, OSError) as error:
      yield f'  {ours}: words an epoch unknown, {error}'
      continue
    words = task.words_per_epoch
    total = words * settings.budget.epochs
    yield f'  {ours}: {words:,} target words an epoch, {total:,.0f} a run'


def _snapshots(communication: Communication) -> int:
  """Versions at once: those that equal workers hold, and the next."""
  if communication.synchronous:
    return 2
  pushes = communication.pushes_per_update
  return math.ceil((communication.workers - 1) / pushes) + 2
