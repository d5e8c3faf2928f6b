"""Makes the runs that are missing; several processes share them."""

import functools
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.ledger import (
  directory,
  execute,
  locks,
  plan,
  runs,
  scales,
  texts,
)
from experiments.ledger.records import seconds
from experiments.ledger.settings import Settings
from experiments.ledger.store import DIGITS, Stored
from stale_adam.nmt import translation
from stale_adam.training import record as record_lib

_POLL_SECONDS = 1.0


def task_of(
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
  root: Path,
  minutes: float | None = None,
  overwrite: bool = False,
  save_seconds: float = 60.0,
) -> None:
  """Train the missing runs, in order, and save each one when it is finished.

  Several processes share the work: each holds the directory of its run, and
  the others go on to the next one. At the end, each waits for the others.

  Args:
    wanted: runs, as `runs.base` declares them.
    records: which runs exist, and where to save new ones.
    data_dir: directory of the text, as in `texts.load`.
    root: has the directories of the runs, with their parameters and traces.
    minutes: start no run that is expected to end later than this from now.
    overwrite: replace what the directory of a missing run holds.
    save_seconds: least time between two saved states of a run.

  Raises:
    resume.Interrupted: after a signal, when the state of the run is saved.
    FileExistsError: if the directory of a run holds another unfinished one.
    OSError: if something cannot be written; names what is saved.
  """
  began, waits = time.monotonic(), False
  pending = plan.todo(wanted, records)
  count = len(pending)
  while pending:
    busy = []
    for i, run in enumerate(pending):
      if records.get(run) is not None:
        continue  # Another process has made it in the meantime.
      if plan.too_late(run, records, began, minutes):
        print(f'\nThe next run would end after {minutes:g} minutes; missing:')
        left = plan.todo(wanted, records)
        print('\n'.join(runs.name(records.scale, r) for r in left))
        return
      left = [*busy, *pending[i:]]
      number = f'[{count - len(left) + 1}/{count}]'
      try:
        _make(
          *(run, records, data_dir, root, number, left),
          overwrite=overwrite,
          save_seconds=save_seconds,
        )
      except locks.Locked as error:
        busy.append(run)
        holder = error
    if busy == pending:
      if not waits:
        print(f'\nwaits for {len(busy)} runs by others: {holder}', flush=True)
      waits = True
      time.sleep(_POLL_SECONDS)
    pending = busy


def _make(
  run: Settings,
  records: Stored,
  data_dir: str | None,
  root: Path,
  number: str,
  left: Sequence[Settings],
  overwrite: bool,
  save_seconds: float,
) -> None:
  """Train a run and save its record, unless another process has done so."""
  scale = records.scale
  name, settings = runs.name(scale, run), runs.at(scale, run)
  digits = texts.sha256(scale, settings.pair, data_dir)[:DIGITS]
  out = root / scale / f'{name}.{digits}'
  with directory.hold(out):
    if records.get(run) is not None:
      return
    print(f'\n{number} {name}; {plan.time_left(left, records)}', flush=True)
    task = task_of(scale, settings, data_dir)
    known = settings, task, out
    record = execute.finished(*known, scale, name)
    if record is None or overwrite:
      record = execute.execute(
        *(*known, 'paper', scale, name),
        overwrite=overwrite,
        save_seconds=save_seconds,
      )
    else:
      print(f'{out} has this run already; --overwrite trains it again')
    records.add(run, record)
  print(
    f'best {record_lib.metric(record)} {record_lib.best(record):.1f}, '
    f'{seconds(record) or 0:.0f} s',
    flush=True,
  )
