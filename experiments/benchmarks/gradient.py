"""Where the time of training goes: milliseconds of its parts.

  python -m experiments.benchmarks.gradient
  python -m experiments.benchmarks.gradient --scale=small --data_dir=DIRECTORY

Times a gradient, parts of it, the update, and everything else that training
does, each alone, then training itself: asynchronous workers on a virtual clock,
as experiments.train. The parts take turns. Processor time counts all threads,
so that it shows what a second core costs. Validation runs with fresh
parameters, whose translations never end: the worst case.

Commands set two things for small models (experiments/launch.py). To see what
they save, run this with one of these in the environment:

  GLIBC_TUNABLES=glibc.malloc.hugetlb=0
  XLA_FLAGS=--xla_cpu_multi_thread_eigen=true

Takes about a minute.
"""

import collections
import itertools
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import stale_adam as sa
from experiments import launch, options
from experiments.benchmarks import timed
from experiments.ledger import execute, scales, texts
from experiments.ledger.settings import MODELS
from stale_adam import policy, server, worker
from stale_adam.nmt.data.vocabulary import BOS
from stale_adam.nmt.models import layers
from stale_adam.training import flat_problem

SCALE = options.scale()
DATA_DIR, PAIR = options.data_dir(), options.pair()
MODEL = flags.DEFINE_enum('model', 'transformer', MODELS, 'Model to time.')
REPEATS = flags.DEFINE_integer('repeats', 100, 'Number of gradients timed.', 1)
COMMUNICATION = policy.Communication(4)


def without_softmax(model, params, batch, key):
  """The decoder's last layer instead of the loss over the vocabulary."""
  module = model.network.bind(params)
  encode, decode = jax.random.split(key)
  source, target = batch['source_segments'], batch['target_segments']
  memory = module.encode(batch['source'], source, encode)
  inputs = layers.shift(batch['target'], target, BOS)
  hidden = module.decode(memory, source, inputs, target, decode)
  return jnp.mean(hidden**2)


def wait(found) -> None:
  """Waits for arrays; what was computed does not matter."""
  jax.block_until_ready(found)


def gradients(task, form):
  """A gradient, and parts of it, each in one program."""
  key = jax.random.key(0)
  batch = jax.device_put(task.problem.batch(0))
  loss = task.problem.loss
  bare = lambda params, batch, key: without_softmax(
    task.model, params, batch, key
  )
  found = {}
  for name, init, function in (
    ('forward, without the loss over the vocabulary', task.problem.init, bare),
    ('forward', task.problem.init, loss),
    (
      'gradient, without the loss over the vocabulary',
      task.problem.init,
      jax.value_and_grad(bare),
    ),
    ('gradient', task.problem.init, jax.value_and_grad(loss)),
    (
      'gradient of vectors, as trained',
      form.problem.init,
      jax.value_and_grad(form.problem.loss),
    ),
  ):
    params = jax.jit(init)(key)
    program = jax.jit(function).lower(params, batch, key).compile()
    run = lambda program=program, params=params: wait(
      program(params, batch, key)
    )
    text = program.as_text()
    calls = len(re.findall(r' fusion\(', text))
    products = len(re.findall(r' dot\(|__onednn|custom-call\(', text))
    found[f'{name} ({calls} fusions, {products} products)'] = run
  return found


def products(settings, task):
  """The products of a gradient that have weights, alone: forward and backward.

  Without those of attention, and with equal numbers of source and target words.
  """
  count = settings.shape.rows * settings.shape.target
  leaves = jax.tree.leaves(jax.eval_shape(task.problem.init, jax.random.key(0)))
  weights = [jnp.ones(x.shape) for x in leaves if x.ndim == 2]
  inputs = [jnp.ones((count, w.shape[0])) for w in weights]
  errors = [jnp.ones((count, w.shape[1])) for w in weights]

  @jax.jit
  def run(weights, inputs, errors):
    each = zip(weights, inputs, errors, strict=True)
    return [(x @ w, e @ w.T, x.T @ e) for w, x, e in each]

  operations = 6 * count * sum(w.size for w in weights)
  name = f'products with weights, {operations / 1e9:.2f} GFLOP, alone'
  return {name: lambda: wait(run(weights, inputs, errors))}


def updates(task, form, optimizer):
  """An update of the model's arrays, and of the vectors."""
  found = {}
  for name, problem in (
    ('update, leaf by leaf', task.problem),
    ('update of vectors, as trained', form.problem),
  ):
    state = server.init(optimizer, jax.jit(problem.init)(jax.random.key(0)))

    def run(held=[state]):  # noqa: B006, it is the side's own.
      gradient = jax.tree.map(jnp.copy, held[0].params)
      jax.block_until_ready(gradient)
      push = worker.Push(0, 0, (), 0.0, None, gradient)
      began = time.perf_counter()
      decision = policy.Decision(update=True)
      held[0] = server.apply(held[0], push, decision, optimizer)
      jax.block_until_ready((held[0].params, held[0].optimizer_state))
      return time.perf_counter() - began

    found[name] = run
  return found


def training(problem, optimizer, count):
  """`run()` trains `count` gradients of four asynchronous workers."""
  pool = sa.pools.Virtual()
  arrivals = sa.serve(problem, optimizer, COMMUNICATION, pool)
  next(arrivals)

  def run():
    pairs = itertools.islice(arrivals, count)
    _, last = collections.deque(pairs, maxlen=1).pop()
    wait(last.params)

  return run


def trivial():
  """A problem of one number: what is left is the server, pool and dispatch."""
  loss = lambda params, batch, key: (params[0] - batch) * params[1]
  return sa.Problem(lambda key: (jnp.ones(()), jnp.ones(())), loss, np.float32)


def show(name: str, seconds: np.ndarray, count: int = 1) -> None:
  each = 1e3 * seconds / count
  print(f'{np.median(each):9.3f} {each.min():9.3f}  {name}', flush=True)


def main(_):
  settings = scales.settings(SCALE.value, MODEL.value, pair=PAIR.value)
  text = texts.load(SCALE.value, PAIR.value, DATA_DIR.value)
  task = execute.make_task(settings, text)
  optimizer = settings.transformation()
  form = flat_problem.form(task.problem, optimizer)
  print('\n   median   minimum  milliseconds')
  batches = itertools.count()
  sides = gradients(task, form) | products(settings, task)
  sides |= updates(task, form, optimizer)
  sides['making a batch'] = lambda: wait(task.problem.batch(next(batches)))
  for name, seconds in timed.turns(sides, REPEATS.value).items():
    show(name, seconds)
  count = 100
  for name, problem in (
    ('training, a gradient', form.problem),
    ('the same of one number: server, pool and dispatch', trivial()),
  ):
    run = training(problem, optimizer, count)
    run()
    before = time.process_time()
    show(name, timed.turns({'': run}, 5, 0)[''], count)
    used = 1e3 * (time.process_time() - before) / (5 * count)
    print(f'{used:9.3f}            {name}: processor time')
  params = jax.jit(task.problem.init)(jax.random.key(0))
  words = settings.budget.validate_every
  every = words * task.batches.first_epoch / task.units_per_epoch
  sides = {
    'validation loss': lambda: wait(task.validation_loss(params)),
    'validation translations': lambda: wait(task.validation_score(params)),
  }
  for name, seconds in timed.turns(sides, 3, 1).items():
    show(f'{name}, spread over {every:.0f} gradients', seconds, every)
  print(timed.load())


if __name__ == '__main__':
  launch.main(main)
