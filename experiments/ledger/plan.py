"""Which runs are missing, and what they need: time, memory, words."""

import re
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence

from experiments.ledger import execute, memory, runs, scales, sweeps, texts
from experiments.ledger.settings import Settings
from experiments.ledger.store import Stored


def todo(wanted: Iterable[Settings], records: Stored) -> list[Settings]:
  """The runs that exist at the scale and have no record, once each."""
  return [
    run
    for run in dict.fromkeys(wanted)
    if records.pair(run.pair) and records.get(run) is None
  ]


def only(
  wanted: Iterable[Settings],
  scale: str,
  pattern: str | None,
  others: Iterable[Settings] = (),
) -> list[Settings]:
  """The runs whose name at the scale matches the expression.

  Raises:
    ValueError: if the expression is not valid, or matches no run, nor any of
      the others.
  """
  wanted = [run for run in wanted if run.pair in scales.SCALES[scale].pairs]
  found = matching(wanted, scale, pattern)
  if wanted and not found and not matching(others, scale, pattern):
    raise ValueError(
      f'--only={pattern} matches none of {len(wanted)} runs, such as '
      f'{runs.name(scale, wanted[0])}; --dry_run prints the missing ones'
    )
  return found


def matching(
  wanted: Iterable[Settings], scale: str, pattern: str | None
) -> list[Settings]:
  """The same, of runs that exist at the scale; there may be none."""
  try:
    return [
      run for run in wanted if re.search(pattern or '', runs.name(scale, run))
    ]
  except re.error as error:
    raise ValueError(
      f'--only={pattern} is not a regular expression: {error}'
    ) from None


def seconds(wanted: Sequence[Settings], records: Stored) -> float | None:
  """Expected seconds of runs, from finished ones; None if unknown."""
  models = {run.model for run in wanted}
  took = {model: records.durations(model) for model in models}
  if not all(took.values()):
    return None
  epochs = lambda run: runs.at(records.scale, run).budget.epochs
  return sum(statistics.median(took[r.model]) * epochs(r) for r in wanted)


def too_late(
  group: Sequence[Settings],
  records: Stored,
  began: float,
  minutes: float | None,
) -> bool:
  """Whether runs are expected to end later than `minutes` after `began`.

  A run whose duration nobody knows takes no time.

  Args:
    group: the next runs, which train together.
    records: the finished ones.
    began: a value of `time.monotonic`.
    minutes: None if there is no limit.
  """
  if minutes is None:
    return False
  expected = seconds(group, records) or 0
  return time.monotonic() - began + expected >= 60 * minutes


def time_left(missing: Sequence[Settings], records: Stored) -> str:
  """Say how long the missing runs are expected to take."""
  expected = seconds(missing, records)
  if expected is None:
    return 'time left unknown until a run of each model is finished'
  return f'about {expected / 60:.0f} minutes left'


def dry_run(
  wanted: Iterable[Settings],
  records: Stored,
  data_dir: str | None,
  together: int = 1,
) -> str:
  """Describe what `complete` would train, with size and memory per model."""
  scale, missing = records.scale, todo(wanted, records)
  lines = [runs.name(scale, run) for run in missing]
  lines.append(f'{len(missing)} runs to make; {time_left(missing, records)}')
  lines += sweeps.describe(scale, missing, together)
  for model in sorted({run.model for run in missing}):
    own = [run for run in missing if run.model == model]
    lines += [f'{model}:', *describe(own, scale, data_dir)]
  return '\n'.join(lines)


def describe(
  wanted: Sequence[Settings], scale: str, data_dir: str | None
) -> Iterator[str]:
  """Lines about runs of one model: parameters, memory, words.

  Args:
    wanted: the runs, as `runs.base` declares them.
    scale: a name in scales.py.
    data_dir: directory of the text, as in `texts.load`.
  """
  settings = runs.at(scale, wanted[0])
  parameters = memory.parameters(settings)
  gradient_bytes = memory.gradient(settings)
  held = max(memory.snapshots(run.communication) for run in wanted)
  smooths = settings.exponential_smoothing > 0
  smoothed = ', smoothed parameters' if smooths else ''
  server = 4 * parameters * (3 + smooths + held) / 2**20
  yield f'  {parameters:,} parameters'
  yield (
    f'  server {server:,.0f} MiB: two moments, a sum{smoothed}, and at most '
    f'{held} versions of the parameters if workers are about equally fast'
  )
  yield (
    f'  each worker {gradient_bytes / 2**20:,.0f} MiB for a gradient of '
    f'{settings.shape.rows} rows of {settings.shape.target} positions'
  )
  for run in {run.pair: run for run in wanted}.values():
    own = runs.at(scale, run)
    try:
      text = texts.load(scale, own.pair, data_dir)
      words = execute.make_task(own, text).units_per_epoch
    except (ValueError, OSError) as error:
      yield f'  {own.pair}: words in an epoch unknown, {error}'
      continue
    total = words * own.budget.epochs
    yield f'  {own.pair}: {words:,} target words an epoch, {total:,.0f} a run'
