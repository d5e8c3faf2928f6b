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
    OSError: if the directory cannot be created or written to.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.partial')
  try:
    yield partial
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)
