"""Keeps what tests compile, most of their time, for the next run of the tests.

In a folder of pytest's cache, which `make clean` removes. JAX looks a program
up by its text, the versions of jaxlib and XLA, XLA's options, the kind of
processor and the count of devices. It finds the very machine code that the
first run used: numbers stay the same.
"""

import os
import shutil

import jax

from experiments.ledger import compiled

BYTES = 2**30  # At most, then anew: changed tests leave programs behind.
SETTINGS = {
  'jax_persistent_cache_min_compile_time_secs': 0,
  'jax_persistent_cache_min_entry_size_bytes': 0,
}


def keep(config):
  """Keep the programs of this process and of those that it starts."""
  cache = getattr(config, 'cache', None)  # None with -p no:cacheprovider.
  if cache is None:
    return
  directory = cache.mkdir('programs')
  if not hasattr(config, 'workerinput'):  # Before there are other processes.
    if sum(path.stat().st_size for path in directory.rglob('*')) > BYTES:
      shutil.rmtree(directory)
      directory.mkdir()
    compiled.remove_damaged(directory)
  settings = SETTINGS | {'jax_compilation_cache_dir': str(directory)}
  for name, value in settings.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
