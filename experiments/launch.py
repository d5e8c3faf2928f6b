"""Starts a command: absl's main on large memory pages."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from absl import app

from stale_adam.pools.contract import WorkerHangs
from stale_adam.training import resume


def main(function: Callable[[list[str]], Any]) -> None:
  """Run a command line as `absl.app.run` does, on large memory pages.

  The C library returns every large buffer to the kernel and takes a new one for
  the next array. A small model can spend a fifth of its time on the resulting
  page faults; with transparent huge pages they cost almost nothing. To compare,
  run experiments.benchmarks.gradient with and without. The C library reads the
  setting when a process starts, so a process without it restarts itself.

  Args:
    function: the command. Its argument is the program's name, in a list; any
      other argument that is not a flag is an error.
  """
  wanted = 'glibc.malloc.hugetlb=1'
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  if sys.platform == 'linux' and 'glibc.malloc.hugetlb' not in tunables:
    os.environ['GLIBC_TUNABLES'] = ':'.join(filter(None, [tunables, wanted]))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
  # At INFO, jax logs every kind of accelerator that is missing.
  logging.getLogger('jax._src.xla_bridge').setLevel(logging.WARNING)

  def command(arguments: list[str]) -> Any:
    if len(arguments) > 1:
      sys.exit(f'unexpected argument {arguments[1]!r}: flags begin with --')
    try:
      return function(arguments)
    except resume.Interrupted as interrupted:
      print(f'\n{interrupted}', file=sys.stderr)
      sys.exit(128 + interrupted.number)
    except WorkerHangs as hangs:
      notes = getattr(hangs, '__notes__', [])
      print(f'\n{"; ".join([str(hangs), *notes])}', file=sys.stderr, flush=True)
      sys.stdout.flush()
      os._exit(1)  # Any other way out may wait for the thread that hangs.

  app.run(command)
