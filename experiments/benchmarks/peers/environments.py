"""An environment of its own for each toolkit, made on first use."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stale_adam import files

# Each line is installed before the next: a toolkit then finds this torch.
_TORCH = ['torch==2.13.0']
PACKAGES: Mapping[str, Sequence[Sequence[str]]] = {
  'joeynmt': (_TORCH, ['joeynmt==2.3.0', 'importlib_metadata']),
  'eole': (_TORCH, ['eole==0.6.4', 'aiohttp']),
}
_MARK = 'installed'


def python(side: str, folder: Path, told: Callable[[str], None]) -> Path:
  """The interpreter of a toolkit's environment, `folder`/<side>.

  Args:
    side: the toolkit.
    folder: of all environments.
    told: shows progress.

  Raises:
    OSError: if the packages cannot be installed; names the log.
  """
  home, log = folder / side, folder / f'{side}.install.log'
  wanted = '\n'.join(' '.join(packages) for packages in PACKAGES[side])
  binary = home / 'bin' / 'python'
  mark = home / _MARK
  if mark.exists() and mark.read_text('utf-8') == wanted:
    return binary
  told(f'installing {wanted.split()[1]} in {home}: 2 GB, a few minutes')
  _run([sys.executable, '-m', 'venv', '--clear', home], log)
  for packages in PACKAGES[side]:
    _run([binary, '-m', 'pip', 'install', '--quiet', *packages], log)
  with files.replacing(mark) as partial:
    partial.write_text(wanted, 'utf-8')
  return binary


def _run(command: Sequence[str | Path], log: Path) -> None:
  """Run a command; its output is appended to the log."""
  log.parent.mkdir(parents=True, exist_ok=True)
  with log.open('ab') as file:
    done = subprocess.run(command, stdout=file, stderr=file)
  if done.returncode:
    raise OSError(
      f'{" ".join(map(str, command))} ended with status {done.returncode}: '
      f'read {log}, then run the same command again'
    )
