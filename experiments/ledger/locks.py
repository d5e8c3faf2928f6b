"""Locks between processes: one file each, with who holds it.

A holder has an exclusive `flock` on the file. The kernel releases it when the
process ends, however it ends: a lock of a dead process on this host is free.

Some file systems have no `flock`, or one that other hosts do not see. So the
holder also renews the file's time every 30 seconds, and a file that another
host wrote, or that `flock` cannot guard, counts as held until it is 5 minutes
old. Clocks of hosts that share a directory may differ by less than that.
Without `flock`, two processes that start in the same instant may both get the
lock; then a run is made twice, and either result is complete.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RENEWED_SECONDS = 30.0
EXPIRES_SECONDS = 300.0
_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class Locked(OSError):
  """The lock is held; the message says by whom."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
  """Hold the lock until the end of the block; then remove its file.

  Args:
    path: of the lock's file. Its directory is created if it is missing, and
      removed at the end if it is empty.

  Raises:
    Locked: naming the process that holds it.
    OSError: if the file cannot be written.
  """
  try:
    descriptor = _acquire(path)
    try:
      with _renewing(path):
        yield
    finally:
      path.unlink(missing_ok=True)  # While it is still ours.
      os.close(descriptor)
  finally:
    with contextlib.suppress(OSError):  # It has files, or another removed it.
      path.parent.rmdir()


def _acquire(path: Path) -> int:
  """Lock the file, and write into it who we are; returns its descriptor."""
  while True:
    descriptor = _open(path)
    try:
      ours = _flock(descriptor)
      held = os.fstat(descriptor)
      if not _is(held, path):
        os.close(descriptor)  # Its holder removed it after we opened it.
        continue
      holder = _holder(descriptor)
      age = time.time() - held.st_mtime
      if ours is False or (holder and _alive(holder, age, ours is None)):
        raise Locked(_said(path.parent, holder))
      _write(descriptor)
      return descriptor
    except BaseException:
      os.close(descriptor)
      raise


def _open(path: Path) -> int:
  """Open the file; create it and its directory if they are missing."""
  for _ in range(100):
    # A process that releases the lock may just be removing the directory.
    with contextlib.suppress(FileNotFoundError, FileExistsError):
      return _create(path)
  return _create(path)


def _create(path: Path) -> int:
  path.parent.mkdir(parents=True, exist_ok=True)
  return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _flock(descriptor: int) -> bool | None:
  """Whether we have the file's lock; None if there are no such locks here."""
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno in _NO_FLOCK:
      return None
    raise
  return True


def _is(held: os.stat_result, path: Path) -> bool:
  try:
    return os.path.samestat(held, path.stat())
  except FileNotFoundError:
    return False


def _alive(holder: dict[str, Any], age: float, unlocked: bool) -> bool:
  """Whether a holder that `flock` does not exclude may still be at work."""
  here = holder.get('host') == socket.gethostname()
  if here and not unlocked:
    return False  # The kernel would have kept us out.
  return age < EXPIRES_SECONDS and not (here and not _exists(holder['pid']))


def _exists(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # It is another user's.
    pass
  return True


def _holder(descriptor: int) -> dict[str, Any] | None:
  """What the file says of its holder; None if it says nothing readable."""
  try:
    found = json.loads(os.pread(descriptor, 4096, 0))
    return found if isinstance(found['pid'], int) else None
  except (ValueError, TypeError, KeyError):
    return None


def _write(descriptor: int) -> None:
  now = datetime.datetime.now(datetime.UTC)
  ours = {
    'pid': os.getpid(),
    'host': socket.gethostname(),
    'since_utc': now.isoformat(timespec='seconds'),
  }
  os.ftruncate(descriptor, 0)
  os.pwrite(descriptor, json.dumps(ours).encode(), 0)


def _said(directory: Path, holder: dict[str, Any] | None) -> str:
  if holder is None:  # It has just created the file.
    return f'{directory} is in use by another process'
  return (
    f'{directory} is in use by process {holder["pid"]} on {holder["host"]}, '
    f'since {holder["since_utc"]}'
  )


@contextlib.contextmanager
def _renewing(path: Path) -> Iterator[None]:
  """Renew the file's time until the end of the block."""
  ended = threading.Event()

  def renew() -> None:
    while not ended.wait(RENEWED_SECONDS):
      with contextlib.suppress(OSError):
        os.utime(path)

  thread = threading.Thread(target=renew, name='lock', daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
