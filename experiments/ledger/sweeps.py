"""Runs that share shapes train together: which, how many, and how."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments.ledger import directory, execute, memory, runs
from experiments.ledger.settings import Settings
from stale_adam import update
from stale_adam.nmt import translation
from stale_adam.training import group as group_lib
from stale_adam.training.run import run_together

_MOST = 64  # Runs that train together on an accelerator.


def usual() -> int:
  """How many runs train together unless one says so, at most.

  On an accelerator, a small model leaves most of it idle. On a CPU, it takes
  one alone: see experiments.benchmarks.sweep.
  """
  return 1 if jax.default_backend() == 'cpu' else _MOST


def groups(
  scale: str,
  wanted: Sequence[Settings],
  together: int,
  resumed: Callable[[Settings], bool] = lambda run: False,
) -> list[list[Settings]]:
  """The runs as groups that can train together.

  All settings but learning rate and seed are equal in a group. A run with a
  method trains alone. A run goes before its turn if it fits into a group.

  Args:
    scale: a name in scales.py.
    wanted: runs, as `runs.base` declares them.
    together: the most of a group; fewer if the memory has no room for them.
    resumed: whether a run continues from a state. These are groups of their
      own, so that a group that was killed is the same group again.
  """
  if together == 1:
    return [[run] for run in wanted]
  found: dict[Any, list[Settings]] = {}
  for run in wanted:
    own = runs.at(scale, run)
    shared = dataclasses.replace(own, learning_rate=0.0, seed=0)
    found.setdefault((shared, resumed(run)), []).append(run)
  parts = []
  for alike in found.values():
    alone = alike[0].method != 'none'
    most = 1 if alone else min(together, len(alike))
    if most > 1:
      most = memory.runs(runs.at(scale, alike[0]), most)
    parts += [alike[i : i + most] for i in range(0, len(alike), most)]
  place = {run: i for i, run in reversed(list(enumerate(wanted)))}
  return sorted(parts, key=lambda part: place[part[0]])


def describe(
  scale: str, wanted: Sequence[Settings], together: int
) -> Iterator[str]:
  """Lines about the groups of runs that `groups` makes, and their memory."""
  for part in groups(scale, wanted, together):
    if len(part) > 1:
      size = len(part) * memory.together(runs.at(scale, part[0])) / 2**20
      first = runs.name(scale, part[0])
      yield f'{len(part)} runs together, {size:,.0f} MiB: {first} and others'


class Run(NamedTuple):
  """A run of a group, ready to be trained."""

  settings: Settings
  task: translation.Translation
  out: Path
  name: str


def train(
  group: Sequence[Run],
  experiment: str,
  scale: str,
  done: Callable[[int, dict[str, Any]], None],
  overwrite: bool = False,
  save_seconds: float = 60.0,
) -> None:
  """Train runs together; each leaves what `execute.execute` leaves.

  The caller holds the directories: see `directory.hold`.

  Args:
    group: runs whose settings differ in learning rate and seed only.
    experiment: the records' field.
    scale: the records' field.
    done: `done(i, record)` is called when run i is finished.
    overwrite: replace runs that the directories hold.
    save_seconds: least time between two saved states.

  Raises:
    FileExistsError: if a directory holds a finished run, or an unfinished one
      with other settings.
    OSError: if a directory can no longer be written to; names what is saved.
  """
  first = group[0].settings
  entries, made_by = [], execute.program()
  for settings, task, out, name in group:
    known = execute.identity(settings, task, scale, name)
    directory.begin(out, known, made_by, overwrite)
    entries.append(
      group_lib.Entry(
        task,
        settings.learning_rate,
        execute.virtual_clock(settings, task),
        out,
        {'experiment': experiment} | known | {'text': task.text},
        settings.seed,
        execute.trace_settings(settings, task) | made_by,
        task.model.metadata(),
      )
    )
  try:
    for run in group:
      run.task.model.vocabulary.save(run.out / translation.VOCABULARY)
    run_together(
      entries,
      first.transformation,
      first.communication,
      first.budget,
      done,
      save_seconds=save_seconds,
    )
  except OSError as error:
    left = [
      run.out for run in group if not (run.out / directory.RECORD).exists()
    ]
    others = f' ({len(left) - 1} more likewise)' if len(left) > 1 else ''
    raise OSError(f'{error}; {directory.left(left[0])}{others}') from error
  finally:
    # It was traced for this group's rates.
    update.update.clear_cache()
