"""The result record: one JSON file a run; write, read, validate."""

import datetime
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from stale_adam import files

_NUMBER = (int, float, type(None))
_FIELDS = {
  'experiment': str,
  'scale': str,
  'run': str,
  'config': dict,
  'curve': list,
  'best_bleu': _NUMBER,
  'test_bleu': dict,
  'sacrebleu_signature': str,
  'mean_staleness': _NUMBER,
  'staleness_histogram': dict,
  'words_per_second': dict,
  'trace_sha256': str,
  'provenance': dict,
}
_POINT = (
  'updates',
  'pushes',
  'target_words',
  'epochs',
  'virtual_seconds',
  'seconds',
  'train_loss',
  'validation_loss',
  'bleu',
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


def validate(record: dict[str, Any]) -> None:
  """Checks that a record has every field, and every point of its curve too.

  Raises:
    ValueError: naming the first field that is missing or of a wrong type.
  """
  if not isinstance(record, dict):
    raise ValueError(f'a record is an object, not {type(record).__name__}')
  for name, kind in _FIELDS.items():
    if name not in record or not isinstance(record[name], kind):
      raise ValueError(
        f'record field {name!r} is {record.get(name)!r}: it must be of type '
        f'{getattr(kind, "__name__", "number")}'
      )
  parts = [(f'curve[{i}]', p, _POINT) for i, p in enumerate(record['curve'])]
  parts.append(('provenance', record['provenance'], _PROVENANCE))
  parts.append(
    ('words_per_second', record['words_per_second'], ('virtual', 'measured'))
  )
  for name, part, needed in parts:
    missing = [key for key in needed if key not in part]
    if missing:
      raise ValueError(f'record field {name} lacks {missing}: add it')


def write(path: str | os.PathLike, record: dict[str, Any]) -> None:
  """Validates a record and writes it, whole or not at all.

  A number that is not finite, such as a diverged loss, becomes null.
  """
  validate(record)
  text = json.dumps(_finite(record), indent=1, ensure_ascii=False)
  with files.replacing(path) as partial:
    partial.write_text(text + '\n', encoding='utf-8')


def read(path: str | os.PathLike) -> dict[str, Any]:
  """Reads and validates a record."""
  try:
    record = json.loads(Path(path).read_text(encoding='utf-8'))
    validate(record)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  return record


def provenance(seed: int, pool: str, device: str) -> dict[str, Any]:
  """Where a result comes from; `seconds` is to be set when it is there."""
  # Installed elsewhere, the files may lie in somebody else's repository.
  ours = _git('rev-parse', '--show-toplevel') == str(Path(__file__).parents[1])
  # Tables that earlier runs had rendered anew are no change of the program.
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
    run = subprocess.run(command, capture_output=True, text=True, check=False)
  except OSError:  # There is no git.
    return None
  return run.stdout.strip() if run.returncode == 0 else None


def _finite(value):
  if isinstance(value, dict):
    return {str(k): _finite(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def seconds_to_bleu(record: dict[str, Any], target: float) -> float | None:
  """Virtual seconds at which BLEU first reaches a target; None for never.

  Interpolated between the two validations around it, so that it does not jump
  by the words between validations.
  """
  seconds = bleu = 0.0  # Before any training.
  for point in record['curve']:
    last, before = seconds, bleu
    seconds, bleu = point['virtual_seconds'], point['bleu'] or 0.0
    if bleu >= target:
      part = (target - before) / (bleu - before) if bleu > before else 0.0
      return last + part * (seconds - last)
  return None
