"""The accelerator's benchmark: its count of operations, and a run of it."""

import os
import subprocess
import sys

import jax
import pytest

from experiments.benchmarks import workload
from experiments.ledger import scales
from stale_adam.nmt import network
from stale_adam.nmt.data.batches import Shape


def test_operations_are_what_xla_counts():
  """Of one chunk of the loss: XLA counts the body of a loop once."""
  settings = scales.settings(
    'paper', 'transformer', shape=Shape(rows=1, source=128, target=128)
  )
  sizes = dict(settings.sizes) | {'dropout': 0.0, 'depth': 2}
  model = network.Network(
    'transformer', settings.vocabulary, tuple(sorted(sizes.items()))
  )
  loss = network.Loss(model, settings.smoothing)
  params = jax.eval_shape(model.init, jax.random.key(0))
  batch = workload.random_batch(settings, 0)
  gradient = jax.jit(jax.grad(loss)).lower(params, batch, jax.random.key(0))
  settings = scales.settings(
    'paper', 'transformer', shape=settings.shape, sizes=sizes
  )
  found = workload.operations(settings, params)
  assert found == pytest.approx(gradient.cost_analysis()['flops'], rel=0.05)


@pytest.mark.slow
def test_it_runs_anywhere():
  command = [sys.executable, '-m', 'experiments.benchmarks.accelerator']
  small = ['--scale=micro', '--batches=2', '--turns=1', '--peak_tflops=1']
  found = subprocess.run(
    [*command, *small], env=os.environ, text=True, capture_output=True
  )
  assert not found.returncode, found.stderr
  names = [line.partition(':')[0] for line in found.stdout.splitlines()[1:]]
  assert names[:4] == ['float32', 'bfloat16', 'copy', 'push']
