"""One process at a time holds a lock, and the others are told which."""

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import pytest

from experiments.ledger import locks

ROOT = Path(__file__).parents[2]
# Holds the lock until its input ends.
HOLDER = """
import sys
from pathlib import Path

from experiments.ledger import locks

with locks.hold(Path(sys.argv[1])):
  print('held', flush=True)
  sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
  """Another process, and the path of the lock that it holds."""
  path = tmp_path / 'run' / '.lock'
  process = subprocess.Popen(
    [sys.executable, '-c', HOLDER, str(path)],
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  assert process.stdout.readline() == b'held\n'
  yield process, path
  process.kill()
  process.communicate()


def test_a_second_process_is_told_who_holds_it(holder):
  process, path = holder
  with pytest.raises(locks.Locked) as caught, locks.hold(path):
    pass
  assert re.fullmatch(
    rf'{re.escape(str(path.parent))} is in use by process {process.pid} on '
    rf'{re.escape(socket.gethostname())}, since \d{{4}}-\d\d-\d\dT[\d:+]+',
    str(caught.value),
  )
  assert path.exists()  # To be refused removes nothing.


def test_a_released_lock_leaves_nothing(holder):
  process, path = holder
  process.communicate()
  assert not path.parent.exists()
  with locks.hold(path):
    assert path.exists()


def test_holders_in_a_hurry_exclude_each_other_and_leave_nothing(tmp_path):
  path = tmp_path / 'run' / '.lock'
  inside, held, refused = [], [], []

  def hurry():
    for _ in range(300):
      try:
        with locks.hold(path):
          inside.append(None)
          held.append(len(inside))
          inside.pop()
      except locks.Locked:
        refused.append(None)

  with futures.ThreadPoolExecutor(4) as threads:
    for each in [threads.submit(hurry) for _ in range(4)]:
      each.result()
  assert set(held) == {1} and len(held) + len(refused) == 4 * 300
  assert refused  # They did meet.
  assert not path.parent.exists()


def test_the_lock_of_a_killed_process_is_free(holder):
  process, path = holder
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert path.exists()
  with locks.hold(path):
    assert json.loads(path.read_text())['pid'] == os.getpid()
  assert not path.parent.exists()


def test_a_process_holds_a_lock_once(tmp_path):
  path = tmp_path / '.lock'
  with locks.hold(path), pytest.raises(locks.Locked, match=str(os.getpid())):
    with locks.hold(path):
      pass


def foreign(path, age, host='another'):
  """A lock as another host wrote it, so many seconds ago."""
  known = {'pid': os.getpid(), 'host': host, 'since_utc': '2026-01-01T00:00:00'}
  path.write_text(json.dumps(known))
  aged(path, age)


def aged(path, seconds):
  then = path.stat().st_mtime - seconds
  os.utime(path, (then, then))


def test_a_foreign_lock_counts_until_it_expires(tmp_path):
  path = tmp_path / '.lock'
  foreign(path, locks.EXPIRES_SECONDS / 2)
  with pytest.raises(locks.Locked, match='on another, since 2026-01'):
    with locks.hold(path):
      pass
  foreign(path, locks.EXPIRES_SECONDS + 1)
  with locks.hold(path):
    assert json.loads(path.read_text())['host'] == socket.gethostname()


def test_a_holder_renews_its_lock(tmp_path, monkeypatch):
  """By its thread, which here renews without a pause."""
  monkeypatch.setattr(locks, 'RENEWED_SECONDS', 0.0)
  renewed, utime = [], os.utime
  path = tmp_path / '.lock'

  def watched(renewing):
    utime(renewing)
    renewed.append(renewing.stat().st_mtime)
    if len(renewed) > 1:
      done.release()

  done = locks.threading.Semaphore(0)
  with locks.hold(path):
    created = path.stat().st_mtime
    aged(path, locks.EXPIRES_SECONDS + 1)
    monkeypatch.setattr(locks.os, 'utime', watched)
    assert done.acquire(timeout=60)
    assert renewed[-1] >= created


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOTSUP])
def test_without_flock_the_file_alone_decides(number, tmp_path, monkeypatch):
  def none(*_):
    raise OSError(number, 'no locks here')

  path, here = tmp_path / '.lock', socket.gethostname()
  (tmp_path / 'kept').touch()
  monkeypatch.setattr(fcntl, 'flock', none)
  with locks.hold(path), pytest.raises(locks.Locked):
    with locks.hold(path):
      pass
  foreign(path, 0, here)  # This very process, which lives.
  with pytest.raises(locks.Locked):
    with locks.hold(path):
      pass
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()  # Nobody has this number now.
  path.write_text(path.read_text().replace(str(os.getpid()), str(process.pid)))
  with locks.hold(path):
    pass


@pytest.mark.parametrize('text', ['', '{', '[]', '{"pid": "x"}', 'null'])
def test_a_damaged_lock_that_nobody_holds_is_free(text, tmp_path):
  path = tmp_path / '.lock'
  path.write_text(text)
  with locks.hold(path):
    assert json.loads(path.read_text())['pid'] == os.getpid()


def test_an_unwritable_place_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match='file'):
    with locks.hold(tmp_path / 'file' / '.lock'):
      pass
