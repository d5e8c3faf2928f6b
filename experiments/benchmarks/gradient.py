"""Where the time of one gradient goes: milliseconds of its parts.

  python -m experiments.benchmarks.gradient --data_dir=data/multi30k

Compiles and times one gradient of the `small` model several times, each time
with one part left out or replaced. The difference is the time of that part.
Without --data_dir the sentences are those of the embedded grammar. Run it with
GLIBC_TUNABLES=glibc.malloc.hugetlb=0 in the environment to see what large
memory pages save. Takes about a minute.
"""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import launch, options
from experiments.ledger import execute, scales, texts
from experiments.ledger.settings import MODELS
from stale_adam.nmt.data.vocabulary import BOS
from stale_adam.nmt.models import layers

DATA_DIR, PAIR = options.data_dir(), options.pair()
MODEL = flags.DEFINE_enum('model', 'transformer', MODELS, 'Model to time.')
REPEATS = flags.DEFINE_integer('repeats', 40, 'Number of gradients timed.', 1)


def without_softmax(model, params, batch, key):
  """The decoder's last layer instead of the loss over the vocabulary."""
  module = model.network.bind(params)
  encode, decode = jax.random.split(key)
  source, target = batch['source_segments'], batch['target_segments']
  memory = module.encode(batch['source'], source, encode)
  inputs = layers.shift(batch['target'], target, BOS)
  hidden = module.decode(memory, source, inputs, target, decode)
  return jnp.mean(hidden**2)


def main(_):
  settings = scales.settings('small', MODEL.value, pair=PAIR.value)
  scale = 'small' if DATA_DIR.value else 'tiny'
  text = texts.load(scale, PAIR.value, DATA_DIR.value)
  task = execute.make_task(settings, text)
  model, loss = task.model, task.problem.loss
  key = jax.random.key(0)
  params = jax.jit(model.init)(key)
  batch = jax.device_put(task.problem.batch(0))
  parts = {
    'whole gradient': jax.value_and_grad(loss),
    'without the loss over the vocabulary': jax.value_and_grad(
      lambda p, b, k: without_softmax(model, p, b, k)
    ),
    'value alone': loss,
  }
  for name, function in parts.items():
    run = jax.jit(function)
    times = []
    for _ in range(REPEATS.value + 3):
      began = time.perf_counter()
      jax.block_until_ready(run(params, batch, key))
      times.append(time.perf_counter() - began)
    print(f'{name}: {1e3 * np.median(times[3:]):.1f} ms', flush=True)
  began = time.perf_counter()
  for batch_id in range(100):
    task.problem.batch(batch_id)
  print(f'making a batch: {10 * (time.perf_counter() - began):.2f} ms')
  print(f'load {os.getloadavg()[0]:.1f}')


if __name__ == '__main__':
  launch.main(main)
