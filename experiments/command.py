"""The command line of tables and figures: train missing runs, then render.

An experiment is a module with `RUNS` and `report(records)`; one with a picture
also has `draw(path, records)`.
"""

import functools
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType

import jax
from absl import flags

from experiments import launch, options
from experiments.ledger import execute, plan, runs, scales, texts
from experiments.ledger.settings import Settings
from experiments.ledger.store import Stored
from experiments.render.report import label, render
from stale_adam.nmt import translation
from stale_adam.training import record as record_lib

SCALE = options.scale()
DATA_DIR = options.data_dir()
PLOT_ONLY = flags.DEFINE_bool(
  'plot_only', False, 'Render from existing records; train nothing.'
)
DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'Print the missing runs, and the size and memory of their models; train '
  'nothing.',
)
ONLY = flags.DEFINE_string(
  'only',
  None,
  'Regular expression: train only runs whose name it matches, such as '
  '"transformer.*seed0". --dry_run prints the names of missing runs.',
)
MINUTES = flags.DEFINE_float(
  'minutes',
  None,
  'Start no run that is expected to end later than this from now, estimated '
  'from finished runs of its model. The first run of a model always starts.',
  0.0,
)
RESULTS = flags.DEFINE_string(
  'results',
  None,
  'Directory of records, tables and figures; by default results, or runs/micro '
  'for --scale=micro.',
)


def _task(
  scale: str, settings: Settings, data_dir: str | None
) -> translation.Translation:
  """The task of a run, shared by all runs with the same task settings."""
  own = {name: getattr(settings, name) for name in execute.TASK_FIELDS}
  shared = scales.settings(scale, settings.model, **own)
  return _make_task(scale, shared, data_dir)


@functools.lru_cache(maxsize=8)
def _make_task(
  scale: str, settings: Settings, data_dir: str | None
) -> translation.Translation:
  text = texts.load(scale, settings.pair, data_dir)
  return execute.make_task(settings, text)


def complete(
  wanted: Sequence[Settings],
  records: Stored,
  data_dir: str | None,
  minutes: float | None = None,
) -> None:
  """Train the missing runs, in order, and save each one when it is finished.

  If the process is killed, only the run in progress is lost: call again to
  resume. Starts no run that is expected to end after `minutes`.
  """
  missing, began = todo(wanted, records), time.monotonic()
  scale = records.scale
  for i, run in enumerate(missing, start=1):
    if records.get(run) is not None:
      continue  # Another process has made it in the meantime.
    if minutes is not None:
      seconds = time.monotonic() - began + (_seconds([run], records) or 0)
      if seconds >= 60 * minutes:
        print(f'\nThe next run would end after {minutes:g} minutes; missing:')
        print('\n'.join(runs.name(scale, r) for r in todo(wanted, records)))
        return
    name, settings = runs.name(scale, run), runs.at(scale, run)
    left = _time_left(missing[i - 1 :], records)
    print(f'\n[{i}/{len(missing)}] {name}; {left}', flush=True)
    record = execute.execute(
      settings,
      _task(scale, settings, data_dir),
      Path('runs') / 'paper' / scale / name,
      'paper',
      scale,
      name,
    )
    records.add(run, record)
    seconds = record['provenance']['seconds']
    print(
      f'best {label(record_lib.metric(record))} '
      f'{record_lib.best(record):.1f}, '
      f'{seconds:.0f} s',
      flush=True,
    )


def todo(wanted: Iterable[Settings], records: Stored) -> list[Settings]:
  """The runs that exist at the scale and have no record, once each."""
  return [
    run
    for run in dict.fromkeys(wanted)
    if records.pair(run.pair) and records.get(run) is None
  ]


def only(
  wanted: Iterable[Settings], scale: str, pattern: str | None
) -> list[Settings]:
  """The runs whose name at the scale matches the expression.

  Raises:
    ValueError: if the expression is not valid, or matches no run.
  """
  wanted = [run for run in wanted if run.pair in scales.SCALES[scale].pairs]
  try:
    found = [
      run for run in wanted if re.search(pattern or '', runs.name(scale, run))
    ]
  except re.error as error:
    raise ValueError(
      f'--only={pattern} is not a regular expression: {error}'
    ) from None
  if wanted and not found:
    raise ValueError(
      f'--only={pattern} matches none of {len(wanted)} runs, such as '
      f'{runs.name(scale, wanted[0])}; --dry_run prints the missing ones'
    )
  return found


def _seconds(wanted: Sequence[Settings], records: Stored) -> float | None:
  """Expected seconds of runs, from finished ones; None if unknown."""
  took = {run.model: records.durations(run.model) for run in wanted}
  if not all(took.values()):
    return None
  return sum(statistics.median(took[run.model]) for run in wanted)


def _time_left(missing: Sequence[Settings], records: Stored) -> str:
  seconds = _seconds(missing, records)
  if seconds is None:
    return 'time left unknown until a run of each model is finished'
  return f'about {seconds / 60:.0f} minutes left'


def directory() -> Path:
  """The directory of records, tables and figures."""
  rehearsal = SCALE.value == 'micro'
  return Path(RESULTS.value or ('runs/micro' if rehearsal else 'results'))


def execute_all(*experiments: ModuleType) -> list[Stored]:
  """Train what is missing, then render, according to the flags.

  Returns:
    The records of every scale; those of --scale for the text of --data_dir.
    Empty after a dry run.

  Raises:
    ValueError, OSError: with a message for the user.
  """
  training = not (PLOT_ONLY.value or DRY_RUN.value)
  records = Stored(SCALE.value, directory(), DATA_DIR.value, training)
  wanted = [run for module in experiments for run in module.RUNS]
  wanted = only(wanted, SCALE.value, ONLY.value)
  if DRY_RUN.value:
    print(dry_run(wanted, records, DATA_DIR.value))
    return []
  if training:
    # Later processes reuse the programs that a run has compiled.
    jax.config.update('jax_compilation_cache_dir', 'runs/.compiled')
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
    complete(wanted, records, DATA_DIR.value, MINUTES.value)
  else:
    missing = todo(wanted, records)
    print(
      f'{len({*wanted}) - len(missing)} of {len({*wanted})} runs found at '
      f'{SCALE.value}'
    )
    if missing:
      changed = sum(records.exists(run) for run in missing)
      print(
        f'{len(missing)} are missing; {changed} of them have a record that was '
        'made with other settings or is damaged. Without --plot_only they are '
        'made.'
      )
  every = [
    records if scale == SCALE.value else Stored(scale, directory())
    for scale in scales.SCALES
  ]
  for module in experiments:
    print('\n' + render(module, directory(), every))
  return every


def dry_run(
  wanted: Iterable[Settings], records: Stored, data_dir: str | None
) -> str:
  """Describe what `complete` would train, with size and memory per model."""
  scale, missing = records.scale, todo(wanted, records)
  lines = [runs.name(scale, run) for run in missing]
  lines.append(f'{len(missing)} runs to make; {_time_left(missing, records)}')
  for model in sorted({run.model for run in missing}):
    own = [run for run in missing if run.model == model]
    lines += [f'{model}:', *plan.describe(own, scale, data_dir)]
  return '\n'.join(lines)


def main(name: str) -> None:
  """Run the command of the experiment module with this name."""
  start(lambda: execute_all(sys.modules[name]))


def start(function: Callable[[], None]) -> None:
  """Start a command with the flags of this file, which --help explains."""
  for flag in (SCALE, DATA_DIR, ONLY, MINUTES, PLOT_ONLY, DRY_RUN, RESULTS):
    flags.FLAGS.register_key_flag_for_module(
      sys.argv[0], flags.FLAGS[flag.name]
    )

  def command(_):
    try:
      function()
    except (ValueError, OSError) as error:
      sys.exit(str(error))

  launch.main(command)
