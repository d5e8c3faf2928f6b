"""The package as a whole: its public names, and what importing it loads."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stale_adam as sa

ROOT = Path(__file__).parents[1]
HEAVY = {
  'absl',
  'flax',
  'matplotlib',
  'ray',
  'sacrebleu',
  'scipy',
  'sentencepiece',
  'tensorboardX',
  'tensorflow_datasets',
}


def fresh(program):
  """What a program prints in a Python of its own."""
  run = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT
  )
  assert run.returncode == 0, run.stderr
  return run.stdout.split()


@pytest.mark.slow
def test_importing_loads_jax_and_optax_and_no_other_heavy_library():
  loaded = fresh(
    'import sys, jax, optax; before = {*sys.modules}; import stale_adam;'
    'print(*(sys.modules.keys() - before))'
  )
  assert 'stale_adam.server' in loaded
  assert not HEAVY & {*loaded}


@pytest.mark.slow
@pytest.mark.parametrize(
  'imports',
  [
    'import stale_adam.compiled.simulate',
    'import stale_adam; import stale_adam.compiled.simulate',
    'from stale_adam.compiled import simulate; import stale_adam',
    'from stale_adam import compiled; import stale_adam',
    'import importlib, stale_adam;'
    'importlib.reload(importlib.import_module("stale_adam.compiled.simulate"))',
  ],
)
def test_simulate_is_the_function_whatever_is_imported_first(imports):
  """A module of that name in the package would replace it."""
  kind = fresh(f'{imports}; print(type(stale_adam.simulate).__name__)')
  assert kind == ['function']


def test_no_public_name_is_that_of_a_module():
  modules = {p.stem for p in (ROOT / 'stale_adam').glob('*')}
  named = {n for n in sa.__all__ if inspect.ismodule(getattr(sa, n))}
  assert named <= modules
  assert not modules & ({*sa.__all__} - named)


def test_every_public_name_is_listed_and_says_what_it_is():
  found = {
    name
    for name, value in vars(sa).items()
    if not name.startswith('_')
    and (name in sa.__all__ or not inspect.ismodule(value))
  }
  assert found == {*sa.__all__}
  for name in sa.__all__:
    first, *rest = inspect.getdoc(getattr(sa, name)).splitlines()
    assert first.endswith(('.', ':')) and len(first) < 80, name
    assert not rest or not rest[0], f'{name}: one line, then an empty one'


def test_the_citation_is_of_this_version():
  text = (ROOT / 'CITATION.cff').read_text('utf-8')
  assert re.search(r'^version: (.+)$', text, re.MULTILINE)[1] == sa.__version__
