"""The import graph, and the word that no file may use."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'stale_adam'

# A file imports only from lower levels; a package is one unit, by its folder.
LEVELS = {
  'files': 0,
  'problem': 0,
  'policy': 0,
  'transforms': 0,
  'optimizer': 0,
  'theory': 0,
  'clock': 0,
  'trace': 1,
  'worker': 1,
  'nmt': 1,
  'server': 2,
  'timeline': 2,
  'measure': 3,
  'methods': 3,
  'pools': 3,
  'compiled': 3,
  'training': 4,
}
ONLY = {'nmt': {'nmt', 'problem', 'files'}}

# Counted are batches, pushes and updates: this word means all three.
BANNED = 'st' + 'ep'
WORD = re.compile(rf'(?<![a-z]){BANNED}(s|ped|ping)?(?![a-z])', re.IGNORECASE)
# What libraries call their own: fields of optax.MultiSteps, to which tests
# compare, and the method of torch.optim, in the one file that trains with it.
LIBRARY = {f'gradient_{BANNED}', f'mini_{BANNED}'}
TORCH = 'experiments/benchmarks/peer_torch.py'


def modules(source, folder):
  """Modules of the package that a file in `folder` of it imports."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level:
      yield f'a relative import on line {node.lineno}'
      continue
    elif isinstance(node, ast.ImportFrom):
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    else:
      continue
    for name in names:
      first, *rest = name.split('.')
      if first in ('experiments', 'tests'):
        yield first
      elif first == 'stale_adam':
        yield rest[0] if rest else 'the package itself'


def faults(name, source):
  """Why the file `name` ('train', 'nmt/beam') may not import what it does."""
  unit = name.split('/')[0]
  if unit not in LEVELS:
    return [f'{name} has no level: give it one here']
  found = []
  for other in modules(source, name):
    package = other == unit and '/' in name
    lower = LEVELS.get(other, 99) < LEVELS[unit]
    if not (package or lower) or other not in ONLY.get(unit, {other}):
      found.append(f'{name} imports {other}')
  return found


def test_files_import_from_lower_levels():
  files = [p for p in PACKAGE.rglob('*.py') if p != PACKAGE / '__init__.py']
  assert len(files) > 20
  found = []
  for path in files:
    name = path.relative_to(PACKAGE).with_suffix('').as_posix()
    found += faults(name, path.read_text('utf-8'))
  assert not found


@pytest.mark.parametrize(
  'name, source',
  [
    ('clock', 'from stale_adam import server'),
    ('clock', 'from stale_adam.trace import Trace'),
    ('worker', 'def f():\n  import stale_adam.server'),
    ('server', 'from stale_adam.pools.virtual import Virtual'),
    ('nmt/beam', 'from stale_adam import optimizer, problem'),
    ('nmt/beam', 'from . import loss'),
    ('pools/threads', 'from stale_adam import training'),
    ('training/run', 'import stale_adam as sa'),
    ('training/run', 'from experiments import paper'),
    ('novel', ''),
  ],
)
def test_an_import_from_above_would_be_noticed(name, source):
  assert len(faults(name, source)) == 1


def test_imports_from_below_are_allowed():
  for name, source in [
    ('server', 'from stale_adam import worker as worker_lib'),
    (
      'nmt/beam',
      'from stale_adam.nmt import loss\nfrom stale_adam import problem',
    ),
    ('pools/threads', 'from stale_adam.pools import virtual'),
    ('clock', 'import math\nimport numpy as np'),
  ]:
    assert faults(name, source) == []


def uses(source, library=LIBRARY):
  """Lines of Python that use the banned word: names, comments and strings."""
  found = []
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.string not in library and WORD.search(token.string):
      found.append(token.start[0])
  return sorted({*found})


def test_nobody_uses_the_banned_word():
  found = []
  for folder in ('stale_adam', 'experiments', 'tests'):
    for path in (ROOT / folder).rglob('*.py'):
      name = path.relative_to(ROOT).as_posix()
      library = LIBRARY | ({BANNED} if name == TORCH else set())
      for line in uses(path.read_text('utf-8'), library):
        found.append(f'{name}:{line}')
  prose = [*ROOT.glob('*.md'), *ROOT.glob('*.cff'), *ROOT.glob('*.toml')]
  for path in [*prose, ROOT / 'Makefile', ROOT / 'setup.py']:
    for number, line in enumerate(path.read_text('utf-8').splitlines(), 1):
      if WORD.search(line):
        found.append(f'{path.name}:{number}')
  assert not found


def test_a_use_of_the_banned_word_would_be_noticed():
  for source in ('{} = 1', 'x.global_{}s', '# One {}.', '"""{}PED on."""'):
    assert uses(source.format(BANNED) + '\n') == [1], source
  for source in ('optax.MultiSteps', 'stepfather', f'x.mini_{BANNED}'):
    assert uses(source + '\n') == []
