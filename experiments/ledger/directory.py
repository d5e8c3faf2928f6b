"""The directory of a run: empty, unfinished or finished, and held by one.

A run writes `run.json` first and `record.json` last. A directory with a record
is finished; one with other files of a run is unfinished. `.lock` is there while
a process is at work.
"""

import contextlib
import datetime
import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.ledger import locks
from stale_adam import files
from stale_adam.training import resume

RECORD = 'record.json'
_BEGUN = 'run.json'
# What a run makes, and `--overwrite` removes: the record first, so that a
# directory that is half cleared does not count as finished.
_MADE = (RECORD, 'params.npz', 'trace.npz', 'events.out*', 'resume-*', _BEGUN)

_WAYS = (
  'name another directory (--out=..., of a table --results=...), or replace '
  'the run (--overwrite)'
)


@contextlib.contextmanager
def hold(out: Path) -> Iterator[None]:
  """Hold the directory of a run until the end of the block.

  Raises:
    locks.Locked: naming the process that holds it.
    OSError: if it cannot be written to.
  """
  with locks.hold(out / '.lock'):
    yield


def check_unfinished(out: Path) -> None:
  """Check that a directory holds no finished run.

  Raises:
    FileExistsError: naming what is there, and what to do.
  """
  if (out / RECORD).exists():
    raise FileExistsError(f'{out} holds a finished run{_since(out)}: {_WAYS}')


def begin(
  out: Path,
  run: Mapping[str, Any],
  program: Mapping[str, Any],
  overwrite: bool = False,
) -> bool:
  """Begin a run in a directory that this process holds.

  Args:
    out: the directory.
    run: what determines the run's numbers, in JSON's types. An unfinished run
      is continued only if it was begun with the same.
    program: what makes the run, in JSON's types. If an unfinished run was begun
      by another program, a line on stderr says so.
    overwrite: remove the run that is there, and no other file. An unfinished
      run with the same `run` and `program` is continued nevertheless.

  Returns:
    Whether the run continues from what an earlier process saved.

  Raises:
    FileExistsError: if there is a finished run, or an unfinished other one.
  """
  wanted = {'run': as_json(run), 'program': as_json(program)}
  begun = _begun(out)
  finished = (out / RECORD).exists()
  same = not finished and wanted.items() <= begun.items()
  if overwrite and not (same and resumable(out)):
    _clear(out)
  check_unfinished(out)
  if any(_made(out)):
    _check_same(out, wanted['run'])
    if resumable(out):
      print(f'{out}: continues the unfinished run{_since(out)}', flush=True)
      _warn(out, wanted['program'])
      _remove_partial(out)
      return True
    print(
      f'{out}: begins anew; the run{_since(out)} did not finish', flush=True
    )
    _clear(out)
  now = datetime.datetime.now(datetime.UTC)
  begun = wanted | {
    'command': shlex.join(getattr(sys, 'orig_argv', sys.argv)[1:]),
    'started_utc': now.isoformat(timespec='seconds'),
  }
  text = json.dumps(begun, indent=1) + '\n'
  with files.replacing(out / _BEGUN) as partial:
    partial.write_text(text, encoding='utf-8')
  return False


def resumable(out: Path) -> bool:
  """Whether the unfinished run in a directory saved a state to resume from."""
  return resume.exists(out)


def left(out: Path) -> str:
  """Describe what a run that stopped left behind, and how to go on."""
  kept = [path.name for path in _made(out) if path.suffix == '.npz']
  return (
    f'the run in {out} is unfinished; saved so far: '
    f'{", ".join(kept) or "nothing"}. Remove the cause and repeat the command'
  )


def _check_same(out: Path, run: Mapping[str, Any]) -> None:
  begun = _begun(out)
  if not begun:
    raise FileExistsError(
      f'{out} holds an unfinished run whose settings are unknown, because it '
      f'has no {_BEGUN} that can be read: {_WAYS}'
    )
  found = list(differences(begun['run'], run))
  if found:
    raise FileExistsError(
      f'{out} holds an unfinished run with other settings '
      f'({"; ".join(found)}): use those, {_WAYS}'
    )


def _warn(out: Path, program: Mapping[str, Any]) -> None:
  """Warn if another program began the run."""
  found = list(differences(_begun(out)['program'], program))
  if found:
    print(
      f'warning: another program began this run ({"; ".join(found)}): the '
      'result may differ from that of an unbroken run; --overwrite begins anew',
      file=sys.stderr,
    )


def differences(there: Any, here: Any, path: str = '') -> Iterator[str]:
  """Describe what differs between two values of JSON."""
  if isinstance(there, dict) and isinstance(here, dict):
    for key in dict.fromkeys([*there, *here]):
      name = f'{path}.{key}' if path else key
      yield from differences(there.get(key), here.get(key), name)
  elif there != here:
    yield f'{path}: {json.dumps(there)} there, {json.dumps(here)} here'


def _begun(out: Path) -> dict[str, Any]:
  """What `begin` wrote; empty if it is missing or damaged."""
  try:
    found = json.loads((out / _BEGUN).read_text(encoding='utf-8'))
    return found if {'run', 'program', 'started_utc'} <= found.keys() else {}
  except (OSError, ValueError, AttributeError):
    return {}


def _since(out: Path) -> str:
  begun = _begun(out)
  return f' begun at {begun["started_utc"]}' if begun else ''


def _made(out: Path) -> Iterator[Path]:
  """The files that a run left."""
  for pattern in _MADE:
    yield from sorted(out.glob(pattern))


def _clear(out: Path) -> None:
  """Remove them, and what a killed process left half written."""
  for path in _made(out):
    path.unlink()
  _remove_partial(out)


def _remove_partial(out: Path) -> None:
  for path in out.glob('.*.partial'):
    path.unlink()


def as_json(value: Any) -> Any:
  """A value as JSON gives it back: tuples become lists."""
  return json.loads(json.dumps(value))
