"""SIGINT and SIGTERM end a command in one line, a second one at once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A command that goes on until it is stopped, in one of two ways. That of
# OpenSSL is as a compilation: no handler runs until it returns.
PROGRAM = """
import hashlib, sys, threading

from experiments import launch


def main(_):
  try:
    print('begun', flush=True)
    if {compiles}:
      hashlib.pbkdf2_hmac('sha512', b'', b'', 2**30)
    threading.Event().wait()
  finally:
    print('cleaned', flush=True)


launch.main(main, resumes={resumes})
"""


def start(compiles=False, resumes=False):
  tunables = {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}
  program = PROGRAM.replace('{compiles}', str(compiles))
  process = subprocess.Popen(
    [sys.executable, '-c', program.replace('{resumes}', str(resumes))],
    cwd=ROOT,
    env=os.environ | tunables,  # So that it does not restart.
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'begun\n'
  return process


@pytest.mark.slow
@pytest.mark.parametrize(
  'number, resumes', [(signal.SIGINT, True), (signal.SIGTERM, False)]
)
def test_a_signal_ends_a_command_in_one_line(number, resumes):
  process = start(resumes=resumes)
  process.send_signal(number)
  printed, errors = process.communicate(timeout=60)
  assert process.returncode == 128 + number
  assert printed == 'cleaned\n'
  (line,) = errors.split('\n')[1:-1]
  assert line.startswith('interrupted')
  assert ('rerun the same command to resume' in line) == resumes


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(number):
  process = start(compiles=True)
  (first,) = {signal.SIGINT, signal.SIGTERM} - {number}
  process.send_signal(first)
  process.send_signal(number)
  printed, _ = process.communicate(timeout=60)
  assert process.returncode in (128 + first, 128 + number)  # In either order.
  assert not printed
