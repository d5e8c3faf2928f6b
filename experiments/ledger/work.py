"""Makes the runs that are missing; several processes share them."""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.ledger import (
  directory,
  execute,
  locks,
  plan,
  runs,
  scales,
  sweeps,
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
  together: int = 1,
  then: Callable[[], Sequence[Settings]] = list,
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
    together: runs that train as one program, at most; see sweeps.py.
    then: which runs the finished ones ask for besides, until it asks for none.

  Raises:
    resume.Interrupted: after a signal, when the state of the run is saved.
    FileExistsError: when the others are made, if directories hold other runs,
      finished or not, than those that they are for.
    OSError: if something cannot be written; names what is saved.
  """
  began, waits = time.monotonic(), False
  make = _Maker(records, data_dir, root, overwrite, save_seconds, {})
  todo = lambda some: plan.todo(
    (r for r in some if r not in make.refused), records
  )
  pending = todo(wanted)
  count = len(pending)
  while pending or (pending := todo(then())):
    count = max(count, len(pending))
    busy: list[Settings] = []
    groups = sweeps.groups(records.scale, pending, together, make.resumable)
    for i, group in enumerate(groups):
      # Another process may have made some in the meantime.
      group = todo(group)
      while len(group) > 1 and plan.too_late(group, records, began, minutes):
        del group[-1]
      if not group:
        continue
      if plan.too_late(group, records, began, minutes):
        print(f'\nThe next run would end after {minutes:g} minutes; missing:')
        left = plan.todo([*wanted, *then()], records)
        print('\n'.join(runs.name(records.scale, r) for r in left))
        return
      left = [*busy, *itertools.chain(*groups[i:])]
      number = f'[{count - len(left) + 1}/{count}]'
      held, holder = make(group, number, left)
      busy += held
    if busy and len(busy) == len(pending):
      if not waits:
        print(f'\nwaits for {len(busy)} runs by others: {holder}', flush=True)
      waits = True
      time.sleep(_POLL_SECONDS)
    pending = todo(pending)
  make.check()


class _Maker(NamedTuple):
  """Makes runs, and saves their records; the fields are as of `complete`.

  `refused` collects those whose directory holds something else, and why.
  """

  records: Stored
  data_dir: str | None
  root: Path
  overwrite: bool
  save_seconds: float
  refused: dict[Settings, str]

  def check(self) -> None:
    """Raises FileExistsError if runs were refused."""
    if self.refused:
      causes = '\n'.join(dict.fromkeys(self.refused.values()))
      raise FileExistsError(f'runs not made, {len(self.refused)}:\n{causes}')

  def out(self, run: Settings) -> Path:
    """The directory of a run."""
    scale = self.records.scale
    name, settings = runs.name(scale, run), runs.at(scale, run)
    digits = texts.sha256(scale, settings.pair, self.data_dir)[:DIGITS]
    return self.root / scale / f'{name}.{digits}'

  def resumable(self, run: Settings) -> bool:
    """Whether the run continues from a state."""
    return directory.resumable(self.out(run))

  def __call__(
    self, group: Sequence[Settings], number: str, left: Sequence[Settings]
  ) -> tuple[list[Settings], locks.Locked | None]:
    """Trains runs together, unless other processes do so or have done so.

    Returns:
      The runs that other processes hold, and what a lock says.
    """
    busy, own, holder = [], [], None
    with contextlib.ExitStack() as stack:
      for run in group:
        try:
          stack.enter_context(directory.hold(self.out(run)))
        except locks.Locked as error:
          busy.append(run)
          holder = error
          continue
        if self.records.get(run) is None:
          own.append(run)
      try:
        if own:
          said = f'{number} {{}}; {plan.time_left(left, self.records)}'
          self._train(own, said)
      except FileExistsError as error:
        print(f'not made: {error}', flush=True)
        missing = plan.todo(own, self.records)
        self.refused.update(dict.fromkeys(missing, str(error)))
    return busy, holder

  def _train(self, group: list[Settings], said: str) -> None:
    """Trains runs whose directories are held."""
    scale, ready = self.records.scale, []
    names = [runs.name(scale, run) for run in group]
    others = f' and {len(group) - 1} more' if len(group) > 1 else ''
    print('\n' + said.format(names[0] + others), flush=True)
    for run, name in zip(group, names, strict=True):
      settings, out = runs.at(scale, run), self.out(run)
      task = task_of(scale, settings, self.data_dir)
      record = execute.finished(settings, task, out, scale, name)
      if record is None or self.overwrite:
        ready.append((run, sweeps.Run(settings, task, out, name)))
      else:
        print(f'{out} has this run already; --overwrite trains it again')
        self._done(run, record)
    more = {'overwrite': self.overwrite, 'save_seconds': self.save_seconds}
    if len(ready) == 1:
      ((run, (settings, task, out, name)),) = ready
      known = settings, task, out, 'paper', scale, name
      self._done(run, execute.execute(*known, **more))
    elif ready:
      done = lambda i, record: self._done(ready[i][0], record)
      sweeps.train([one for _, one in ready], 'paper', scale, done, **more)

  def _done(self, run: Settings, record: dict[str, Any]) -> None:
    self.records.add(run, record)
    print(
      f'best {record_lib.metric(record)} {record_lib.best(record):.1f}, '
      f'{seconds(record) or 0:.0f} s',
      flush=True,
    )
