"""Runs trained together leave what they leave alone, and resume bit for bit."""

import json

import jax
import numpy as np
import pytest
import toys

import stale_adam as sa
from stale_adam.trace import Trace
from stale_adam.training import checkpoint, group, record, resume, run
from stale_adam.training.task import Budget, Evaluation

RATES, SEEDS = (0.01, 0.03, 0.02), (3, 4, 5)
BUDGET = Budget(epochs=6, validate_every=130, patience=50)
COMMUNICATIONS = {
  'asynchronous': sa.Communication(4),
  'accumulated': sa.Communication(3, 2, 5),
  'synchronous': sa.Communication(4, synchronous=True),
  'held': sa.Communication(3, 1, 2, pull_every=3),
}


class Task:
  """The toy regression: batches of 9 to 11 examples, epochs of 100.

  Args:
    seed: of the batches.
    fails_at: the batch that cannot be read.
    losses: replace the validation losses.
  """

  metric, unit, rate = 'score', 'examples', 'examples_per_second'
  units_per_epoch = 100

  def __init__(self, seed=0, fails_at=None, losses=None):
    self._seed, self._fails_at, self._losses = seed, fails_at, losses
    self.problem = toys.PROBLEM._replace(batch=self.batch)

  def batch(self, batch_id):
    if batch_id == self._fails_at:
      raise OSError(f'batch {batch_id} cannot be read')
    return toys.PROBLEM.batch(1000 * self._seed + batch_id)

  def units(self, batch_id):
    return 9 + (batch_id * (self._seed + 1)) % 3

  def validation_loss(self, params):
    if self._losses is not None:
      return next(self._losses)
    return float(toys.toy_loss(params, toys.PROBLEM.batch(10**6), None))

  def validation_score(self, params):
    return float(np.sum(params['outer']))

  def test(self, params):
    return Evaluation({'test': self.validation_score(params)})


def entry(folder, i, task=None):
  clock = sa.Clock(0.9, 0.1, 0.2, 0.15, 'normal', 0.5, seed=SEEDS[i])
  identity = {'experiment': 'e', 'scale': 's', 'run': f'r{i}'}
  identity['config'] = {'rate': RATES[i]}
  return group.Entry(
    *(task or Task(SEEDS[i]), RATES[i], clock, folder / f'{i}', identity),
    *(SEEDS[i], {'more': i}, {'of': i}),
  )


def together(
  folder, policy, tasks=(None,) * 3, count=3, budget=BUDGET, make=sa.adam
):
  """The records by number of the run, in the order in which the runs ended."""
  found = {}
  entries = [entry(folder, i, tasks[i]) for i in range(count)]
  known = entries, make, policy, budget, found.__setitem__
  run.run_together(*known, save_seconds=0.0)
  return found


def alone(folder, policy, i, task=None, budget=BUDGET, make=sa.adam):
  task, rate, clock, out, identity, seed, *more = entry(folder, i, task)
  return run.run(
    *(task, make(rate), policy, sa.pools.Virtual(clock), budget),
    *(out, identity),
    **dict(zip(('seed', 'settings', 'metadata'), [seed, *more], strict=True)),
    save_seconds=0.0,
  )


def left(out):
  """All that a run leaves, but for what the machine took."""
  found = record.read(out / 'record.json')
  found['curve'] = [point | {'seconds': None} for point in found['curve']]
  del found['provenance'], found['examples_per_second']
  trace = Trace.load(out / 'trace.npz')
  params, metadata = checkpoint.load(out / 'params.npz')
  columns = {'seconds': trace.seconds, 'order': trace.worker, **trace.columns}
  return found, columns, trace.settings, params, metadata


def agree(found, wanted, equal=True):
  """Whatever is exact is equal; what is rounded, too, or it is close."""
  (found, columns, settings, params, metadata) = found
  (wanted, its_columns, its_settings, its_params, its_metadata) = wanted
  assert metadata == its_metadata
  close = np.testing.assert_array_equal
  if not equal:
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
    mark = found.pop('together')
    assert mark['runs'] == settings.pop('together') == 3
    assert 0 < mark['tolerance'] < 0.1
    for one, other in zip(found['curve'], wanted['curve'], strict=True):
      for name in ('train_loss', 'validation_loss', 'score'):
        close(one.pop(name), other.pop(name))
    close(found.pop('best_score'), wanted.pop('best_score'))
    close(found.pop('test_score')['test'], wanted.pop('test_score')['test'])
    close(columns.pop('loss'), its_columns.pop('loss'))
  assert json.dumps(found) == json.dumps(wanted)
  assert settings == its_settings
  jax.tree.map(np.testing.assert_array_equal, columns, its_columns)
  jax.tree.map(close, params, its_params)


@pytest.mark.parametrize('name', COMMUNICATIONS)
def test_every_run_leaves_what_it_leaves_alone(name, tmp_path):
  policy = COMMUNICATIONS[name]
  found = together(tmp_path / 'together', policy)
  assert sorted(found) == [0, 1, 2]
  cuts = set()
  for i in range(3):
    alone(tmp_path / 'alone', policy, i)
    mine, its = (
      left(tmp_path / kind / f'{i}') for kind in ('together', 'alone')
    )
    cuts.add(tuple(point['pushes'] for point in mine[0]['curve']))
    agree(mine, its, equal=False)
    assert not resume.exists(tmp_path / 'together' / f'{i}')
  assert len(cuts) > 1  # Validated at different pushes.


@pytest.mark.slow
@pytest.mark.parametrize('name', ['asynchronous', 'accumulated'])
def test_a_broken_group_is_resumed_bit_for_bit(name, tmp_path, monkeypatch):
  """Twice broken, in different runs; a state at every fifth push."""
  monkeypatch.setattr(group, 'PUSHES', 5)
  policy = COMMUNICATIONS[name]
  together(tmp_path / 'whole', policy)
  for i, fails_at in enumerate((21, 47)):
    tasks = [None, None, None]
    tasks[i] = Task(SEEDS[i], fails_at)
    with pytest.raises(OSError, match='cannot be read'):
      together(tmp_path / 'broken', policy, tasks)
  assert all(resume.newest(tmp_path / 'broken' / f'{i}') for i in range(3))
  together(tmp_path / 'broken', policy)
  for i in range(3):
    agree(*(left(tmp_path / kind / f'{i}') for kind in ('broken', 'whole')))


def smoothed(rate):
  return sa.smooth(sa.adam(rate), 0.05)


@pytest.mark.slow
def test_smoothed_runs_leave_what_they_leave_alone(tmp_path, monkeypatch):
  """Broken and resumed they are the same bit for bit."""
  monkeypatch.setattr(group, 'PUSHES', 5)
  policy = COMMUNICATIONS['accumulated']
  train = lambda name, *tasks: together(
    tmp_path / name, policy, *tasks, make=smoothed
  )
  train('together')
  with pytest.raises(OSError, match='cannot be read'):
    train('broken', (None, Task(SEEDS[1], 33), None))
  assert all(resume.newest(tmp_path / 'broken' / f'{i}') for i in range(3))
  train('broken')
  together(tmp_path / 'raw', policy)
  for i in range(3):
    alone(tmp_path / 'alone', policy, i, make=smoothed)
    found, raw, again, its = (
      left(tmp_path / name / f'{i}')
      for name in ('together', 'raw', 'broken', 'alone')
    )
    # Training is that of the parameters; validated are others.
    last, its_last = (x[0]['curve'][-1] for x in (found, raw))
    name = 'train_loss'
    np.testing.assert_allclose(last[name], its_last[name], rtol=1e-3)
    assert last['validation_loss'] > its_last['validation_loss'] + 0.005
    agree(again, found)
    agree(found, its, equal=False)


@pytest.mark.slow
@pytest.mark.parametrize('first', ['together', 'alone'])
def test_a_run_goes_on_in_another_way(first, tmp_path):
  """Alone what broke together, and the other way round."""
  policy = COMMUNICATIONS['accumulated']
  alone(tmp_path / 'whole', policy, 0)
  out, fails = tmp_path / 'broken', Task(SEEDS[0], 35)
  with pytest.raises(OSError, match='cannot be read'):
    if first == 'together':
      together(out, policy, (fails, None, None))
    else:
      alone(out, policy, 0, fails)
  if first == 'together':
    alone(out, policy, 0)
  else:
    together(out, policy)
  agree(left(out / '0'), left(tmp_path / 'whole' / '0'), equal=False)


@pytest.mark.slow
def test_runs_end_by_their_own_patience(tmp_path):
  """The others go on; those that are left are trained in a smaller program."""
  policy = COMMUNICATIONS['asynchronous']
  budget = Budget(epochs=6, validate_every=60, patience=2)
  falls = lambda: iter(range(100, 0, -1))
  losses = [falls(), iter([5, 4, 4, 4]), iter([5, 6, 7, 8])]
  tasks = [Task(s, None, loss) for s, loss in zip(SEEDS, losses, strict=True)]
  found = together(tmp_path / 'together', policy, tasks, budget=budget)
  assert list(found) == [2, 1, 0]
  assert [len(found[i]['curve']) for i in range(3)] == [10, 4, 3]
  alone(tmp_path / 'alone', policy, 0, Task(SEEDS[0], None, falls()), budget)
  mine, its = (left(tmp_path / kind / '0') for kind in ('together', 'alone'))
  agree(mine, its, equal=False)


@pytest.mark.slow
def test_a_run_that_diverges_is_a_result_and_disturbs_nobody(tmp_path):
  policy = COMMUNICATIONS['asynchronous']
  nan = Task(SEEDS[1])
  nan.problem = nan.problem._replace(
    batch=lambda i: jax.tree.map(lambda x: x * (i < 20 or np.nan), nan.batch(i))
  )
  found = together(tmp_path / 'together', policy, (None, nan, None))
  assert np.isnan(found[1]['curve'][-1]['validation_loss'])
  together(tmp_path / 'healthy', policy)
  for i in (0, 2):
    agree(*(left(tmp_path / kind / f'{i}') for kind in ('together', 'healthy')))


def test_a_finished_run_is_refused(tmp_path):
  policy = COMMUNICATIONS['asynchronous']
  together(tmp_path, policy, count=1)
  with pytest.raises(FileExistsError, match='holds a finished run'):
    together(tmp_path, policy)
