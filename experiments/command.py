"""The command line of tables and figures: train missing runs, then render.

An experiment is a module with `RUNS` and `report(records)`; one with a picture
also has `draw(path, records)`. Runs that follow from others' records are those
of its `then(records)`, all of which are in its `possible()`.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from experiments import launch, options
from experiments.ledger import compiled, plan, scales, sweeps, work
from experiments.ledger.settings import Settings
from experiments.ledger.store import Stored
from experiments.render.report import render
from stale_adam import checks, files

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
MINUTES = options.number(
  'minutes',
  None,
  'Start no run that is expected to end later than this from now, estimated '
  'from finished runs of its model. The first run of a model always starts.',
  float,
)
RESULTS = flags.DEFINE_string(
  'results',
  None,
  'Directory of records, tables and figures; by default results, or runs/micro '
  'for --scale=micro. Parameters and traces lie in its runs/, those of results '
  'in runs/paper.',
)
OVERWRITE = options.overwrite()
SAVE_SECONDS = options.save_seconds()
TOGETHER = flags.DEFINE_integer(
  'together',
  None,
  'Runs that train as one program, at most; fewer if there is no memory for '
  'them. Only runs that differ in learning rate and seed alone do. Their '
  'records say so. By default 64 on an accelerator and 1 on a CPU.',
  lower_bound=1,
  upper_bound=2**16,
)


def directory() -> Path:
  """The directory of records, tables and figures."""
  rehearsal = SCALE.value == 'micro'
  return Path(RESULTS.value or ('runs/micro' if rehearsal else 'results'))


def root() -> Path:
  """The directory of parameters and traces, beside the results.

  The default results are under version control: theirs lie in runs/.
  """
  default = directory().resolve() == Path('results').resolve()
  return Path('runs/paper') if default else directory() / 'runs'


def together() -> int:
  """How many runs train as one program, at most."""
  return sweeps.usual() if TOGETHER.value is None else TOGETHER.value


def execute_all(*experiments: ModuleType) -> list[Stored]:
  """Train what is missing, then render, according to the flags.

  Returns:
    The records of every scale; those of --scale for the text of --data_dir.
    Empty after a dry run.

  Raises:
    ValueError, OSError: with a message for the user.
  """
  if MINUTES.value is not None:
    checks.real('--minutes', MINUTES.value)
  training = not (PLOT_ONLY.value or DRY_RUN.value)
  if not DRY_RUN.value:
    files.check_writable(directory())
  if training:
    files.check_writable(root())
  records = Stored(SCALE.value, directory(), DATA_DIR.value, training)
  wanted = [run for module in experiments for run in module.RUNS]
  others = (run for m in experiments for run in _ask(m, 'possible'))
  wanted = plan.only(wanted, SCALE.value, ONLY.value, others)
  if not training:
    wanted += _later(experiments, records)
  if DRY_RUN.value:
    print(plan.dry_run(wanted, records, DATA_DIR.value, together()))
    return []
  if training:
    compiled.use(root() / '.compiled')
    work.complete(
      *(wanted, records, DATA_DIR.value, root(), MINUTES.value),
      overwrite=OVERWRITE.value,
      save_seconds=SAVE_SECONDS.value,
      together=together(),
      then=lambda: _later(experiments, records),
    )
  else:
    missing = plan.todo(wanted, records)
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


def _ask(module: ModuleType, name: str, *arguments: Any) -> Sequence[Settings]:
  """Runs that an experiment declares in a function that it may lack."""
  return getattr(module, name)(*arguments) if hasattr(module, name) else ()


def _later(
  experiments: Sequence[ModuleType], records: Stored
) -> list[Settings]:
  """The runs that follow from the records, as far as --only allows."""
  found = [
    run
    for module in experiments
    for run in _ask(module, 'then', records)
    if run.pair in scales.SCALES[SCALE.value].pairs
  ]
  return plan.matching(found, SCALE.value, ONLY.value)


def main(name: str) -> None:
  """Run the command of the experiment module with this name."""
  start(lambda: execute_all(sys.modules[name]))


def start(function: Callable[[], None]) -> None:
  """Start a command with the flags of this file, which --help explains."""
  where = SCALE, DATA_DIR, RESULTS
  what = ONLY, MINUTES, PLOT_ONLY, DRY_RUN, OVERWRITE, SAVE_SECONDS, TOGETHER
  for flag in where + what:
    flags.FLAGS.register_key_flag_for_module(
      sys.argv[0], flags.FLAGS[flag.name]
    )

  def command(_):
    try:
      function()
    except (ValueError, OSError) as error:
      sys.exit(str(error))

  launch.main(command, resumes=True)
