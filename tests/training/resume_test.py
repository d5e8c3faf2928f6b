"""A run that is broken off and resumed is the unbroken run, bit for bit."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
import tqdm

import stale_adam as sa
from stale_adam import methods
from stale_adam.trace import Trace
from stale_adam.training import course, loop, resume, run
from stale_adam.training.task import Budget, Evaluation

CLOCK = sa.Clock(0.9, 0.1, 0.2, 0.15, 'normal', 0.5, (1.0, 2.0, 0.7), seed=4)
ADAM = sa.adam(0.02)
RUNS = {
  'asynchronous': (sa.Communication(4), {}),
  'accumulated': (sa.Communication(3, 2, 5), {}),
  'synchronous': (sa.Communication(4, synchronous=True), {}),
  'held': (sa.Communication(3, 1, 2, pull_every=3), {}),
  'backup': (methods.BackupWorkers(4), {}),
  'restarted': (methods.FirstWorkers(5, 4), {}),
  'late': (methods.OneRoundLate(3), {}),
  'smoothed': (
    sa.Communication(3, 2, 5),
    {'optimizer': sa.smooth(ADAM, 0.05)},
  ),
  'methods': (
    sa.Communication(4, 2, 2),
    {
      'per_push': methods.compensate_delay(2.0, 0.95),
      'worker': methods.drop_gradients(0.5),
      'reply': methods.predict_weights(0.02, 1.5),
    },
  ),
  'measured': (sa.Communication(4), {'measure': sa.Measure()}),
}


class Task:
  """The toy regression: batches of 10 examples, epochs of 10 batches."""

  metric, unit, rate = 'score', 'examples', 'examples_per_second'
  units_per_epoch = 100

  def __init__(self, fails_at=None):
    self._fails_at = fails_at
    self.problem = toys.PROBLEM._replace(batch=self.batch)

  def batch(self, batch_id):
    # And all after it: a worker that is restarted abandons a batch.
    if self._fails_at is not None and batch_id >= self._fails_at:
      raise OSError(f'batch {batch_id} cannot be read')
    return toys.PROBLEM.batch(batch_id)

  def units(self, batch_id):
    return 10

  def validation_loss(self, params):
    return float(jnp.sum(jnp.abs(params['inner'])))

  def validation_score(self, params):
    return float(jnp.sum(params['outer']))

  def test(self, params):
    return Evaluation({'test': self.validation_score(params)})


def train(out, name, task, pool=None, **more):
  policy, ours = RUNS[name]
  return loop.train(
    **{'task': task, 'optimizer': ADAM, 'policy': policy, **ours},
    pool=pool or sa.pools.Virtual(CLOCK),
    budget=Budget(epochs=6, validate_every=130, patience=50),
    seed=3,
    out=out,
    metadata={},
    save_seconds=0.0,
    identity={'config': {'name': name}},
    **more,
  )


def curve(outcome):
  """All but the seconds that the machine took."""
  return [{**point, 'seconds': None} for point in outcome.curve]


def equal(found, wanted):
  assert curve(found) == curve(wanted)
  assert found.trace.settings == wanted.trace.settings
  columns = lambda t: {'worker': t.worker, 'seconds': t.seconds, **t.columns}
  mine, theirs = columns(found.trace), columns(wanted.trace)
  assert mine.keys() == theirs.keys()
  for key, column in theirs.items():
    np.testing.assert_array_equal(mine[key], column, err_msg=key)
  jax.tree.map(
    np.testing.assert_array_equal, found.best_params, wanted.best_params
  )


@pytest.mark.parametrize('name', RUNS)
def test_a_broken_run_is_resumed_bit_for_bit(name, tmp_path):
  """Twice broken, each time with gradients in flight."""
  wanted = train(tmp_path / 'whole', name, Task())
  out = tmp_path / 'broken'
  for fails_at in (11, 35):
    with pytest.raises(OSError, match='cannot be read'):
      train(out, name, Task(fails_at))
    state = resume.newest(out)
    assert state is not None and state.header['held']
  equal(train(out, name, Task()), wanted)


def test_a_replay_is_resumed_bit_for_bit(tmp_path):
  """Of a recorded order, which ends."""
  policy, _ = RUNS['accumulated']
  recorded = train(tmp_path / 'first', 'accumulated', Task()).trace
  pool = lambda: sa.pools.Virtual(recorded)
  wanted = train(tmp_path / 'whole', 'accumulated', Task(), pool())
  out = tmp_path / 'broken'
  with pytest.raises(OSError, match='cannot be read'):
    train(out, 'accumulated', Task(17), pool())
  equal(train(out, 'accumulated', Task(), pool()), wanted)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['asynchronous', 'synchronous', 'methods'])
def test_threads_go_on_and_the_whole_replays(name, tmp_path):
  policy, ours = RUNS[name]
  devices = jax.devices()[:2]  # No all-reduce: it adds in its own order.
  pool = lambda: sa.pools.Threads(devices)
  with pytest.raises(OSError, match='cannot be read'):
    train(tmp_path, name, Task(23), pool())
  found = train(tmp_path, name, Task(), pool())
  seconds = found.trace.seconds
  assert np.all(np.diff(seconds) >= 0)
  again = sa.simulate(
    *(toys.PROBLEM, ADAM, policy, found.trace, 3),
    devices=jax.devices()[:1],
    **ours,
  )
  np.testing.assert_array_equal(again.loss, found.trace.columns['loss'])
  assert again.staleness.tolist() == found.trace.columns['staleness'].tolist()


def test_the_state_of_another_run_is_refused(tmp_path):
  with pytest.raises(OSError, match='cannot be read'):
    train(tmp_path, 'asynchronous', Task(20))
  with pytest.raises(ValueError, match='config: .*asynchronous.* there'):
    train(tmp_path, 'held', Task())
  policy, _ = RUNS['asynchronous']
  arguments = (toys.PROBLEM, optax.sgd(0.1), policy, sa.pools.Virtual(CLOCK))
  identity = {'config': {'name': 'asynchronous'}}
  with pytest.raises(ValueError, match='other parameters or another optim'):
    resume.load(tmp_path, identity, *arguments, 3)


@pytest.mark.parametrize('how', ['flipped', 'truncated'])
def test_a_damaged_state_is_named_and_the_one_before_is_used(
  how, tmp_path, capsys
):
  wanted = train(tmp_path / 'whole', 'asynchronous', Task())
  out = tmp_path / 'broken'
  with pytest.raises(OSError, match='cannot be read'):
    train(out, 'asynchronous', Task(35))
  files = sorted(out.glob('resume-*.npz'))
  assert len(files) == 2
  counts = [sum(resume.read(file).header['pushes']) for file in files]
  newest = files[int(np.argmax(counts))]
  data = bytearray(newest.read_bytes())
  if how == 'flipped':
    data[len(data) // 2] ^= 1
  newest.write_bytes(data if how == 'flipped' else data[: len(data) // 3])
  assert sum(resume.newest(out).header['pushes']) == min(counts)
  assert newest.name in capsys.readouterr().out
  equal(train(out, 'asynchronous', Task()), wanted)


def test_a_finished_run_leaves_no_state(tmp_path):
  identity = {'experiment': 'e', 'scale': 's', 'run': 'r', 'config': {}}
  arguments = (
    ADAM,
    sa.Communication(2),
    sa.pools.Virtual(CLOCK),
    Budget(2, 50),
  )
  record = run.run(Task(), *arguments, tmp_path, identity)
  assert record['curve']
  assert not resume.exists(tmp_path)
  assert Trace.load(tmp_path / 'trace.npz').settings['seed'] == 0


PROGRAM = f"""
import sys
from pathlib import Path

sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]!r}
import resume_test
from experiments import launch


class Task(resume_test.Task):
  def units(self, batch_id):
    print(batch_id, flush=True)
    return 10


def main(_):
  out = Path({{out!r}})
  outcome = resume_test.train(out, 'accumulated', Task())
  outcome.trace.save(out / 'trace.npz')
  (out / 'done').write_text(repr(resume_test.curve(outcome)))


launch.main(main)
"""


def start(out):
  tunables = 'glibc.malloc.hugetlb=1'  # So that it need not restart.
  environment = os.environ | {'GLIBC_TUNABLES': tunables}
  return subprocess.Popen(
    [sys.executable, '-c', PROGRAM.replace('{out!r}', repr(str(out)))],
    cwd=Path(__file__).parents[2],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_resumed_bit_for_bit(number, tmp_path):
  """At some push, whatever it is doing; SIGINT saves the very last state."""
  whole, out = start(tmp_path / 'whole'), tmp_path / 'killed'
  _, errors = whole.communicate(timeout=120)
  assert whole.returncode == 0, errors
  for line in (7, 19):
    process = start(out)
    for _ in range(line):
      assert process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    wanted = 130 if number == signal.SIGINT else -number
    assert process.returncode == wanted, errors
    if number == signal.SIGINT:
      assert 'state saved' in errors and 'rerun' in errors
  process = start(out)
  _, errors = process.communicate(timeout=120)
  assert process.returncode == 0, errors
  done = lambda folder: (folder / 'done').read_text()
  assert done(out) == done(tmp_path / 'whole')
  mine, theirs = (
    Trace.load(out / 'trace.npz'),
    Trace.load(tmp_path / 'whole' / 'trace.npz'),
  )
  assert mine.digest() == theirs.digest()
  np.testing.assert_array_equal(mine.seconds, theirs.seconds)
  assert json.dumps(mine.settings) == json.dumps(theirs.settings)


def test_time_left_leaves_out_what_earlier_processes_did(monkeypatch):
  now = [100.0]
  bar = tqdm.tqdm(total=1000, file=io.StringIO(), mininterval=0.5)
  monkeypatch.setattr(bar, '_time', lambda: now[0])
  bar.start_t = bar.last_print_t = now[0]
  course.advance(bar, 500)
  for _ in range(10):
    now[0] += 1.0
    bar.update(5)
  shown = bar.format_dict
  assert (shown['n'], shown['initial']) == (550, 500)
  assert shown['rate'] == pytest.approx(5.0)
