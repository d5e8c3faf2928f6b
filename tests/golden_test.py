"""Golden runs: an order of arrivals gives the same parameters, bit for bit.

`golden.json` holds, for every run below, each push's worker, staleness and
loss, and the SHA-256 of the last parameters. On the kind of machine that wrote
it (same XLA, same processor) digests must be equal; elsewhere XLA rounds in
another way, and the losses must agree to a tolerance.

The file may change only when a change of the numbers is intended, such as a
faster gradient that sums in another order. CHANGELOG then says so. To write it,
with the order of real threads that it has:

  XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python tests/golden_test.py

The models are also trained with their parameters joined to vectors, as the
training loop does, to the same digests.
"""

import functools
import hashlib
import itertools
import json
import os
import platform
from pathlib import Path

import jax
import jaxlib
import numpy as np
import optax
import pytest
import toys

import stale_adam as sa
from experiments import grammar
from stale_adam.nmt import translation
from stale_adam.nmt.data import batches, vocabulary
from stale_adam.training import flat_problem

FILE = Path(__file__).with_name('golden.json')
CLOCK = sa.Clock(0.9, 0.1, 0.2, 0.15, 'normal', 0.5, (1.0, 2.0, 0.7), seed=4)
PUSHES = 60
TOY = flat_problem.unchanged(toys.PROBLEM)
MODELS = {
  'transformer': (300, {'size': 64, 'hidden': 256, 'heads': 4, 'depth': 1}),
  'rnn': (
    100,
    {'size': 64, 'hidden': 64, 'encoder_depth': 2, 'decoder_depth': 4},
  ),
}


def machine():
  """What decides how XLA rounds."""
  processor = platform.processor()
  info = Path('/proc/cpuinfo')
  if info.exists():
    fields = [line.partition(':') for line in info.read_text().splitlines()]
    fields = {name.strip(): value.strip() for name, _, value in fields}
    processor = f'{fields.get("model name")}; {fields.get("flags")}'
  digest = hashlib.sha256(processor.encode()).hexdigest()
  versions = {'jax': jax.__version__, 'jaxlib': jaxlib.__version__}
  return versions | {'cores': os.cpu_count(), 'processor_sha256': digest}


def digest(params):
  """SHA-256 of all leaves, with their shapes and types."""
  found = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    array = np.asarray(leaf)
    name = jax.tree_util.keystr(path)
    found.update(f'{name} {array.shape} {array.dtype} '.encode())
    found.update(array.tobytes())
  return found.hexdigest()


def summary(pushes, params):
  return {
    'worker': [push.worker for push in pushes],
    'staleness': [push.staleness for push in pushes],
    'loss': [float(push.loss) for push in pushes],
    'params_sha256': digest(params),
  }


def run(form, optimizer, communication, pool, count, seed=0):
  with pool:
    arrivals = sa.serve(form.problem, optimizer, communication, pool, seed=seed)
    pushes, servers = zip(*itertools.islice(arrivals, count), strict=True)
  return summary(pushes, form.params(servers[-1].params))


def toy_run(case):
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), sa.adam(0.02))
  numbers = sa.Communication(*case)
  return run(TOY, optimizer, numbers, sa.pools.Virtual(CLOCK), PUSHES)


@functools.cache
def translation_problem(model):
  text = grammar.corpus(train=800, validation=8, test=8)
  pieces = vocabulary.train(text.train, 800)
  sizes = MODELS[model][1] | {'dropout': 0.1}
  model = translation.Model(model, pieces, sizes)
  shape = batches.Shape(rows=2, source=48, target=48)
  return translation.Translation(model, text, shape).problem


def model_run(model, of_vectors=False):
  optimizer = sa.adam(sa.inverse_sqrt(0.003, 60))
  numbers = sa.Communication(4, global_accumulation=2)
  problem, pool = translation_problem(model), sa.pools.Virtual(CLOCK)
  form = flat_problem.unchanged(problem)
  if of_vectors:
    form = flat_problem.form(problem, optimizer)
    assert len(jax.eval_shape(form.problem.init, jax.random.key(0))) == 2
  return run(form, optimizer, numbers, pool, MODELS[model][0], seed=3)


def recorded_run(order):
  """Replays an order that real threads made."""
  trace = sa.Trace(order, np.arange(len(order), dtype=float))
  numbers, optimizer = sa.Communication(4, 2), sa.adam(0.02)
  pool = sa.pools.Virtual(trace)
  return run(TOY, optimizer, numbers, pool, len(order))


def threads_order():
  with sa.pools.Threads(jax.devices()[:4]) as pool:
    arrivals = sa.serve(
      toys.PROBLEM, sa.adam(0.02), sa.Communication(4, 2), pool
    )
    return [push.worker for push, _ in itertools.islice(arrivals, 300)]


def check(name, found):
  wanted = json.loads(FILE.read_text('utf-8'))
  if wanted['machine'] == machine():
    assert found == wanted['runs'][name]
    return
  wanted = wanted['runs'][name]
  assert found['worker'] == wanted['worker']
  assert found['staleness'] == wanted['staleness']
  # Rounding grows from update to update; later losses tell less.
  early = slice(0, 40)
  np.testing.assert_allclose(
    found['loss'][early], wanted['loss'][early], rtol=1e-3
  )


@pytest.mark.parametrize('case', toys.COMMUNICATIONS, ids=str)
def test_toy(case):
  check(f'toy {case}', toy_run(case))


@pytest.mark.slow
@pytest.mark.parametrize('of_vectors', [False, True])
@pytest.mark.parametrize('model', MODELS)
def test_translation(model, of_vectors):
  check(model, model_run(model, of_vectors))


def test_recorded_threads():
  order = json.loads(FILE.read_text('utf-8'))['runs']['threads']['worker']
  check('threads', recorded_run(order))


def main():
  runs = {f'toy {case}': toy_run(case) for case in toys.COMMUNICATIONS}
  runs |= {model: model_run(model) for model in MODELS}
  order = threads_order()
  if FILE.exists():
    order = json.loads(FILE.read_text('utf-8'))['runs']['threads']['worker']
  runs['threads'] = recorded_run(order)
  text = json.dumps({'machine': machine(), 'runs': runs})
  FILE.write_text(text.replace('], "', '],\n "') + '\n', 'utf-8')


if __name__ == '__main__':
  main()
