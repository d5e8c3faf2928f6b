"""Faults of runs and processes, a few of each."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks.injected import lives, states
from stale_adam import update
from stale_adam.training import resume

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}


def test_the_command_prints_a_table():
  """Of what its flags ask for; one training process is killed."""
  counts = {'kills': 1, 'flips': 3, 'closes': 2, 'pushes': 50}
  none = dict.fromkeys(('interrupts', 'exits', 'runs'), 0)
  found = subprocess.run(
    [sys.executable, '-m', 'experiments.benchmarks.faults']
    + [f'--{name}={count}' for name, count in (counts | none).items()],
    cwd=ROOT,
    env=ENVIRONMENT,
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stderr + found.stdout
  head, _, *lines = found.stdout.splitlines()
  assert head == '| fault | tried | failed | lost |'
  cells = [line.strip('| ').split(' | ') for line in lines]
  assert [int(tried) for _, tried, *_ in cells] == [1, 3, 2, 2, 2, 2, 50]
  assert {failed for _, _, failed, _ in cells} == {'0'}


def test_damaged_states_are_never_used():
  row = states.flips(60, seed=0, resumed=2)
  assert (row.tried, row.failed) == (60, 0)


def test_a_damaged_state_that_is_used_would_be_noticed(monkeypatch):
  monkeypatch.setattr(states, '_damaged', lambda data, rng: data)
  assert states.flips(3, seed=0, resumed=0).failed == 3


@pytest.mark.parametrize('kind', ['new task', 'new settings'])
def test_later_runs_compile_nothing_and_leave_nothing(kind):
  """But for the update, compiled for the run's optimizer and then freed."""
  gc.collect()
  found = lives.runs(kind, 5)
  assert found[1].arrays == found[4].arrays
  assert found[4].programs - found[1].programs == 3
  assert update.update._cache_size() == 0


PROGRAM = """
import threading
from pathlib import Path
import jax
jax.config.update('jax_num_cpu_devices', 4)
import stale_adam as sa
from experiments import launch
from experiments.benchmarks.injected import toys
from stale_adam.pools import device_threads
from stale_adam.training import loop, task

device_threads._PATIENCE = 0.2  # What is known to hang is not waited for.

class Hanging(toys.Regression):
  def _batch(self, number):
    if number == 40:
      threading.Event().wait()
    return super()._batch(number)

def main(_):
  with sa.pools.Threads() as warm:  # Compilation counts, too.
    next(sa.serve(Hanging().problem, sa.adam(0.1), sa.Communication(4), warm))
  pool = sa.pools.Threads(timeout_seconds=4.0)
  numbers, budget = sa.Communication(4), task.Budget(1e6, 10**9)
  arguments = sa.adam(0.02), numbers, pool, budget, 3, Path(OUT), {}
  loop.train(Hanging(), *arguments, save_seconds=60.0)

launch.main(main)
"""


def test_a_worker_that_hangs_ends_the_command_with_its_state_saved(tmp_path):
  """One line and exit status 1, although its thread never ends."""
  environment = {k: v for k, v in ENVIRONMENT.items() if k != 'XLA_FLAGS'}
  found = subprocess.run(
    [sys.executable, '-c', PROGRAM.replace('OUT', repr(str(tmp_path)))],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert found.returncode == 1, found.stderr
  assert 'Traceback' not in found.stderr
  last = found.stderr.rstrip().splitlines()[-1]
  assert 'has computed for' in last and 'state saved' in last
  assert 'rerun the same command' in last
  captured = resume.newest(tmp_path)
  flying = [ids for _, _, _, ids, *_ in captured.header['held']]
  assert [40] in flying
  assert f'after {sum(captured.header["pushes"])} pushes' in last
