"""Parts of the measurement: each in a process of its own, its result kept."""

import collections
import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stale_adam import files

ROOT = Path(__file__).parents[3]
_LINES = 15  # Of a log, shown after a failure.


class Failed(RuntimeError):
  """A side's process ended without a result."""


class Kept:
  """Results on disk, each with what was asked for.

  Args:
    path: of the JSON file; a damaged one is an error, not an empty one.

  Raises:
    ValueError: naming the file, if it is damaged.
  """

  def __init__(self, path: Path):
    self._path = path
    self._parts: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):
      try:
        self._parts = json.loads(path.read_text('utf-8'))
      except ValueError as error:
        raise ValueError(f'{path} is damaged ({error}): remove it') from error

  def get(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a part if it was asked for in the same way."""
    found = self._parts.get(name)
    same = found is not None and found['asked'] == _as_json(asked)
    return found['result'] if same else None

  def put(
    self, name: str, asked: Mapping[str, Any], result: Mapping[str, Any]
  ) -> None:
    """Keeps a result, in place of an older one of the same part."""
    self._parts[name] = _as_json({'asked': asked, 'result': result})
    with files.replacing(self._path) as partial:
      partial.write_text(json.dumps(self._parts, indent=1) + '\n', 'utf-8')

  def drop(self, names: Iterable[str]) -> None:
    """Forgets the results of some parts."""
    for name in names:
      self._parts.pop(name, None)


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
  """The value as it is after it was written and read."""
  return json.loads(json.dumps(value))


def run(
  python: Path,
  side: str,
  part: str,
  job: Mapping[str, Any],
  progress: Callable[[int], None],
) -> dict[str, Any]:
  """Run a part of a side in its environment.

  Args:
    python: the environment's interpreter.
    side: a module of `inside`.
    part: 'train' or 'decode'.
    job: what the part is told, in JSON's types; its log lies in job['out'].
    progress: gets the count so far.

  Returns:
    The part's result, with `load`, the load average at its end.

  Raises:
    Failed: with the end of the log, if the process has no result.
  """
  out = Path(job['out'])
  out.mkdir(parents=True, exist_ok=True)
  told, log = out / f'{part}.json', out / f'{part}.log'
  told.write_text(json.dumps(job, indent=1), 'utf-8')
  module = f'experiments.benchmarks.peers.inside.{side}'
  threads = {
    f'{name}_NUM_THREADS': str(job['cores']) for name in ('OMP', 'MKL')
  }
  # All sides use the processor, whatever else there is.
  only = {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''}
  # Else torch's threads spin while they wait: on a core that something else
  # uses, too, every operation then takes ten times as long.
  default = {'OMP_WAIT_POLICY': 'PASSIVE'}
  result = None
  with log.open('wb') as file:
    process = subprocess.Popen(
      [python, '-m', module, part, told.resolve()],
      stdout=subprocess.PIPE,
      stderr=file,
      stdin=subprocess.DEVNULL,
      cwd=ROOT,
      env=default | dict(os.environ) | threads | only,
      text=True,
    )
    try:
      for line in process.stdout or ():
        message = json.loads(line)
        if 'progress' in message:
          progress(message['progress'])
        result = message.get('result', result)
      process.wait()
    finally:
      process.kill()
      process.wait()
  if process.returncode or result is None:
    last = collections.deque(log.open(errors='replace'), _LINES)
    raise Failed(
      f'{side} ended with status {process.returncode} in the part {part}; the '
      f'end of {log}:\n{"".join(last)}'
    )
  return result | {'load': os.getloadavg()[0]}
