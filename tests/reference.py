"""The equations in NumPy and float64: what the code is held against.

Nothing of the project is imported, nor JAX: what is wrong there cannot be
wrong here in the same way. All parameters that ever were in force are kept, so
that a snapshot is an index.
"""

import itertools
from typing import NamedTuple

import numpy as np

ROWS, INPUTS, HIDDEN = 8, 3, 2


def initial():
  """Parameters of version 0."""
  draw = np.random.default_rng(7)
  return {
    'inner': draw.normal(size=(INPUTS, HIDDEN)).astype(np.float32),
    'outer': draw.normal(size=HIDDEN).astype(np.float32),
  }


def batch(number):
  """Inputs and targets of a regression, another for every id."""
  draw = np.random.default_rng(number)
  inputs = draw.normal(size=(ROWS, INPUTS))
  target = np.sin(inputs.sum(axis=1)) + 0.3 * draw.normal(size=ROWS)
  return {
    'inputs': inputs.astype(np.float32),
    'target': target.astype(np.float32),
  }


def loss_and_gradient(params, number):
  """loss = 1/2 mean (tanh(x inner) outer - y)^2, and its two gradients."""
  data = {k: x.astype(np.float64) for k, x in batch(number).items()}
  hidden = np.tanh(data['inputs'] @ params['inner'])
  error = hidden @ params['outer'] - data['target']
  into_hidden = np.outer(error, params['outer']) * (1 - hidden**2)
  gradient = {
    'inner': data['inputs'].T @ into_hidden / ROWS,
    'outer': hidden.T @ error / ROWS,
  }
  return 0.5 * np.mean(error**2), gradient


class Adam:
  """Kingma and Ba's algorithm 1; `rate(u)` is that of update u = 1, 2, ..."""

  def __init__(self, rate, b1=0.9, b2=0.98, eps=1e-9):
    self.rate, self.b1, self.b2, self.eps = rate, b1, b2, eps
    self.updates, self.m, self.v = 0, {}, {}

  def update(self, params, gradient):
    """Parameters after one more update."""
    self.updates += 1
    t, b1, b2, new = self.updates, self.b1, self.b2, {}
    for k, g in gradient.items():
      self.m[k] = b1 * self.m.get(k, 0.0) + (1 - b1) * g
      self.v[k] = b2 * self.v.get(k, 0.0) + (1 - b2) * g**2
      m_hat, v_hat = self.m[k] / (1 - b1**t), self.v[k] / (1 - b2**t)
      pace = m_hat / (np.sqrt(v_hat) + self.eps)
      new[k] = params[k] - self.rate(t) * pace
    return new


class Run(NamedTuple):
  """Parameters by version; by push: its staleness, version, ids and loss."""

  versions: list
  staleness: list
  pulled: list
  ids: list
  loss: list


def serve(
  optimizer,
  arrivals,
  workers,
  local=1,
  every=1,
  synchronous=False,
  pull_every=1,
):
  """The parameter server, for a given order of arrivals (worker ids)."""
  versions = [{k: x.astype(np.float64) for k, x in initial().items()}]
  run = Run(versions, [], [], [], [])
  numbers, held, waiting, summed = itertools.count(), {}, [], {}

  def pull(worker):
    newest = len(versions) - 1
    held[worker] = (
      newest - newest % pull_every,
      list(itertools.islice(numbers, local)),
    )

  for worker in range(workers):
    pull(worker)
  for count, worker in enumerate(arrivals, start=1):
    pulled, ids = held.pop(worker)
    results = [loss_and_gradient(versions[pulled], i) for i in ids]
    run.staleness.append(len(versions) - 1 - pulled)
    run.pulled.append(pulled)
    run.ids.append(ids)
    run.loss.append(np.mean([loss for loss, _ in results]))
    for _, gradient in results:
      summed = {k: g + summed.get(k, 0.0) for k, g in gradient.items()}
    if count % (workers if synchronous else every) == 0:
      versions.append(optimizer.update(versions[-1], summed))
      summed = {}
    waiting.append(worker)
    if not synchronous or len(waiting) == workers:
      for ready in sorted(waiting):
        pull(ready)
      waiting = []
  return run


def distance(params, expected):
  """|params - expected| / |expected|, of all leaves together."""
  flat = lambda tree: np.concatenate(
    [np.ravel(np.asarray(tree[k], np.float64)) for k in sorted(expected)]
  )
  error = np.linalg.norm(flat(params) - flat(expected))
  return error / np.linalg.norm(flat(expected))


def late(optimizer, ages):
  """Versions of a loop whose u-th update sums gradients of these ages.

  ages[u] has one number for every batch that update u uses: the staleness of
  its gradient, which version 0 limits.
  """
  versions = [{k: x.astype(np.float64) for k, x in initial().items()}]
  numbers = itertools.count()
  for update, several in enumerate(ages):
    summed = {}
    for age in several:
      pulled = versions[max(0, update - age)]
      _, gradient = loss_and_gradient(pulled, next(numbers))
      summed = {k: g + summed.get(k, 0.0) for k, g in gradient.items()}
    versions.append(optimizer.update(versions[-1], summed))
  return versions


def staggered(updates, pull_every, phases):
  """Ages by update and worker, if worker w pulls after v mod U = phases[w]."""
  pulled, ages = [0] * len(phases), []
  for version in range(updates):
    for worker, phase in enumerate(phases):
      if version > 0 and version % pull_every == phase:
        pulled[worker] = version
    ages.append([version - v for v in pulled])
  return ages


class Sgd:
  """x <- x - rate g."""

  def __init__(self, rate):
    self.rate = rate

  def update(self, params, gradient, ages=()):
    del ages
    return {k: params[k] - self.rate * g for k, g in gradient.items()}


class Scaled:
  """Another optimizer whose updates are multiplied by `scale(ages, u)`.

  ages are the staleness of the pushes in the sum, u counts updates from 0. With
  `mean` it gets the mean of the pushes, not their sum.
  """

  def __init__(self, inner, scale=lambda ages, u: 1.0, mean=False):
    self.inner, self.scale, self.mean = inner, scale, mean
    self.updates = 0

  def update(self, params, gradient, ages):
    share = 1 / len(ages) if self.mean else 1.0
    new = self.inner.update(params, {k: share * g for k, g in gradient.items()})
    scale = self.scale(ages, self.updates)
    self.updates += 1
    return {k: x + scale * (new[k] - x) for k, x in params.items()}


class Asked(NamedTuple):
  """What a policy is asked: as in a push's arrival."""

  worker: int
  staleness: int
  summed: int
  version: int
  waiting: list
  pushes: list


def train(
  optimizer,
  arrivals,
  workers,
  decide,
  local=1,
  per_push=None,
  worker=None,
  local_worker=None,
  reply=None,
):
  """The server with methods, for a given order of arrivals.

  Args:
    optimizer: `update(params, gradient, ages) -> params`, ages the staleness of
      the pushes in the sum; Adam's without them.
    arrivals: worker ids.
    workers: N.
    decide: `decide(asked) -> (use, update, answered, publish, restarted)`; the
      last one or two may be left out: True and nobody.
    local: L.
    per_push: `per_push(gradient, params, pulled, staleness, worker) ->
      gradient`.
    worker: `worker(gradient, memory, worker) -> (message, memory)`, memory {}
      at first.
    local_worker: `local_worker(pulled, ids, memory) -> (message, memory)`
      instead, which takes its gradients itself.
    reply: `reply(published, optimizer, worker, version, params) -> params`.

  Returns:
    (params by version, staleness of each push, whether each was used).
  """
  reply = reply or (lambda params, *_: params)
  numbers, held, waiting, published = itertools.count(), {}, [], 0
  versions = [{k: x.astype(np.float64) for k, x in initial().items()}]
  memory = {w: {} for w in range(workers)}
  summed, ages, staleness, used = {}, [], [], []
  pushes = [0] * workers

  def pull(who):
    ids = list(itertools.islice(numbers, local))
    known = optimizer, who, len(versions) - 1, versions[-1]
    held[who] = published, reply(versions[published], *known), ids

  for who in range(workers):
    pull(who)
  for who in arrivals:
    version, pulled, ids = held.pop(who)
    waiting = sorted([*waiting, who])
    pushes[who] += 1
    age = len(versions) - 1 - version
    message = {}
    for i in ids:
      for k, g in loss_and_gradient(pulled, i)[1].items():
        message[k] = message.get(k, 0.0) + g
    if worker:
      message, memory[who] = worker(message, memory[who], who)
    if local_worker:
      message, memory[who] = local_worker(pulled, ids, memory[who])
    asked = Asked(who, age, len(ages), len(versions) - 1, waiting, pushes)
    use, update, answered, *more = decide(asked)
    publish, restarted = [*more, *[True, ()][len(more) :]]
    if use:
      if per_push:
        message = per_push(message, versions[-1], pulled, age, who)
      summed = {k: g + summed.get(k, 0.0) for k, g in message.items()}
      ages.append(age)
    if update:
      extra = () if type(optimizer) is Adam else (ages,)
      versions.append(optimizer.update(versions[-1], summed, *extra))
      summed, ages = {}, []
    if publish:
      published = len(versions) - 1
    for ready in answered:
      waiting.remove(ready)
      pull(ready)
    for busy in restarted:
      del held[busy]
      pull(busy)
    staleness.append(age)
    used.append(use)
  return versions, staleness, used


def smoothed(versions, rate):
  """Smoothed parameters after every update, from the weights of all versions.

  Version j > 0 is the result of update j - 1, whose rate is c = max(rate, 1 -
  j / (j + 9)). It has the weight c, times 1 - c for every later update.

  Args:
    versions: [updates + 1, ...] parameters; versions[0] are the initial ones.
    rate: of the smoothing.

  Returns:
    An array of the same shape.
  """
  versions = np.asarray(versions, np.float64)
  number = np.arange(1, len(versions))
  rates = np.maximum(rate, 1 - number / (number + 9))
  rates = np.concatenate([[1.0], rates])  # Before any update: the initial ones.
  found = []
  for last in range(len(versions)):
    later = [np.prod(1 - rates[j + 1 : last + 1]) for j in range(last + 1)]
    weights = rates[: last + 1] * later
    found.append(np.tensordot(weights, versions[: last + 1], 1))
  return np.stack(found)
