"""The programs that runs compiled, on disk for later processes."""

import importlib
import zlib
from pathlib import Path
from types import ModuleType

import jax

_ENTRIES = '*-cache'  # Files that JAX writes.


def use(directory: Path | None = None) -> None:
  """Reuse the programs that earlier processes compiled, and keep new ones.

  A directory that the user has named (JAX_COMPILATION_CACHE_DIR) has priority.
  Damaged programs are removed. Where JAX compresses them by zstd, which has no
  checksum here, only a directory that the user has named is used: two thirds of
  all flipped bits would give another program.

  Args:
    directory: of the programs; None uses only one that the user has named.
  """
  named = jax.config.jax_compilation_cache_dir is not None
  if directory is not None and not named and _zstd() is None:
    jax.config.update('jax_compilation_cache_dir', str(directory))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
  if jax.config.jax_compilation_cache_dir is not None:
    remove_damaged(Path(jax.config.jax_compilation_cache_dir))


def remove_damaged(directory: Path) -> list[Path]:
  """Remove entries that do not decompress, as after a kill or a full disk.

  JAX compiles such a program again and warns, but it does not replace the
  entry: it would warn in every later process.

  Returns:
    The entries that were removed.
  """
  removed, decompress = [], (_zstd() or zlib).decompress
  for path in sorted(directory.glob(_ENTRIES)):
    try:
      data = path.read_bytes()
    except OSError:  # Another process has removed it.
      continue
    try:
      decompress(data)
    except Exception:  # The type depends on the module.
      path.unlink(missing_ok=True)
      removed.append(path)
  return removed


def _zstd() -> ModuleType | None:
  """The module that JAX compresses with; None if that is zlib."""
  for name in ('compression.zstd', 'zstandard'):
    try:
      return importlib.import_module(name)
    except ImportError:
      pass
  return None
