"""What an accelerator makes of the paper's Transformer, and of its push.

Trains the Transformer of a scale, by default the paper's 6+6 layers of 512/2048
with batches of 8,192 target words, on sentences of random pieces: no text is
needed. Each side is a plain loop of one device, gradient and Adam in one
program; in bfloat16 the layers compute in bfloat16, and parameters, moments and
gradients stay in float32. Prints target words a second, the share of the
device's peak, and the largest share of the time that a part could explain:
matrix products at the peak, the traffic of the update at the speed of a copy.

Then times a push of the same parameters to a server that holds four snapshots,
against a copy on the device.

  python -m experiments.benchmarks.accelerator      # a GPU; two minutes
  python -m experiments.benchmarks.accelerator --scale=micro     # anywhere

To see what sweeps make of it: experiments.benchmarks.sweep. Records at `small`:
experiments.paper.reproduce --scale=small, which trains runs together on an
accelerator.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

import stale_adam as sa
from experiments import launch, options
from experiments.benchmarks import push, timed, workload
from experiments.ledger import scales
from stale_adam import server, worker
from stale_adam.nmt import network

SCALE = options.scale('paper')
BATCHES = flags.DEFINE_integer('batches', 20, 'Number of batches in a turn.', 1)
TURNS = flags.DEFINE_integer('turns', 5, 'Number of turns per side.', 1)
PEAK = flags.DEFINE_float(
  'peak_tflops',
  None,
  "The device's peak in bfloat16, in 1e12 operations a second, by the maker's "
  'table for dense matrices; by default known for some devices.',
  0,
)
# In bfloat16, by the maker; float32 products use TF32 at half of that, if at
# all, and are shown as a share of the same peak.
PEAKS = {'H100': 989.0, 'H200': 989.0, 'A100': 312.0, 'L4': 121.0}


def in_bfloat16(loss):
  """The loss with its layers in bfloat16, of parameters in float32."""
  narrow = lambda x: x.astype(jnp.bfloat16)
  return lambda params, batch, key: loss(
    jax.tree.map(narrow, params), batch, key
  ).astype(jnp.float32)


def training(loss, init, batch):
  """`turn()` trains some batches, and returns its seconds."""
  optimizer = sa.adam(1e-4)
  init_key, key = server.keys(0)
  params = jax.jit(init)(init_key)
  state = optimizer.init(params)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def update(state, params, batch, batch_id):
    value, gradient = worker.add(loss, None, params, batch, key, batch_id)
    updates, state = optimizer.update(gradient, state, params)
    return state, optax.apply_updates(params, updates), value

  batches = [jax.device_put(batch(i)) for i in range(4)]

  def turn() -> float:
    nonlocal state, params
    began = time.perf_counter()
    for i in range(BATCHES.value):
      state, params, value = update(state, params, batches[i % 4], np.int32(i))
    if not np.isfinite(float(value)):
      raise FloatingPointError(f'the loss became {float(value)}')
    return time.perf_counter() - began

  return turn


def device_copy(params):
  """A copy of one float for each parameter, by the device."""
  arrays = jax.tree.map(jnp.copy, params)
  run = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

  def once() -> float:
    began = time.perf_counter()
    jax.block_until_ready(run(arrays))
    return time.perf_counter() - began

  return once


def peak() -> float:
  """Operations a second in bfloat16; NaN if not known."""
  if PEAK.value is not None:
    return 1e12 * PEAK.value
  kind = jax.devices()[0].device_kind
  known = (p for name, p in PEAKS.items() if name in kind)
  return 1e12 * next(known, float('nan'))


def main(_):
  settings = scales.settings(SCALE.value, 'transformer')
  sizes = tuple(sorted(settings.sizes.items()))
  model = network.Network('transformer', settings.vocabulary, sizes)
  loss = network.Loss(model, settings.smoothing)
  batch = functools.partial(workload.random_batch, settings)
  print(f'{jax.devices()[0].device_kind}, {SCALE.value}: {dict(sizes)}')
  sides = {
    'float32': training(loss, model.init, batch),
    'bfloat16': training(in_bfloat16(loss), model.init, batch),
  }
  params = jax.jit(model.init)(jax.random.key(0))
  work = workload.operations(settings, params)
  words = settings.shape.rows * settings.shape.target
  for name, found in timed.turns(sides, TURNS.value, 1).items():
    seconds = float(np.median(found)) / BATCHES.value
    share = work / seconds / peak()
    print(
      f'{name}: {words / seconds:,.0f} target words/s, {1e3 * seconds:.2f} ms '
      f'a batch of {words:,}, {work / seconds / 1e12:.2f} TFLOP/s, '
      f'{100 * share:.1f}% of the peak in bfloat16',
      flush=True,
    )
  count = sum(x.size for x in jax.tree.leaves(params))
  optimizer = sa.adam(1e-3)
  sides = {
    'copy': device_copy(params),
    'push': push.held_push(optimizer, params),
  }
  rate = {}
  for name, found in timed.turns(sides, 30).items():
    seconds = float(np.median(found))
    rate[name] = (8 if name == 'copy' else 28) * count / seconds / 1e9
    print(f'{name}: {1e3 * seconds:.2f} ms, {rate[name]:.1f} GB/s')
  print(f'push / copy: {rate["push"] / rate["copy"]:.2f}, {timed.load()}')


if __name__ == '__main__':
  launch.main(main)
