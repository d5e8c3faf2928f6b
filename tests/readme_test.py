"""The README's programs run as they stand."""

import re
from pathlib import Path

import jax.numpy as jnp

README = Path(__file__).parents[1] / 'README.md'


def test_the_programs_run_in_order():
  blocks = re.findall(r'```python\n(.*?)```', README.read_text('utf-8'), re.S)
  assert len(blocks) == 2
  names = {}
  exec(compile('\n'.join(blocks), str(README), 'exec'), names)
  # The batches are drawn around 1.
  assert jnp.all(jnp.abs(names['again'].params - 1) < 0.5)
  assert names['sweep'].loss.shape == (3, 400)
