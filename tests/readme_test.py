"""The README's programs run as they stand."""

import re
from pathlib import Path

import jax.numpy as jnp
import pytest

README = Path(__file__).parents[1] / 'README.md'


@pytest.mark.slow
def test_the_programs_run_in_order():
  blocks = re.findall(r'```python\n(.*?)```', README.read_text('utf-8'), re.S)
  programs = [compile(block, str(README), 'exec') for block in blocks]
  loop, nnx, server, adapted = programs
  names = {}
  exec(loop, names)
  # The batches are drawn around 1: it is more than halfway there.
  assert 0.5 < names['params'].mean() < 1
  exec(nnx, names)
  assert names['loss'](names['model'], jnp.eye(3)) < 0.01
  exec(server, names)
  assert jnp.all(jnp.abs(names['again'].params - 1) < 0.5)
  assert names['sweep'].loss.shape == (3, 400)
  exec(adapted, names)
  # Gradients are all 1: Adam's updates are its rate. The first is not stale.
  optimizer, params = names['optimizer'], jnp.zeros(3)
  state = optimizer.init(params)
  for _ in range(7 + 8):
    updates, state = optimizer.update(jnp.ones(3), state, params)
  assert updates == pytest.approx(-1e-2 * 4 / 7, rel=1e-4)


def test_the_recipes_are_on_the_first_page():
  lines = README.read_text('utf-8').splitlines()
  ends = [i for i, line in enumerate(lines, 1) if 'optimizer.update(' in line]
  assert len(ends) == 2
  assert max(ends) < 60
