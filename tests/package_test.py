"""The package as a whole: what importing it loads."""

import subprocess
import sys

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
    [sys.executable, '-c', program], capture_output=True, text=True
  )
  assert run.returncode == 0, run.stderr
  return run.stdout.split()


def test_importing_loads_jax_and_optax_and_no_other_heavy_library():
  loaded = fresh(
    'import sys, jax, optax; before = {*sys.modules}; import stale_adam;'
    'print(*(sys.modules.keys() - before))'
  )
  assert 'stale_adam.server' in loaded
  assert not HEAVY & {*loaded}
