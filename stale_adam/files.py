"""Atomic writing: a file on disk is the old one or the new one, never a part.

Everything that the project writes goes through `replacing`.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
  """Yields a temporary path whose file replaces `path` on success.

  A reader, or a process that is killed, sees the old file or the new one.

  Args:
    path: of the file to write; parent directories are made.

  Yields:
    A path in the same directory, for the caller to write to. If the caller
    raises, the temporary file is removed and `path` is left as it was.

  Raises:
    OSError: if the directory cannot be made or written to.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.partial')
  try:
    yield partial
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)
