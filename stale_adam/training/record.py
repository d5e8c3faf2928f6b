"""The result record: one JSON file for each run; write, read, validate.

A record names the task's metric and unit in its fields: `best_<metric>`,
`test_<metric>`, one `<units>_per_second`, and in every point of the curve
`<metric>` and `<unit>`. Nothing else depends on the task.
"""

import datetime
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection
from importlib import metadata
from pathlib import Path
from typing import Any

from stale_adam import files

_Kind = type | tuple[type, ...]
_NUMBER: _Kind = (int, float, type(None))
_FIELDS: dict[str, _Kind] = {
  'experiment': str,
  'scale': str,
  'run': str,
  'config': dict,
  'curve': list,
  'mean_staleness': _NUMBER,
  'staleness_histogram': dict,
  'trace_sha256': str,
  'provenance': dict,
}
_POINT = (
  'updates',
  'pushes',
  'epochs',
  'virtual_seconds',
  'seconds',
  'train_loss',
  'validation_loss',
)
_PROVENANCE = (
  'commit',
  'dirty',
  'command',
  'seed',
  'versions',
  'device',
  'pool',
  'started_utc',
  'seconds',
)
_PACKAGES = ('jax', 'flax', 'optax', 'sacrebleu', 'sentencepiece', 'numpy')


def metric(record: dict[str, Any]) -> str:
  """The name of a record's metric, from its field `best_<metric>`."""
  return _only(record, 'best_<metric>', lambda k: k.startswith('best_'))[5:]


def best(record: dict[str, Any]) -> float:
  """The highest score of the validations."""
  return record[f'best_{metric(record)}']


def tests(record: dict[str, Any]) -> dict[str, float]:
  """The score of every test set."""
  return record[f'test_{metric(record)}']


def rate(record: dict[str, Any]) -> str:
  """The name of a record's speed, such as 'words_per_second'."""
  return _only(
    record, '<units>_per_second', lambda k: k.endswith('_per_second')
  )


def virtual_speed(record: dict[str, Any]) -> float:
  """Units a second by the clock of the pool."""
  return record[rate(record)]['virtual']


def _only(
  record: dict[str, Any], form: str, chosen: Callable[[str], bool]
) -> str:
  found = [name for name in record if chosen(name)]
  if len(found) != 1:
    raise ValueError(
      f'a record has one field {form}, this one has {found or "none"}'
    )
  return found[0]


def validate(record: dict[str, Any]) -> None:
  """Checks that a record has every field, and every point of its curve too.

  Raises:
    ValueError: naming the first field that is missing or of a wrong type.
  """
  if not isinstance(record, dict):
    raise ValueError(f'a record is an object, not {type(record).__name__}')
  name, speed = metric(record), rate(record)
  named = {f'best_{name}': _NUMBER, f'test_{name}': dict, speed: dict}
  for field, kind in {**_FIELDS, **named}.items():
    if field not in record or not isinstance(record[field], kind):
      raise ValueError(
        f'record field {field!r} is {record.get(field)!r}: it must be of type '
        f'{getattr(kind, "__name__", "number")}'
      )
  needed = {*_POINT, name, *_unit(record, name)}
  parts: list[tuple[str, Any, Collection[str]]] = [
    (f'curve[{i}]', p, needed) for i, p in enumerate(record['curve'])
  ]
  parts.append(('provenance', record['provenance'], _PROVENANCE))
  parts.append((speed, record[speed], ('virtual', 'measured')))
  if 'text' in record:
    parts.append(('text', record['text'], ('name', 'sha256')))
  for field, part, names in parts:
    missing = [key for key in names if key not in part]
    if missing:
      raise ValueError(f'record field {field} lacks {missing}: add it')


def _unit(record: dict[str, Any], name: str) -> set[str]:
  """The one field of the curve's points that is the unit; none of no curve."""
  found = {key for point in record['curve'] for key in point}
  found -= {*_POINT, name}
  if record['curve'] and len(found) != 1:
    raise ValueError(
      f'the points of the curve count units of {sorted(found) or "nothing"}: '
      'give them one more field, named after the unit'
    )
  return found


def write(path: str | os.PathLike, record: dict[str, Any]) -> None:
  """Validates a record and writes it; the file is complete or absent.

  A number that is not finite, such as a diverged loss, becomes null.
  """
  validate(record)
  text = json.dumps(_finite(record), indent=1, ensure_ascii=False)
  with files.replacing(path) as partial:
    partial.write_text(text + '\n', encoding='utf-8')


def read(path: str | os.PathLike) -> dict[str, Any]:
  """Reads and validates a record.

  Raises:
    ValueError: naming the file, if it is damaged or is something else.
  """
  try:
    record = json.loads(Path(path).read_text(encoding='utf-8'))
    validate(record)
  except (ValueError, TypeError, AttributeError) as error:
    raise ValueError(f'{path}: {error}') from None
  return record


def provenance(seed: int, pool: str, device: str) -> dict[str, Any]:
  """Where a result comes from; the caller sets `seconds` when it is there."""
  # An installed package may lie inside somebody else's repository.
  ours = _git('rev-parse', '--show-toplevel') == str(Path(__file__).parents[2])
  # Rendering tables does not change the program.
  program = (':/', ':(top,exclude)results')
  changed = _git(
    'status', '--porcelain', '--untracked-files=no', '--', *program
  )
  now = datetime.datetime.now(datetime.UTC)
  return {
    'commit': _git('rev-parse', 'HEAD') if ours else None,
    'dirty': bool(changed) if ours else None,
    'command': shlex.join(getattr(sys, 'orig_argv', sys.argv)[1:]),
    'seed': seed,
    'versions': {p: metadata.version(p) for p in _PACKAGES}
    | {'python': platform.python_version()},
    'device': device,
    'pool': pool,
    'started_utc': now.isoformat(timespec='seconds'),
    'seconds': None,
  }


def _git(*arguments: str) -> str | None:
  command = ['git', '-C', str(Path(__file__).parent), *arguments]
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
  except OSError:  # There is no git.
    return None
  return done.stdout.strip() if done.returncode == 0 else None


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {str(k): _finite(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def seconds_to(record: dict[str, Any], target: float) -> float | None:
  """Virtual seconds until the metric first reaches a target, or None.

  Interpolated linearly between the two validations around it, so that the
  result does not jump by the time between validations.
  """
  name = metric(record)
  seconds = score = 0.0  # Before any training.
  for point in record['curve']:
    last, before = seconds, score
    seconds, score = point['virtual_seconds'], point[name] or 0.0
    if score >= target:
      part = (target - before) / (score - before) if score > before else 0.0
      return last + part * (seconds - last)
  return None
