# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Stale gradients in ten minutes
#
# A worker **pulls** parameters, computes a gradient, and **pushes** it. If
# others pushed meanwhile, its gradient is **stale**: it was computed at
# parameters that have since been updated. Here we measure staleness, see what
# it does to Adam, repair it, replay a run, ask what else its order of arrivals
# would have given, and write a method against staleness of our own.
#
# It needs `pip install -e .`, no data, and a minute of computing. `.py` and
# `.ipynb` are the same notebook: `jupytext --sync` keeps them so.

# %%
import itertools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import stale_adam as sa

# %% [markdown]
# ## A problem
#
# A `Problem` is three pure functions: initial parameters from a key, the loss
# of a batch, and the batch with a given number. This one learns a small
# network to imitate another one.

# %%
WIDTH, TEACHER = 16, jax.random.key(1)


def network(params, inputs):
  hidden = jnp.tanh(inputs @ params['inner'])
  return jnp.tanh(hidden @ params['middle']) @ params['outer']


def init(key):
  keys = jax.random.split(key, 3)
  shapes = {'inner': (8, WIDTH), 'middle': (WIDTH, WIDTH), 'outer': (WIDTH,)}
  return {
    name: jax.random.normal(k, shape) / jnp.sqrt(shape[0])
    for (name, shape), k in zip(shapes.items(), keys, strict=True)
  }


def loss(params, batch, key):
  del key  # For dropout.
  return jnp.mean((network(params, batch['inputs']) - batch['targets']) ** 2)


def batch(number):
  inputs = np.random.default_rng(number).normal(size=(32, 8))
  inputs = np.float32(inputs)
  return {'inputs': inputs, 'targets': np.asarray(teach(inputs))}


teach = jax.jit(lambda inputs: network(init(TEACHER), inputs))
problem = sa.Problem(init, loss, batch)

# %% [markdown]
# ## Staleness, measured
#
# Four workers on a **virtual clock**: who arrives when is computed, the
# gradients are real. `serve` yields every push with its staleness: the updates
# since its worker pulled. With N equal workers its mean is (N - 1) / G, where
# the server sums G pushes before each update.

# %%
CLOCK = sa.Clock(distribution='gamma', spread=0.5)


def train(communication, rate, pushes=1200, **method):
  """The pushes of a run, its losses, and its trace."""
  with sa.pools.Virtual(CLOCK) as pool:
    arrivals = sa.serve(problem, sa.adam(rate), communication, pool, **method)
    found = [push for push, _ in itertools.islice(arrivals, pushes)]
  return np.array([p.loss for p in found]), sa.Trace.of(found)


for accumulation in (1, 2, 4):
  numbers = sa.Communication(4, global_accumulation=accumulation)
  _, trace = train(numbers, rate=0.01, pushes=400)
  staleness = trace.columns['staleness']
  print(f'G = {accumulation}: mean staleness {staleness.mean():.2f}', end='; ')
  print(
    {
      int(s): int(n)
      for s, n in zip(*np.unique(staleness, return_counts=True), strict=True)
    }
  )

# %% [markdown]
# ## What it does to Adam
#
# At a low learning rate, little. At a high one, asynchronous training loses
# most of what synchronous training learns. Summing four pushes before each
# update repairs it, and nobody waits.

# %%
KINDS = {
  'synchronous': sa.Communication(4, synchronous=True),
  'asynchronous': sa.Communication(4),
  'asynchronous, G = 4': sa.Communication(4, global_accumulation=4),
}
smooth = lambda losses: np.convolve(losses, np.ones(50) / 50, 'valid')
figure, panels = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
for panel, rate in zip(panels, (0.01, 0.1), strict=True):
  for name, numbers in KINDS.items():
    losses, _ = train(numbers, rate)
    panel.semilogy(smooth(losses), label=name)
    print(f'rate {rate}, {name}: last loss {losses[-100:].mean():.4f}')
  panel.set(title=f'learning rate {rate}', xlabel='pushes')
panels[0].set_ylabel('loss')
panels[0].legend()
plt.show()

# %% [markdown]
# ## In your own loop
#
# `sa.delay` wraps any optax optimizer, so that every gradient is used a number
# of updates late: as of N workers that take turns, N - 1. No server is needed.


# %%
def own_loop(optimizer, count=300):
  @jax.jit
  def update(params, state, batch):
    value, gradient = jax.value_and_grad(loss)(params, batch, None)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value

  params = init(jax.random.key(0))
  state, losses = optimizer.init(params), []
  for number in range(count):
    params, state, value = update(params, state, batch(number))
    losses.append(value)
  return float(np.mean(losses[-50:]))


for staleness in (0, 3, 15):
  late = sa.delay(optax.adam(0.03), staleness=staleness)
  print(f'staleness {staleness}: last loss {own_loop(late):.4f}')

# %% [markdown]
# ## A run of real threads, replayed
#
# On host threads nobody knows who will arrive next. But the order of arrivals
# is recorded, and it determines everything else: `simulate` replays the run as
# one compiled program, bit for bit on the same machine.

# %%
numbers = sa.Communication(4, global_accumulation=2)
optimizer = sa.adam(0.03)
with sa.pools.Threads() as pool:
  arrivals = sa.serve(problem, optimizer, numbers, pool)
  pushes, servers = zip(*itertools.islice(arrivals, 400), strict=True)
trace = sa.Trace.of(pushes)
again = sa.simulate(problem, optimizer, numbers, trace)
same = jax.tree.map(jnp.array_equal, again.params, servers[-1].params)
print('equal bit for bit:', all(jax.tree.leaves(same)))

# %% [markdown]
# ## A counterfactual
#
# What would the same order of arrivals, with the same batches, have given with
# another learning rate? `simulate` is a function of arrays: `vmap` runs many.

# %%
rates = jnp.array([0.003, 0.01, 0.03, 0.1, 0.3])
run = lambda rate: sa.simulate(problem, sa.adam(rate), numbers, trace)
for rate, losses in zip(rates, jax.vmap(run)(rates).loss, strict=True):
  print(f'rate {rate:.3f}: last loss {losses[-100:].mean():.4f}')

# %% [markdown]
# ## A method of your own
#
# What happens to a push before the sum is an optax transformation. If it takes
# extra arguments, it is told how stale the push is. Here is one that weights a
# gradient by 1 / (1 + staleness)^power, and one of the over thirty published
# ones in `sa.methods` beside it. Note that Adam divides by the gradient's
# size: a constant factor changes nothing, only differences between pushes do.
# Here there are some, since the durations of batches vary.


# %%
def weigh(power):
  def update(gradients, state, params=None, *, staleness, **others):
    del params, others
    weight = (1.0 + staleness) ** -power
    return jax.tree.map(lambda g: weight * g, gradients), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )


METHODS = {
  'none': {},
  'weigh(2)': {'per_push': weigh(2.0)},
  'scale_by_distance': {'per_push': sa.methods.scale_by_distance()},
}
for name, method in METHODS.items():
  losses, trace = train(sa.Communication(4), 0.03, **method)
  stalest = trace.columns['staleness'].max()
  print(f'{name}: last loss {losses[-100:].mean():.4f}, stalest {stalest}')

# %% [markdown]
# One run is one sample: before you believe a difference, repeat it with other
# seeds, as the [results](../results/README.md) do.
#
# Next: the [README](../README.md), the results, and
# `python -m experiments.train --help`, which trains a translation model.
