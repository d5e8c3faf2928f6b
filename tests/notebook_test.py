"""The notebook for newcomers: its two files are one, and it runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

SCRIPT = Path(__file__).parents[1] / 'notebooks' / 'stale_gradients.py'


def test_script_and_notebook_are_the_same():
  """If not: jupytext --to ipynb notebooks/stale_gradients.py."""
  cells = [
    [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]
    for path in (SCRIPT, SCRIPT.with_suffix('.ipynb'))
  ]
  assert cells[0] == cells[1]
  assert len(cells[0]) > 10


@pytest.mark.slow
def test_it_shows_what_it_says():
  found = subprocess.run(
    [sys.executable, SCRIPT],
    env=os.environ | {'MPLBACKEND': 'agg'},
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stderr
  said = found.stdout

  def last(name):
    return float(re.search(rf'^{name}: last loss ([\d.]+)', said, re.M)[1])

  slow, plain, ours = (
    last(rf'rate 0\.1, {kind}')
    for kind in ('synchronous', 'asynchronous', 'asynchronous, G = 4')
  )
  assert 3 * slow < 3 * ours < plain
  assert last('staleness 0') < last('staleness 3') < last('staleness 15')
  assert 'equal bit for bit: True' in said
  assert last(r'weigh\(2\)') < last('none')
  assert last('scale_by_distance') < last('none')
  assert 'G = 4: mean staleness 0.7' in said
