"""Several processes complete one set of runs: each run is made exactly once."""

import collections
import contextlib
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import command
from experiments.ledger import compiled, execute, runs, texts, work
from experiments.paper import printed as paper

ROOT = Path(__file__).parents[2]
PROCESSES = 3
# Forked processes, whose runs take no time. Each begins its first run only when
# all of them are in theirs, so that no one makes them all.
PROGRAM = f"""
import json, multiprocessing, os, sys
from pathlib import Path

sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}
import invented
from experiments.ledger import execute, runs, texts, work
from experiments.ledger.store import Stored
from experiments.paper import printed as paper

root = Path(sys.argv[1])
barrier = multiprocessing.get_context('fork').Barrier({PROCESSES})
met = False


def make(settings, task, out, kind, scale, name, **more):
  global met
  if not met:
    met = True
    barrier.wait(60)
  with open(root / 'made', 'a') as file:
    file.write(json.dumps([os.getpid(), name, str(out)]) + '\\n')
  text = {{'name': 'it', 'sha256': texts.sha256(scale, settings.pair, None)}}
  fields = {{'experiment': kind, 'scale': scale, 'run': name, 'text': text}}
  return invented.RECORD | fields | {{'config': settings.config()}}


execute.execute = make
work.task_of = lambda *_: None
work._POLL_SECONDS = 0.01
wanted = runs.seeds([runs.base(m, c) for m, c in paper.TABLE3])
children = []
for _ in range({PROCESSES}):
  child = os.fork()
  if not child:
    code = 1
    try:
      records = Stored('micro', root)
      work.complete(wanted, records, None, root / 'runs')
      code = 0 if all(map(records.get, wanted)) else 2
    finally:
      os._exit(code)
  children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
print(json.dumps([runs.name('micro', run) for run in wanted]))
sys.exit(max(map(abs, codes)))
"""


@pytest.mark.slow
def test_processes_share_the_runs(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(tmp_path)],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  wanted = json.loads(done.stdout.splitlines()[-1])
  made = [json.loads(s) for s in (tmp_path / 'made').read_text().splitlines()]
  assert collections.Counter(name for _, name, _ in made) == dict.fromkeys(
    wanted, 1
  )
  assert len({process for process, *_ in made}) == PROCESSES
  assert not list(tmp_path.glob('runs/*/*'))  # No lock is left.


@contextlib.contextmanager
def given(*arguments):
  """The flags of a command line."""
  with flagsaver.flagsaver():
    flags.FLAGS(['command', *arguments])
    try:
      yield
    finally:
      flags.FLAGS.unparse_flags()


class Reached(Exception):
  """The place where a run would be made, in `args`."""


@pytest.mark.slow
def test_parameters_lie_with_the_results(tmp_path, monkeypatch):
  def make(settings, task, out, *_, **more):
    del settings, task, more
    raise Reached(out)

  monkeypatch.setattr(execute, 'execute', make)
  monkeypatch.setattr(work, 'task_of', lambda *_: None)
  monkeypatch.setattr(compiled, 'use', lambda _: None)  # Not for other tests.
  table = types.SimpleNamespace(RUNS=[runs.base('rnn', paper.SYNC)])
  with given('--scale=tiny', f'--results={tmp_path}'):
    with pytest.raises(Reached) as caught:
      command.execute_all(table)
  (out,) = caught.value.args
  digits = texts.sha256('tiny', 'en-de', None)[:8]
  name = runs.name('tiny', table.RUNS[0])
  assert out == tmp_path / 'runs' / 'tiny' / f'{name}.{digits}'


@pytest.mark.parametrize(
  'arguments, root',
  [
    (['--scale=tiny'], 'runs/paper'),
    (['--scale=tiny', '--results=./results/'], 'runs/paper'),
    (['--scale=micro'], 'runs/micro/runs'),
    (['--scale=micro', '--results=x/y'], 'x/y/runs'),
  ],
)
def test_the_root_of_results(arguments, root):
  with given(*arguments):
    assert command.root() == Path(root)
