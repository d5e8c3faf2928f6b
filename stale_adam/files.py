"""Atomic writing: a file on disk is the old one or the new one, never a part.

Everything that this project writes goes through `replacing`.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
  """Yield a temporary path; on success its file replaces the one at `path`.

  A reader sees the old file or the new one, even if the writer is killed.

  Args:
    path: of the file to write; parent directories are created.

  Yields:
    A path in the same directory, for the caller to write to. If the caller
    raises, the temporary file is removed and `path` is not changed.

  Raises:
    OSError: if the directory cannot be created or written to; names the file.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.partial')
  try:
    yield partial
    _flush(partial)
    os.replace(partial, path)
  except OSError as error:
    if error.errno is None or error.filename is not None:
      raise
    # A full disk has no name of its own.
    raise OSError(error.errno, error.strerror, str(path)) from error
  finally:
    partial.unlink(missing_ok=True)


def check_writable(directory: str | os.PathLike) -> None:
  """Check that files can be written to a directory, by writing one.

  If there is no such directory, checks the one that it would be created in.
  Leaves nothing behind.

  Raises:
    OSError: naming the directory and the reason.
  """
  wanted = place = Path(directory)
  while not place.exists():
    place = place.parent
  try:
    if not place.is_dir():
      raise NotADirectoryError(f'{place} is a file')
    partial = place / f'.{uuid.uuid4().hex}.partial'
    with replacing(partial) as empty:
      empty.write_bytes(bytes(4096))
    partial.unlink()
  except OSError as error:
    reason = error.strerror or error
    raise OSError(
      f'{wanted} cannot be written to ({reason}): free or unlock it, or name '
      'another directory'
    ) from error


def _flush(path: Path) -> None:
  """Wait until a file is on disk: a full disk may say so only then."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
