"""Damaged entries of the compilation cache are replaced, without a warning."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import pytest

from experiments.ledger import compiled

ROOT = Path(__file__).parents[2]

# Compiles a program in each of several processes, in turn; prints for each what
# it wrote to stderr. The libraries are imported once.
PROGRAM = """
import json, os, sys
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.ledger import compiled

directory, said = Path(sys.argv[1]), []
for damage, checks in json.load(sys.stdin):
  for path in directory.glob('*-cache'):
    data = bytearray(path.read_bytes())
    if damage == 'flipped':
      data[len(data) // 2] ^= 1
    size = {'truncated': len(data) // 3, 'empty': 0}.get(damage, len(data))
    path.write_bytes(data[:size])
  child = os.fork()
  if not child:
    os.dup2(os.open(directory / 'stderr', os.O_CREAT | os.O_RDWR), 2)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)
    jax.config.update('jax_compilation_cache_dir', str(directory))
    if checks:
      compiled.use(directory)
    found = jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((4, 4)))
    sys.stderr.flush()
    os._exit(0 if found.shape == (4, 4) else 1)
  assert os.waitpid(child, 0)[1] == 0
  said.append((directory / 'stderr').read_text())
  (directory / 'stderr').unlink()
print(json.dumps(said))
"""
DAMAGES = ['flipped', 'truncated', 'empty']


@pytest.mark.slow
@pytest.mark.skipif(compiled._zstd() is not None, reason='zstd: no checksum')
def test_damaged_entries_are_replaced(tmp_path):
  turns = [('none', True)]
  turns += [(damage, True) for damage in DAMAGES]
  turns += [('flipped', False), ('none', False), ('none', True)]
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(tmp_path)],
    input=json.dumps(turns),
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  *checked, warned, again, last = json.loads(done.stdout)
  assert checked == [''] * 4 and last == ''
  # Without the check JAX warns, and for ever.
  assert 'Error reading' in warned and 'Error reading' in again
  entries = list(tmp_path.glob('*-cache'))
  assert entries and not compiled.remove_damaged(tmp_path)


def test_what_is_whole_or_of_others_is_kept(tmp_path, monkeypatch):
  monkeypatch.setattr(compiled, '_zstd', lambda: None)
  data = zlib.compress(b'a program' * 100)
  whole, other = tmp_path / 'a-cache', tmp_path / 'b-atime'
  whole.write_bytes(data)
  other.write_bytes(b'')
  assert compiled.remove_damaged(tmp_path) == []
  assert whole.exists() and other.exists()


def test_any_flipped_bit_and_any_cut_is_found(tmp_path, monkeypatch):
  monkeypatch.setattr(compiled, '_zstd', lambda: None)
  program = bytes(range(64))
  data = zlib.compress(program)
  path = tmp_path / 'a-cache'
  damaged = [data[:size] for size in range(len(data))]
  for bit in range(8 * len(data)):
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    damaged.append(bytes(flipped))
  harmless = 0
  for content in damaged:
    path.write_bytes(content)
    if not compiled.remove_damaged(tmp_path):
      assert zlib.decompress(content) == program  # A bit that fills a byte.
      harmless += 1
  assert harmless < 8


def test_without_a_directory_there_is_nothing_to_remove(tmp_path):
  assert compiled.remove_damaged(tmp_path / 'none') == []


def test_programs_without_a_checksum_are_not_kept(tmp_path, monkeypatch):
  """Those that JAX compresses by zstd, which stands in for itself here."""
  monkeypatch.setattr(compiled, '_zstd', lambda: zlib)
  kept = jax.config.jax_compilation_cache_dir  # For other tests.
  jax.config.update('jax_compilation_cache_dir', None)
  try:
    compiled.use(tmp_path)
    assert jax.config.jax_compilation_cache_dir is None
  finally:
    jax.config.update('jax_compilation_cache_dir', kept)
