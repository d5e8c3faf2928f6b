"""Runs together are the runs alone, whatever rates, seeds and orders they have.

To rounding: vmap compiles another program.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
import toys

import stale_adam as sa
from stale_adam import methods, server
from stale_adam.compiled import decisions, legs, sweep
from stale_adam.pools import virtual

RATES, SEEDS, COUNT = (0.01, 0.03, 0.02), (3, 4, 5), 61
# One for each rate: they are keys of jit's cache.
ADAM = {rate: sa.adam(rate) for rate in RATES}
# vmap against one run, in float32, over COUNT updates of Adam.
CLOSE = {'rtol': 1e-4, 'atol': 1e-5}


def start(key):
  """The toy's parameters, others for every seed."""
  noise = lambda x: x + 0.1 * jax.random.normal(key, x.shape)
  return jax.tree.map(noise, toys.init(key))


def noisy(params, batch, key):
  """A loss that needs the key of its batch."""
  noise = 0.1 * jax.random.normal(key, batch['target'].shape)
  return toys.toy_loss(params, batch | {'target': batch['target'] + noise}, key)


def problem(seed):
  """A run's own parameters and batches; the loss is that of all."""
  batch = lambda batch_id: toys.PROBLEM.batch(1000 * seed + batch_id)
  return sa.Problem(start, noisy, batch)


PROBLEMS = list(map(problem, SEEDS))


class Recorded:
  """The decisions of a run with a clock of its own, and its order."""

  def __init__(self, policy, seed):
    clock = sa.Clock(1.0, 0.1, 0.2, 0.1, 'gamma', 0.4, seed=seed)
    with virtual.Dry(clock) as pool:
      found = list(itertools.islice(decisions.dry(policy, pool), COUNT))
    self.order = np.array([push.worker for _, push, _ in found])
    self.servers = [bare for *_, bare in found]
    self.versions = max(map(decisions.span, self.servers))
    self.decisions = decisions.record(policy, self.order)

  def part(self, problem, begin=0, end=None):
    columns = self.decisions.columns
    cut = {name: x[begin:end] for name, x in columns.items()}
    return legs.Part(cut, problem.batch)


def parts(runs, begins=(0, 0, 0), ends=(None,) * 3):
  cuts = zip(runs, PROBLEMS, begins, ends, strict=True)
  return [run.part(*cut) for run, *cut in cuts]


def fresh(policy):
  """The servers of three new runs."""
  new = zip(PROBLEMS, SEEDS, RATES, strict=True)
  return [
    server.init(ADAM[r], p.init(server.keys(s)[0]), policy.workers)
    for p, s, r in new
  ]


def swept(servers, runs, loss=noisy, make=sa.adam, rates=RATES, seeds=SEEDS):
  versions = max(run.versions for run in runs)
  cases = runs[0].decisions.cases
  return sweep.Sweep(loss, make, rates, seeds, servers, versions, cases)


def alone(policy, orders, resumes=(None,) * 3):
  """(losses, last parameters) of every run, by `serve`."""
  for problem, rate, seed, order, resume in zip(
    PROBLEMS, RATES, SEEDS, orders, resumes, strict=True
  ):
    pool = sa.pools.Virtual(sa.Trace(order, np.arange(float(len(order)))))
    known = problem, ADAM[rate], policy, pool, seed
    with pool:
      pairs = list(sa.serve(*known, resume=resume))
    yield np.array([push.loss for push, _ in pairs]), pairs[-1][1].params


def assert_close(found, wanted):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, **CLOSE), found, wanted
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'case',
  [(4, 1, 1), (3, 2, 5), (4, 2, 4, True), (3, 1, 2, False, 3)],
  ids=str,
)
def test_runs_together_are_the_runs_alone(case):
  """In three legs whose lengths differ from run to run."""
  policy = sa.Communication(*case)
  runs = [Recorded(policy, seed) for seed in SEEDS]
  together, losses = swept(fresh(policy), runs), ([], [], [])
  cuts = [(0, 0, 0), (11, 20, 13), (40, 33, 41), (COUNT, COUNT, COUNT)]
  for begins, ends in itertools.pairwise(cuts):
    leg = together.advance(parts(runs, begins, ends))
    for own, more in zip(losses, leg, strict=True):
      own.append(more)
  found = [together.params(i) for i in range(3)]
  wanted = alone(policy, [run.order for run in runs])
  for own, params, (loss, last) in zip(losses, found, wanted, strict=True):
    assert_close(params, last)
    assert_close(np.concatenate(own), loss)
  for left, right in itertools.combinations(found, 2):
    assert reference.distance(left, right) > 1e-2


def test_orders_are_data():
  """Of runs that are equal in all else."""
  policy, (rate, *_) = sa.Communication(4), RATES
  runs = [Recorded(policy, seed) for seed in (3, 4, 3)]
  assert (runs[0].order != runs[1].order).any()
  begin = server.init(ADAM[rate], toys.init(None), 4)
  together = swept([begin] * 3, runs, rates=[rate] * 3, seeds=[0] * 3)
  together.advance([run.part(PROBLEMS[0]) for run in runs])
  first, other, again = (together.params(i) for i in range(3))
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert reference.distance(first, other) > 1e-4


@pytest.mark.parametrize(
  'case', [(4, 1, 1), (4, 2, 3), (3, 1, 2, False, 3)], ids=str
)
def test_servers_go_on_alone_and_together(case):
  """With what is in flight: by `serve`, and bit for bit in another sweep."""
  policy, cut = sa.Communication(*case), 25
  runs = [Recorded(policy, seed) for seed in SEEDS]
  together = swept(fresh(policy), runs)
  together.advance(parts(runs, ends=[cut] * 3))
  bare = {i: run.servers[cut - 1] for i, run in enumerate(runs)}
  servers = [server for _, server in sorted(together.servers(bare).items())]
  rest = parts(runs, begins=[cut] * 3)
  together.advance(rest)
  again = swept(servers, runs)
  again.advance(rest)
  array = lambda x: jnp.array(x) if isinstance(x, np.ndarray) else x
  copies = [jax.tree.map(array, one) for one in servers]
  found = alone(policy, [run.order[cut:] for run in runs], copies)
  for i, (_, params) in enumerate(found):
    equal = np.testing.assert_array_equal
    jax.tree.map(equal, again.params(i), together.params(i))
    assert_close(together.params(i), params)


def test_a_run_that_ends_or_diverges_leaves_the_others_alone():
  policy, n = sa.Communication(4, 1, 2), float('nan')
  runs = [Recorded(policy, seed) for seed in SEEDS]
  whole, broken = (swept(fresh(policy), runs) for _ in range(2))
  whole.advance(parts(runs))
  broken.advance(parts(runs, ends=[20, 20, 20]))
  ended = jax.tree.map(np.array, broken.params(0))
  nan = [r.part(p, 20) for r, p in zip(runs, PROBLEMS, strict=True)]
  nan[1] = nan[1]._replace(
    batch=lambda i: jax.tree.map(lambda x: x * n, PROBLEMS[1].batch(i))
  )
  nan[0] = runs[0].part(PROBLEMS[0], COUNT)
  first, *_ = broken.advance(nan)
  assert not len(first)
  equal = np.testing.assert_array_equal
  jax.tree.map(equal, broken.params(0), ended)
  jax.tree.map(equal, broken.params(2), whole.params(2))
  assert np.isnan(broken.params(1)['inner']).all()


def test_some_runs_are_kept():
  policy = sa.Communication(4)
  runs = [Recorded(policy, seed) for seed in SEEDS]
  whole, fewer = (swept(fresh(policy), runs) for _ in range(2))
  for one in whole, fewer:
    one.advance(parts(runs, ends=[20] * 3))
  rest = parts(runs, begins=[20] * 3)
  whole.advance(rest)
  fewer.keep([2, 0])
  assert fewer.runs == 2
  fewer.advance([rest[2], rest[0]])
  assert_close(fewer.params(0), whole.params(2))
  assert_close(fewer.params(1), whole.params(0))


def test_a_policy_that_drops_pushes_is_refused():
  """When it updates is then not a matter of the number of pushes."""
  policy = methods.BackupWorkers(4, 2)
  runs = [Recorded(policy, seed) for seed in SEEDS]
  with pytest.raises(ValueError, match='train together runs of one policy'):
    legs.Leg(parts(runs), 9)


def test_nothing_is_compiled_twice():
  """Nor for legs of other lengths."""
  traces = []

  def loss(params, batch, key):
    traces.append(params)
    return noisy(params, batch, key)

  policy = sa.Communication(4)
  runs = [Recorded(policy, seed) for seed in SEEDS]
  together = swept(fresh(policy), runs, loss)
  together.advance(parts(runs, ends=[20, 22, 18]))
  first = len(traces)
  assert first > 0
  together.advance(parts(runs, [20, 22, 18]))
  assert len(traces) == first


def test_any_pytree_is_a_rate():
  """Whatever the optimizer depends on, such as the constants of a schedule."""
  policy, given = sa.Communication(2), {'peak': 0.02, 'b1': 0.5}
  make = lambda rate: optax.adam(rate['peak'], b1=rate['b1'])
  run = Recorded(policy, 3)
  begin = server.init(make(given), toys.init(None), 2)
  rates = [given, given | {'b1': 0.9}]
  together = swept([begin] * 2, [run] * 2, noisy, make, rates, [3, 3])
  together.advance([run.part(PROBLEMS[0])] * 2)
  pool = sa.pools.Virtual(sa.Trace(run.order, np.arange(float(COUNT))))
  origin = PROBLEMS[0]._replace(init=toys.init)
  with pool:
    *_, (_, last) = sa.serve(origin, make(given), policy, pool, 3)
  assert_close(together.params(0), last.params)
  assert reference.distance(together.params(1), last.params) > 1e-2


def test_a_ring_that_is_too_small_is_refused():
  policy = sa.Communication(4)
  run = Recorded(policy, 3)
  begin = server.init(ADAM[RATES[0]], toys.init(None), 4)
  flying = run.servers[20]._replace(
    params=begin.params, optimizer_state=begin.optimizer_state
  )
  assert decisions.span(flying) > 3
  with pytest.raises(ValueError, match='versions=3: .* in flight'):
    sweep.Sweep(noisy, sa.adam, [0.1], [3], [flying], 3, (0, 5))
