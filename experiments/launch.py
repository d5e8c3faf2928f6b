"""Starts a command: absl's main, set up for small models, ended by signals."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from absl import app, flags

from stale_adam.pools.contract import WorkerHangs, WorkerLost
from stale_adam.training import resume

_ENDING = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
  """SIGINT or SIGTERM came while no run was training.

  Attributes:
    number: of the signal.
  """

  def __init__(self, number: int):
    super().__init__(number)
    self.number = number


def main(function: Callable[[list[str]], Any], resumes: bool = False) -> None:
  """Run a command line as `absl.app.run` does, in a process set up for it.

  SIGINT and SIGTERM end it with one line and exit status 128 + signal; a second
  one ends it at once. See `set_up` for the process.

  Args:
    function: the command. Its argument is the program's name, in a list; any
      other argument that is not a flag is an error.
    resumes: whether the command continues where it was when it is repeated.
  """
  if set_up():
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
  # At INFO, jax logs every kind of accelerator that is missing.
  logging.getLogger('jax._src.xla_bridge').setLevel(logging.WARNING)

  def command(arguments: list[str]) -> Any:
    if len(arguments) > 1:
      sys.exit(f'unexpected argument {arguments[1]!r}: flags begin with --')
    try:
      with _signals():
        return function(arguments)
    except resume.Interrupted as interrupted:
      said, number = str(interrupted), interrupted.number
    except Stopped as stopped:
      said, number = 'interrupted', stopped.number
      if resumes:
        said += (
          '; finished runs and saved states are kept: rerun the same command '
          'to resume'
        )
    except WorkerLost as lost:
      sys.exit('; '.join([str(lost), *getattr(lost, '__notes__', [])]))
    except WorkerHangs as hangs:
      notes = getattr(hangs, '__notes__', [])
      print(f'\n{"; ".join([str(hangs), *notes])}', file=sys.stderr, flush=True)
      sys.stdout.flush()
      os._exit(1)  # Any other way out may wait for the thread that hangs.
    print(f'\n{said}', file=sys.stderr)
    sys.exit(128 + number)

  app.run(command, flags_parser=_parse)


def set_up() -> bool:
  """Set the environment so that small models train fast on a few cores.

  Large pages: the C library returns every large buffer to the kernel and takes
  a new one for the next array. A small model can spend a fifth of its time on
  the resulting page faults; with transparent huge pages they cost almost
  nothing.

  One core a gradient: XLA splits a matrix product among all cores, and a small
  one then takes longer. On up to four cores workers keep the cores busy better.

  A setting that the environment has already is left alone, so that one can
  compare: experiments.benchmarks.gradient tells what each of them saves.

  Returns:
    Whether the process must start again: the C library and XLA read these
    settings only once.
  """
  wanted = []
  if sys.platform == 'linux':
    wanted.append(('GLIBC_TUNABLES', ':', 'glibc.malloc.hugetlb', '=1'))
  if (os.cpu_count() or 1) <= 4:
    flag = '--xla_cpu_multi_thread_eigen'
    wanted.append(('XLA_FLAGS', ' ', flag, '=false'))
  changed = False
  for variable, separator, name, value in wanted:
    found = os.environ.get(variable, '')
    if name not in found:
      parts = filter(None, [found, name + value])
      os.environ[variable] = separator.join(parts)
      changed = True
  return changed


def _parse(arguments: list[str]) -> list[str]:
  """Reads the flags. Help is no error, and an error is one line."""
  try:
    return flags.FLAGS(arguments)
  except flags.Error as error:
    found = ' '.join(str(error).split())
    if len(found) > 300:  # As a value of 5,000 digits is.
      found = f'{found[:100]}...{found[-150:]}'
    sys.exit(f'{found}; --help lists the flags')
  except SystemExit:  # After --help, for which absl's status is 1.
    sys.exit(0)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
  """Raise `Stopped` at the first signal; end the process at the second.

  Python runs a handler only between two instructions, and a compilation is one
  of them. So a thread counts the signals.
  """
  receiver, sender = os.pipe()
  os.set_blocking(sender, False)

  def stop(number: int, frame: FrameType | None) -> None:
    del frame
    raise Stopped(number)

  def count() -> None:
    came = 0
    while number := os.read(receiver, 1):
      came += number[0] in _ENDING
      if came == 2:
        os._exit(128 + number[0])

  handlers = {kind: signal.signal(kind, stop) for kind in _ENDING}
  before = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
  thread = threading.Thread(target=count, name='signals', daemon=True)
  thread.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(before)
    for kind, handler in handlers.items():
      signal.signal(kind, handler)
    os.close(sender)
    thread.join()
    os.close(receiver)
