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
from collections.abc import Callable, Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from stale_adam import checks, files

_Kind = type | tuple[type, ...]
_NUMBER: _Kind = (int, float, type(None))  # None: it is not finite.
_COUNT: _Kind = (int, float)
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
# Fields that only some tasks and runs have.
_OPTIONAL: dict[str, _Kind] = {
  'text': dict,
  'examples': list,
  'sacrebleu_signature': str,
  'shortened': dict,
  'busy_share': (dict, type(None)),
  'together': dict,
  'bytes_per_batch': _NUMBER,
  'dropped_share': _NUMBER,
  'used_share': _NUMBER,
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
_SCORES = ('train_loss', 'validation_loss')  # Of a point, beside the metric.
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
  """Checks that a record has every field, of the right type, in every part.

  Raises:
    ValueError: naming the first field that is missing or of a wrong type.
  """
  if not isinstance(record, dict):
    raise ValueError(f'a record is an object, not {type(record).__name__}')
  name, speed = metric(record), rate(record)
  named = {f'best_{name}': _NUMBER, f'test_{name}': dict, speed: dict}
  there = {k: kind for k, kind in _OPTIONAL.items() if k in record}
  for field, kind in {**_FIELDS, **named, **there}.items():
    if field not in record:
      raise ValueError(f'record field {field!r} is missing: add it')
    _check(repr(field), record[field], kind)
  if not record['curve']:
    raise ValueError("record field 'curve' has no points: add a validation")
  for i, point in enumerate(record['curve']):
    _check(f'curve[{i}]', point, dict)
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
  for field, value, kind in _values(record, name, speed):
    _check(field, value, kind)


def _values(
  record: dict[str, Any], name: str, speed: str
) -> Iterator[tuple[str, Any, _Kind]]:
  """(field, value, kind) of what the parts of a record hold."""
  for i, point in enumerate(record['curve']):
    for key, value in point.items():
      kind = _NUMBER if key in (*_SCORES, name) else _COUNT
      yield f'curve[{i}].{key}', value, kind
  yield 'provenance.seconds', record['provenance']['seconds'], _NUMBER
  kinds: dict[str, _Kind] = {
    f'test_{name}': _NUMBER,
    speed: _NUMBER,
    'busy_share': _NUMBER,
    'staleness_histogram': int,
    'shortened': int,
    'text': str,
    'together': _COUNT,
  }
  for field, kind in kinds.items():
    for key, value in (record.get(field) or {}).items():
      yield f'{field}.{key}', value, kind
  for i, example in enumerate(record.get('examples', [])):
    _check(f'examples[{i}]', example, dict)
    for key in ('source', 'reference', 'translation'):
      if key in example:
        yield f'examples[{i}].{key}', example[key], str


def _check(field: str, value: Any, kind: _Kind) -> None:
  """Raises a ValueError if the value of a field is not of this kind."""
  right = isinstance(value, kind) and not isinstance(value, bool)
  if right and isinstance(value, int) and abs(value) >= 2**63:
    right = False  # No array holds it.
  if not right:
    raise ValueError(
      f'record field {field} is {checks.shown(value)}: it must be of type '
      f'{getattr(kind, "__name__", "number")}'
    )


def _unit(record: dict[str, Any], name: str) -> set[str]:
  """The one field of the curve's points that is the unit."""
  found = {key for point in record['curve'] for key in point}
  found -= {*_POINT, name}
  if len(found) != 1:
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
  """Reads and validates a record; scores that are null are not a number.

  Raises:
    ValueError: naming the file, if it is damaged or is something else.
  """
  try:
    text = Path(path).read_text(encoding='utf-8')
    record = json.loads(text, parse_constant=_refuse, parse_float=_float)
    validate(record)
  except RecursionError:
    raise ValueError(f'{path}: nested too deep to be a record') from None
  except (ValueError, TypeError, AttributeError) as error:
    raise ValueError(f'{path}: {error}') from None
  number = lambda value: math.nan if value is None else value
  name = metric(record)
  for part in (*record['curve'], record[f'test_{name}'], record[rate(record)]):
    part.update({key: number(value) for key, value in part.items()})
  for field in (f'best_{name}', 'mean_staleness'):
    record[field] = number(record[field])
  return record


def _refuse(constant: str) -> Any:
  raise ValueError(f'{constant} is not JSON: write null')


def _float(text: str) -> float:
  if not math.isfinite(value := float(text)):
    raise ValueError(f'{text} is too large for a number')
  return value


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


def reached(record: dict[str, Any], target: float, field: str) -> float | None:
  """Where on the curve the metric first reaches a target, or None (never).

  Interpolated linearly between the two validations around it, so that the
  result does not jump by what lies between validations. Before any training,
  metric and field are 0.

  Args:
    record: of a run.
    target: in units of the metric.
    field: of the curve's points, such as 'target_words'; it is the result's
      unit.
  """
  name = metric(record)
  here = score = 0.0
  for point in record['curve']:
    last, before = here, score
    here, score = point[field], point[name] or 0.0
    if score >= target:
      part = (target - before) / (score - before) if score > before else 0.0
      return last + part * (here - last)
  return None


def seconds_to(record: dict[str, Any], target: float) -> float | None:
  """Virtual seconds until the metric first reaches a target; see `reached`."""
  return reached(record, target, 'virtual_seconds')
