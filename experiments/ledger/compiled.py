"""The programs that runs compiled, on disk for later processes."""

import zlib
from pathlib import Path

import jax

_ENTRIES = '*-cache'  # Files that JAX writes.
_ZLIB = b'\x78'  # The first byte; with zstandard installed, JAX uses that.


def use(directory: Path) -> None:
  """Reuse the programs that earlier processes compiled, and keep new ones.

  A directory that the user has named (JAX_COMPILATION_CACHE_DIR) has priority.

  Args:
    directory: of the programs. Damaged ones are removed.
  """
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update('jax_compilation_cache_dir', str(directory))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
  remove_damaged(Path(jax.config.jax_compilation_cache_dir))


def remove_damaged(directory: Path) -> list[Path]:
  """Remove entries that do not decompress, as after a kill or a full disk.

  JAX compiles such a program again and warns, but it does not replace the
  entry: it would warn in every later process.

  Returns:
    The entries that were removed.
  """
  removed = []
  for path in sorted(directory.glob(_ENTRIES)):
    try:
      data = path.read_bytes()
      if data[:1] in (b'', _ZLIB):
        zlib.decompress(data)
    except zlib.error:
      path.unlink(missing_ok=True)
      removed.append(path)
    except OSError:  # Another process has removed it.
      pass
  return removed
