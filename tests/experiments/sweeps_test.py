"""Runs of tables that train together: which, their records, their memory."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import command
from experiments.ledger import (
  compiled,
  memory,
  runs,
  sweeps,
  work,
)
from experiments.ledger.store import Stored
from experiments.paper import printed as paper
from stale_adam import server
from stale_adam.compiled import decisions, legs, sweep
from stale_adam.nmt import translation
from stale_adam.training import resume, together

BASE = runs.base('transformer', paper.GLOBAL)
RATES = [
  dataclasses.replace(BASE, learning_rate=BASE.learning_rate * f)
  for f in (1, 2)
]
WANTED = runs.seeds(RATES)


@pytest.mark.slow
def test_runs_that_differ_in_rate_and_seed_alone_are_a_group():
  other = runs.base('transformer', paper.ASYNC)
  optimizer = dataclasses.replace(BASE, optimizer='lion')
  rnn = runs.base('rnn', paper.GLOBAL)
  wanted = [other, *WANTED, optimizer, rnn]
  found = sweeps.groups('micro', wanted, 64)
  assert found == [[other], WANTED, [optimizer], [rnn]]
  found = sweeps.groups('micro', wanted[1:-2], 4)
  assert found == [WANTED[:4], WANTED[4:]]
  assert sweeps.groups('micro', wanted, 1) == [[run] for run in wanted]
  # A group that was killed is the same group again.
  found = sweeps.groups('micro', WANTED, 64, lambda run: run in WANTED[1:3])
  assert found == [[WANTED[0], *WANTED[3:]], WANTED[1:3]]


def test_a_group_has_room_in_memory(monkeypatch):
  size = memory.together(runs.at('micro', BASE))
  monkeypatch.setattr(memory, '_available', lambda: 5 * size)
  found = sweeps.groups('micro', WANTED, 64)
  assert [len(group) for group in found] == [4, 2]  # A fifth is left free.
  monkeypatch.setattr(memory, '_available', lambda: size // 2)
  assert len(sweeps.groups('micro', WANTED, 64)) == len(WANTED)


def a_group(scale, name, count=4):
  """(settings, a sweep of so many new runs, their first rows)."""
  settings = runs.at(scale, runs.base('transformer', name))
  task = work.task_of('micro', runs.at('micro', BASE), None)
  problem = translation.Translation(
    dataclasses.replace(task.model, sizes=settings.sizes),
    task.corpus,
    settings.shape,
  ).problem
  policy = settings.communication
  found = decisions.record(policy, np.arange(64) % policy.workers)
  params = problem.init(jax.random.key(0))
  begin = server.init(settings.transformation(), params, policy.workers)
  versions = memory.versions(settings)
  group = sweep.Sweep(
    *(problem.loss, settings.transformation, [0.1] * count),
    *(range(count), [begin] * count, versions, found.cases),
  )
  part = legs.Part(found.columns, problem.batch)
  settings = dataclasses.replace(settings, vocabulary=task.model.network.pieces)
  return settings, group, next(legs.Leg([part] * count, versions).rows())


@pytest.mark.slow
@pytest.mark.parametrize('name', [paper.ASYNC, paper.GLOBAL, paper.SYNC])
def test_the_predicted_state_is_that_of_the_sweep(name):
  """At `tiny`, but for a counter or two."""
  settings, group, _ = a_group('tiny', name)
  assert group.nbytes == pytest.approx(4 * memory.state(settings), rel=1e-3)


@pytest.mark.slow
def test_the_predicted_memory_is_that_of_the_program():
  """Within a quarter."""
  settings, group, rows = a_group('micro', paper.GLOBAL)
  analysis = group.lower(rows).compile().memory_analysis()
  taken = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
  assert taken == pytest.approx(4 * memory.together(settings), rel=0.25)


@pytest.fixture
def table(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(compiled, 'use', lambda _: None)  # Not for other tests.
  monkeypatch.setattr(command, 'render', lambda *_: '')
  return types.SimpleNamespace(RUNS=WANTED[:3])


def make(table, *arguments):
  with flagsaver.flagsaver():
    flags.FLAGS(['command', '--scale=micro', *arguments])
    try:
      command.execute_all(table)
    finally:
      flags.FLAGS.unparse_flags()


@pytest.mark.slow
def test_a_table_trains_runs_together(table, tmp_path, capsys, monkeypatch):
  """Broken off and resumed, too; a record is that of the run alone."""
  make(table, '--results=together', '--together=8', '--dry_run')
  assert '3 runs together' in capsys.readouterr().out
  with monkeypatch.context() as patch:
    patch.setattr(resume, 'signals', interrupted)
    with pytest.raises(resume.Interrupted, match='2 more runs likewise'):
      make(table, '--results=together', '--together=8')
  make(table, '--results=together', '--together=8')
  assert capsys.readouterr().out.count('continues the unfinished run') == 3
  make(table, '--results=together', '--together=8')
  assert '/3]' not in capsys.readouterr().out  # Nothing is missing.
  found = [
    Stored('micro', tmp_path / 'together').get(run) for run in WANTED[:3]
  ]
  mark = {'runs': 3, 'tolerance': together.TOLERANCE}
  assert [record['together'] for record in found] == [mark] * 3
  make(types.SimpleNamespace(RUNS=WANTED[1:2]), '--results=alone')
  alone = Stored('micro', tmp_path / 'alone').get(WANTED[1])
  assert 'together' not in alone
  for field in ('config', 'run', 'trace_sha256', 'staleness_histogram'):
    assert found[1][field] == alone[field]
  for one, other in zip(found[1]['curve'], alone['curve'], strict=True):
    for field in ('updates', 'target_words', 'virtual_seconds'):
      assert one[field] == other[field]
    close = pytest.approx(other['validation_loss'], rel=mark['tolerance'])
    assert one['validation_loss'] == close


class interrupted:
  """`resume.signals`, as if a signal came at once."""

  def __enter__(self):
    return [2]

  def __exit__(self, *error):
    return False


def test_the_default_depends_on_the_device(monkeypatch):
  assert sweeps.usual() == 1
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert sweeps.usual() == 64
