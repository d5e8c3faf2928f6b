"""The rules of methods in NumPy and float64, as `reference.train` takes them.

Policies are functions of `reference.Asked`: (use, update, answered, published,
restarted), the last two by default True and nobody.
"""

import numpy as np
import reference
from reference import Adam, Scaled


def plain(policy):
  """The decisions of a Communication."""
  count = policy.workers if policy.synchronous else policy.global_accumulation

  def decide(a):
    update = a.summed + 1 == count
    publish = update and (a.version + 1) % policy.pull_every == 0
    ready = [a.worker] if not policy.synchronous else []
    return True, update, [*a.waiting] if update else ready, publish

  return decide


def backup(policy):
  def decide(a):
    if a.staleness:
      return False, False, [a.worker]
    update = a.summed == policy.workers - policy.backups - 1
    return True, update, [*a.waiting] if update else []

  return decide


def drop_stale(policy):
  def decide(a):
    use = not a.staleness > policy.threshold
    update = use and a.summed == policy.global_accumulation - 1
    return use, update, [a.worker]

  return decide


def first_workers(policy):
  def decide(a):
    if len(a.waiting) < policy.first:
      return True, False, []
    busy = {*range(policy.workers)} - {*a.waiting}
    return True, True, [*a.waiting], True, sorted(busy)

  return decide


def fresh_pushes(policy):
  def decide(a):
    last = a.summed == policy.pushes - 1
    others = [w for w in range(policy.workers) if w != a.worker]
    return True, last, [a.worker], True, others if last else []

  return decide


def first_to_finish(policy):
  def decide(a):
    wanted = policy.first
    if isinstance(wanted, tuple):
      wanted = dict(wanted)[max(v for v, _ in wanted if v <= a.version)]
    update = len(a.waiting) >= wanted
    return True, update, [*a.waiting] if update else []

  return decide


def stale_synchronous(policy):
  def decide(a):
    slowest = min(a.pushes)
    lead = {w: a.pushes[w] - slowest for w in a.waiting}
    return True, True, [w for w in a.waiting if lead[w] <= policy.slack]

  return decide


def one_round_late(policy):
  def decide(a):
    last = len(a.waiting) == policy.workers
    return True, last, [*a.waiting] if last else [], len(a.waiting) == 1

  return decide


def each(rule):
  """A rule of one array, for every array."""

  def per_push(g, x, pulled, tau, who):
    del who
    return {k: rule(v, x[k], pulled[k], tau) for k, v in g.items()}

  return per_push


def weighted(weight):
  return lambda: {'per_push': each(lambda g, x, old, tau: weight(tau) * g)}


def near(limit):
  def per_push(g, x, pulled, tau, who):
    square = sum(((x[k] - pulled[k]) ** 2).sum() for k in x)
    s = min(1.0, limit / square) if square else 1.0
    return {k: s * v for k, v in g.items()}

  return {'per_push': per_push}


def compensated(strength, decay=None):
  """Delay compensation; its mean square is shared by all workers."""

  def make():
    square = {}

    def per_push(g, x, pulled, tau, who):
      new = {}
      for k, v in g.items():
        s = strength
        if decay is not None:
          square[k] = decay * square.get(k, 0.0) + (1 - decay) * v * v
          s = strength / np.sqrt(square[k] + 1e-7)
        new[k] = v + s * v * v * (x[k] - pulled[k])
      return new

    return {'per_push': per_push}

  return make


def gap(decay):
  """Sizes of updates from the versions that pushes find."""

  def make():
    seen, squares = [], []

    def per_push(g, x, pulled, tau, who):
      if not seen or seen[-1] is not x:
        if seen:
          squares.append({k: (x[k] - seen[-1][k]) ** 2 for k in x})
        seen.append(x)
      if not squares:
        return g
      ages = decay ** np.arange(len(squares) - 1.0, -1.0, -1.0)
      new = {}
      for k, v in g.items():
        mean = sum(a * s[k] for a, s in zip(ages, squares, strict=True))
        size = np.sqrt(mean / ages.sum()) + 1e-8
        new[k] = v / (1 + abs(x[k] - pulled[k]) / size)
      return new

    return {'per_push': per_push}

  return make


def dropped(rate):
  def worker(g, memory, who):
    del who
    total = {k: v + memory.get(k, 0.0) for k, v in g.items()}
    size = np.concatenate([np.ravel(np.abs(v)) for v in total.values()])
    threshold = np.sort(size)[-max(1, round((1 - rate) * size.size))]
    sent = {k: np.where(abs(v) >= threshold, v, 0.0) for k, v in total.items()}
    return sent, {k: total[k] - sent[k] for k in total}

  return worker


def kept(rate, inner, pushes):
  """Dropping, with an offset of what was dropped; memory has it all."""
  drop = dropped(rate)

  def walk(pulled, ids, memory):
    count, residual, offset, optimizer = memory.get(
      'all', (0, {}, dict.fromkeys(pulled, 0.0), inner())
    )
    local = {k: pulled[k] + offset[k] for k in pulled}
    g = dict.fromkeys(pulled, 0.0)
    for i in ids:
      _, more = reference.loss_and_gradient(local, i)
      g = {k: g[k] + more[k] for k in g}
    sent, residual = drop(g, residual, None)
    new = optimizer.update(local, {k: g[k] - sent[k] for k in g})
    offset = {k: offset[k] + new[k] - local[k] for k in g}
    count = (count + 1) % pushes
    if count == 0:
      offset = dict.fromkeys(pulled, 0.0)
    return sent, {'all': (count, residual, offset, optimizer)}

  return walk


def deep(workers, mu, densities, pushes, clip):
  def worker(g, memory, who):
    count, m, v = memory.get('all', (0, {}, {}))
    norm = np.sqrt(sum((x**2).sum() for x in g.values()))
    g = {k: x * min(1.0, clip / np.sqrt(workers) / norm) for k, x in g.items()}
    m = {k: mu * m.get(k, 0.0) + x for k, x in g.items()}
    v = {k: v.get(k, 0.0) + x for k, x in m.items()}
    density = densities[min(count // pushes, len(densities) - 1)]
    size = np.concatenate([np.ravel(abs(x)) for x in v.values()])
    threshold = np.sort(size)[-max(1, round(density * size.size))]
    keep = {k: abs(x) >= threshold for k, x in v.items()}
    sent = {k: np.where(keep[k], x, 0.0) for k, x in v.items()}
    rest = [{k: np.where(keep[k], 0, x) for k, x in t.items()} for t in (m, v)]
    return sent, {'all': (count + 1, *rest)}

  return worker


def signs(g, memory, who):
  total = {k: v + memory.get(k, 0.0) for k, v in g.items()}
  sent = {}
  for k, u in total.items():
    columns = u.reshape(len(u), -1)
    new = np.zeros_like(columns)
    for j, column in enumerate(columns.T):
      for which in (column >= 0, column < 0):
        if which.any():
          new[which, j] = column[which].mean()
    sent[k] = new.reshape(u.shape)
  return sent, {k: total[k] - sent[k] for k in total}


def quantised(levels, bucket, draws):
  """QSGD; `draws(who, push)` are its uniform numbers, [buckets, size]."""

  def worker(g, memory, who):
    count = memory.get('count', 0)
    uniform, sent = draws(who, count), {}
    for k, v in g.items():
      new = np.zeros(v.size)
      for i, x in enumerate(v.ravel()):
        mine = v.ravel()[i // bucket * bucket :][:bucket]
        norm = np.sqrt((mine**2).sum())
        scaled = levels * abs(x) / norm
        up = uniform[k][i // bucket, i % bucket] >= 1 - scaled % 1
        new[i] = norm * np.sign(x) * (np.floor(scaled) + up) / levels
      sent[k] = new.reshape(v.shape)
    return sent, {'count': count + 1}

  return worker


def predicted(staleness):
  def reply(params, adam, *_):
    t, new = adam.updates, params
    for s in range(1, int(np.ceil(staleness)) + 1) if t else ():
      weight = min(1.0, staleness - s + 1) * adam.rate(t + s) * adam.b1**s
      for k in params:
        m_hat = adam.m[k] / (1 - adam.b1**t)
        v_hat = adam.v[k] / (1 - adam.b2**t)
        change = weight * m_hat / (np.sqrt(v_hat) + adam.eps)
        new = {**new, k: new[k] - change}
    return new

  return reply


def last_pushes(workers):
  def make():
    last = {}

    def per_push(g, x, pulled, tau, who):
      last[who] = g
      return {k: sum(t[k] for t in last.values()) / workers for k in g}

    return {'per_push': per_push}

  return make


def dana(rate, mu):
  def make():
    velocity = {}

    def per_push(g, x, pulled, tau, who):
      own = velocity.get(who, {})
      velocity[who] = {k: mu * own.get(k, 0.0) + v for k, v in g.items()}
      return velocity[who]

    def reply(params, *_):
      ahead = {k: sum(v[k] for v in velocity.values()) for k in params}
      return {k: x - rate * mu * ahead[k] for k, x in params.items()}

    return {'per_push': per_push, 'reply': reply}

  return make


def elastic(a, rate):
  """EASGD with local SGD at `rate`."""

  def make():
    own = {}

    def per_push(g, x, pulled, tau, who):
      there = {k: pulled[k] - g[k] for k in g}
      drawn = {k: a * (there[k] - x[k]) for k in g}
      own[who] = {k: there[k] - drawn[k] for k in g}
      return {k: -d for k, d in drawn.items()}

    def reply(params, optimizer, who, *_):
      return own.get(who, params)

    local = walked(lambda: reference.Sgd(rate))
    return {'per_push': per_push, 'reply': reply, 'local_worker': local}

  return make


def revised(a):
  """AdaptiveRevision: the server's update is the negative of this message."""

  def make():
    total, z, top, read = {}, {}, {}, {}

    def per_push(g, x, pulled, tau, who):
      new = {}
      for k, v in g.items():
        missed = total.get(k, 0.0) - read.get(who, {}).get(k, 0.0)
        old = a / np.sqrt(top.get(k, 1.0))
        z[k] = z.get(k, 1.0) + v**2 + 2 * v * missed
        top[k] = np.maximum(top.get(k, 1.0), z[k])
        now = a / np.sqrt(top[k])
        new[k] = now * v - (old - now) * missed
        total[k] = total.get(k, 0.0) + v
      read[who] = dict(total)
      return new

    return {'per_push': per_push}

  return make


def torn(shards, newer):
  """Every leaf of the published version, or of the newest where `newer` says.

  Args:
    shards: leaf i is on shard i mod shards.
    newer: `newer(version, worker)`, a list of bools by shard.
  """

  def reply(published, optimizer, who, version, params):
    which = newer(version, who)
    return {
      k: (params if which[i % shards] else published)[k]
      for i, k in enumerate(sorted(params))
    }

  return reply


def staggered(pull_every, phases):
  """What every worker had, until it pulls after v mod U = phases[w]."""
  held = {}

  def reply(published, optimizer, who, version, params):
    if version == 0 or version % pull_every == phases[who]:
      held[who] = params
    return held[who]

  return reply


def walked(inner, push='change'):
  """Local updates; every worker keeps the state of its `inner` optimizer."""

  def walk(pulled, ids, memory):
    optimizer = memory.get('optimizer') or inner()
    local, total = pulled, dict.fromkeys(pulled, 0.0)
    for i in ids:
      _, g = reference.loss_and_gradient(local, i)
      total = {k: total[k] + g[k] for k in g}
      local = optimizer.update(local, g)
    if push == 'change':
      total = {k: pulled[k] - local[k] for k in local}
    return total, {'optimizer': optimizer}

  return walk


def own_push(inner):
  """The gradients at the parameters to which the last push was applied."""

  def walk(pulled, ids, memory):
    optimizer = memory.get('optimizer') or inner()
    local, total = pulled, dict.fromkeys(pulled, 0.0)
    if 'push' in memory:
      local = optimizer.update(pulled, memory['push'])
    for i in ids:
      _, g = reference.loss_and_gradient(local, i)
      total = {k: total[k] + g[k] for k in g}
    return total, {'optimizer': optimizer, 'push': total}

  return walk


def mixed(share, weight):
  """x_w is pulled - g; the server's SGD has the rate 1."""
  return each(lambda g, x, old, tau: share * weight(tau) * (x - (old - g)))


class Nesterov:
  """m <- mu m + g; x <- x - rate (mu m + g)."""

  def __init__(self, rate, mu):
    self.rate, self.mu, self.m = rate, mu, {}

  def update(self, params, gradient, ages=()):
    self.m = {k: self.mu * self.m.get(k, 0.0) + g for k, g in gradient.items()}
    change = {k: self.mu * self.m[k] + g for k, g in gradient.items()}
    return {k: x - self.rate * change[k] for k, x in params.items()}


class DelayedNesterov:
  """Momentum that is renewed on every N-th update."""

  def __init__(self, rate, workers, mu, c):
    self.rate, self.workers, self.mu, self.c = rate, workers, mu, c
    self.m, self.since = {}, []

  def update(self, params, gradient, ages=()):
    n, self.since = self.workers, [*self.since, gradient]
    factor = self.c
    if len(self.since) == n:
      mean = {k: sum(g[k] for g in self.since) / n for k in gradient}
      self.m = {k: self.mu * self.m.get(k, 0.0) + g for k, g in mean.items()}
      self.since, factor = [], 1 - self.c * n + self.c
    change = {
      k: factor * self.mu * self.m.get(k, 0.0) + g / n
      for k, g in gradient.items()
    }
    return {k: x - self.rate * change[k] for k, x in params.items()}


class Smega:
  """One momentum, renewed on every N-th update, in force on all."""

  def __init__(self, rate, workers, mu):
    self.rate, self.workers, self.mu = rate, workers, mu
    self.m, self.since = {}, []

  def update(self, params, gradient, ages=()):
    m, n = self.m, self.workers
    self.since = [*self.since, gradient]
    if len(self.since) == n:
      mean = {k: sum(g[k] for g in self.since) / n for k in gradient}
      self.m = {k: self.mu * m.get(k, 0.0) + g for k, g in mean.items()}
      self.since = []
    change = {k: g + self.mu * m.get(k, 0.0) for k, g in gradient.items()}
    return {k: x - self.rate * change[k] for k, x in params.items()}

  def reply(self, params, *_):
    c, n, new = len(self.since), self.workers, {}
    for k, x in params.items():
      total = sum(g[k] for g in self.since)
      ahead = (n + c * (self.mu - 1)) * self.m.get(k, 0.0) + c / n * total
      new[k] = x - self.rate * self.mu * ahead
    return new


class Adagrad:
  """x <- x - rate g / sqrt(0.1 + sum of g^2 + 1e-7), optax's constants."""

  def __init__(self, rate):
    self.rate, self.squares = rate, {}

  def update(self, params, gradient, ages=()):
    new = {}
    for k, g in gradient.items():
      self.squares[k] = self.squares.get(k, 0.1) + g**2
      new[k] = params[k] - self.rate * g / np.sqrt(self.squares[k] + 1e-7)
    return new


class Amsgrad(Adam):
  """Adam with the largest corrected second moment so far."""

  def update(self, params, gradient, ages=()):
    self.updates += 1
    t, new = self.updates, {}
    self.top = getattr(self, 'top', {})
    for k, g in gradient.items():
      self.m[k] = self.b1 * self.m.get(k, 0.0) + (1 - self.b1) * g
      self.v[k] = self.b2 * self.v.get(k, 0.0) + (1 - self.b2) * g**2
      v_hat = self.v[k] / (1 - self.b2**t)
      self.top[k] = np.maximum(self.top.get(k, 0.0), v_hat)
      m_hat = self.m[k] / (1 - self.b1**t)
      new[k] = params[k] - self.rate(t) * m_hat / (
        np.sqrt(self.top[k]) + self.eps
      )
    return new


def fadas(rate, tolerated):
  lower = lambda ages, u: 1 / max(ages) if max(ages) > tolerated else 1.0
  return Scaled(Amsgrad(lambda update: rate), lower, mean=True)


def averaged(inner):
  return Scaled(inner, mean=True)
