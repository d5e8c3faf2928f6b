"""What single methods promise beyond the contract, and what they refuse."""

import functools
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

import stale_adam as sa
from stale_adam import methods
from stale_adam.policy import Arrival

# Workers that keep what they do not send, and where in their memory it is.
KEEPING = {
  'drop_gradients': (methods.drop_gradients(0.75), lambda memory: memory),
  'keep_dropped': (
    methods.keep_dropped(optax.sgd(0.1), 0.75, 7),
    lambda memory: memory.residual,
  ),
  'compress_deeply': (  # Nothing is clipped: exactly 1 times a gradient.
    methods.compress_deeply(4, 0.0, (0.5, 0.01), 9, clip_norm=1e9),
    lambda memory: memory.velocity,
  ),
  'send_signs': (methods.send_signs(), lambda memory: memory),
}
ALL = (methods.drop_gradients(0.0), lambda memory: memory)


@pytest.mark.parametrize('dtype', ['float32', 'float16', 'bfloat16'])
def test_what_is_dropped_is_decided_by_the_exact_quantile(dtype):
  """For any share: the threshold is that of sorting, with equal ones and 0."""
  draw = np.random.default_rng(3)
  drawn = draw.normal(size=300) ** 3
  drawn[:40], drawn[40:80], drawn[80:83] = 0.0, -0.5, 1e-30
  g = {'x': jnp.asarray(drawn, dtype)}
  size = np.abs(np.asarray(g['x'], np.float64))
  for count in (1, 2, 7, 75, 150, 180, 220, 257, 258, 261, 299, 300):
    worker = methods.drop_gradients(1 - count / 300)
    memory = worker.init(g, 0)
    _, sent, memory = worker.compute(lambda *_: (0.0, g), g, None, memory)
    above = size >= np.sort(size)[-count]
    assert sent['x'].dtype == g['x'].dtype
    np.testing.assert_array_equal(sent['x'], np.where(above, g['x'], 0))
    np.testing.assert_array_equal(memory['x'], np.where(above, 0, g['x']))


@pytest.mark.parametrize('name', [*KEEPING, 'all'])
def test_what_is_pushed_is_sent_or_remembered(name):
  """Exactly, in whole numbers: sent + residual = everything pushed.

  Columns of two have means of one or two entries, which are exact in binary.
  """
  draw = np.random.default_rng(0)
  params = {'a': jnp.zeros((2, 10)), 'b': jnp.zeros(2)}
  worker, residual = KEEPING.get(name, ALL)
  memory, sent = worker.init(params, 0), jax.tree.map(np.zeros_like, params)
  pushed, count = sent, lambda t: sum(map(np.count_nonzero, jax.tree.leaves(t)))
  for _ in range(20):
    g = {k: draw.integers(-9, 9, x.shape) for k, x in params.items()}
    g = jax.tree.map(np.float32, g)
    gradient = lambda params, batches, g=g: (jnp.float32(0), g)
    _, message, memory = worker.compute(gradient, params, range(1), memory)
    sent = jax.tree.map(np.add, sent, message)
    pushed = jax.tree.map(np.add, pushed, g)
    total = jax.tree.map(np.add, sent, residual(memory))
    jax.tree.map(np.testing.assert_array_equal, total, pushed)
    assert count(message) >= 1
    assert bool(count(residual(memory))) == (name in KEEPING)


def test_signs_of_columns_of_one_entry_send_all():
  g = {'a': [[0.3, -0.2, 0.0]], 'b': [-7.1], 'scalar': -2.5}
  g = {name: np.float32(x) for name, x in g.items()}
  worker = methods.send_signs()
  gradient = lambda params, batches: (jnp.float32(0), g)
  _, sent, rest = worker.compute(gradient, g, range(1), worker.init(g, 0))
  jax.tree.map(np.testing.assert_array_equal, sent, g)
  assert not any(map(np.any, jax.tree.leaves(rest)))


def test_backup_workers_wait_for_the_first_only():
  """Of three with one backup, by hand: a late push is dropped, then used."""
  policy = methods.BackupWorkers(3)
  ask = lambda worker, staleness, summed, waiting: policy.decide(
    Arrival(worker, staleness, summed, 0, waiting, (0, 0, 0))
  )
  first = ask(2, 0, 0, (2,))
  assert (first.use, first.update, first.reply) == (True, False, ())
  second = ask(0, 0, 1, (0, 2))
  assert (second.use, second.update, second.reply) == (True, True, (0, 2))
  late = ask(1, 1, 0, (1,))
  assert (late.use, late.update, late.reply) == (False, False, (1,))


def test_backup_workers_take_less_time_than_all():
  """Virtual seconds an update fall with every worker not waited for."""
  linear = sa.Problem(
    init=lambda key: jnp.zeros(2),
    loss=lambda params, batch, key: jnp.vdot(params, batch),
    batch=lambda batch_id: np.ones(2, np.float32),
  )
  optimizer, seconds = optax.sgd(0.1), []
  for backups in (0, 1, 2):
    clock = sa.Clock(distribution='gamma', spread=1.0)
    policy = methods.BackupWorkers(4 + backups, backups)
    with sa.pools.Virtual(clock) as pool:
      arrivals = sa.serve(linear, optimizer, policy, pool)
      ends = (p.seconds for p, server in arrivals if server.version == 50)
      seconds.append(next(ends))
  assert seconds == sorted(seconds, reverse=True)
  assert seconds[2] < 0.8 * seconds[0]


def test_the_first_workers_take_the_time_of_the_first():
  """Of N exponential times, the K-th smallest: 1/N + ... + 1/(N - K + 1)."""
  clock = sa.Clock(distribution='gamma', spread=1.0)
  problem = sa.Problem(
    init=lambda key: jnp.zeros(2),
    loss=lambda params, batch, key: jnp.vdot(params, batch),
    batch=lambda batch_id: np.ones(2, np.float32),
  )
  updates = 500
  for first in (1, 3):
    policy = methods.FirstWorkers(4, first)
    with sa.pools.Virtual(clock) as pool:
      arrivals = sa.serve(problem, optax.sgd(0.1), policy, pool)
      pushes = [*itertools.islice((p for p, _ in arrivals), updates * first)]
    assert {p.staleness for p in pushes} == {0}
    ids = [i for p in pushes for i in p.ids]
    assert len({*ids}) == len(ids)
    mean = sum(1 / (4 - i) for i in range(first))
    error = mean / np.sqrt(updates)
    assert abs(pushes[-1].seconds / updates - mean) < 4 * error


def test_a_restarted_thread_goes_on_with_its_newest_work():
  """Not with all that it has abandoned, which would never end."""
  begun, policy = [], methods.FirstWorkers(3, 2)
  steady = sa.worker.Worker(
    lambda params, worker: jnp.int32(worker), functools.partial(_late, begun)
  )
  with sa.pools.Threads(jax.devices()[:3]) as pool:
    arrivals = sa.serve(
      *(toys.PROBLEM, optax.sgd(0.1), policy, pool), worker=steady
    )
    pushes = [push for push, _ in itertools.islice(arrivals, 200)]
  restarts = sum(push.restarted for push in pushes)
  assert restarts == 100
  assert len(begun) < restarts / 2


def _late(begun, gradient, params, batches, memory):
  """Worker 2 takes a while."""
  found = *gradient(params, batches), memory
  if int(memory) == 2:
    begun.append(len(begun))
    time.sleep(0.1)
  return found


def test_nobody_gets_further_ahead_than_the_slack():
  clock = sa.Clock(speeds=(5.0, 1.0, 1.0))
  for slack in (0, 2):
    with sa.pools.Virtual(clock) as pool:
      arrivals = sa.serve(
        *(toys.PROBLEM, optax.sgd(0.1)),
        *(methods.StaleSynchronous(3, slack), pool),
      )
      leads = [
        max(server.pushes) - min(server.pushes)
        for _, server in itertools.islice(arrivals, 40)
      ]
    assert max(leads) == slack + 1


def test_quantising_has_no_bias_and_few_levels():
  """Ten thousand roundings of one gradient, against four standard errors."""
  g = {'a': jnp.array([[0.3, -0.2], [0.05, 0.0]]), 'b': jnp.array([2.0, -1.0])}
  worker = methods.quantise(4, bucket=4)
  gradient = lambda params, batches: (jnp.float32(0), g)

  def push(memory, _):
    _, sent, memory = worker.compute(gradient, g, range(1), memory)
    return memory, sent

  _, sent = jax.lax.scan(push, worker.init(g, 1), length=10_000)
  for name, found in sent.items():
    norm = np.linalg.norm(g[name])
    whole = np.asarray(found) * 4 / norm
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-5)
    error = 4 * np.std(found, axis=0) / 100 + 1e-6
    assert (abs(found.mean(axis=0) - g[name]) < error).all()


def about(worker=0):
  """What a transformation of pushes is told besides gradient and parameters."""
  return {'worker': jnp.int32(worker), 'staleness': jnp.int32(0)}


def test_sums_of_narrow_gradients_do_not_stop():
  """In bfloat16 256 + 1 is 256, and 0.999 is 1."""
  x = {'a': jnp.zeros(3, 'bfloat16')}
  one = {'a': jnp.ones(3, 'bfloat16')}
  revise = methods.adaptive_revision(0.1, 1)['per_push']
  reduce = methods.reduce_by_gap(0.999)
  mean = methods.average_workers(300)
  pushed = lambda method: jax.jit(
    lambda state, params, worker: method.update(
      one, state, params, pulled=x, **about(worker)
    )
  )
  push, revised = pushed(revise), revise.init(x)
  for _ in range(300):
    message, revised = push(revised, x, 0)
  assert message['a'].dtype == jnp.bfloat16
  assert revised.shared[0]['a'].tolist() == [300.0] * 3
  push = pushed(reduce)
  _, moved = push(reduce.init(x), one, 0)
  _, back = push(moved, x, 0)
  np.testing.assert_allclose(moved.square['a'], 0.001, rtol=1e-5)
  np.testing.assert_allclose(back.square['a'], 0.001999, rtol=1e-5)
  push, table = pushed(mean), mean.init(x)
  for worker in range(300):
    message, table = push(table, x, worker)
  np.testing.assert_array_equal(message['a'], 1.0)


def test_narrow_gradients_are_quantised_without_bias():
  g = {'a': jnp.full(512, 0.01, 'bfloat16')}
  worker = methods.quantise(4)
  gradient = lambda params, batches: (jnp.float32(0), g)

  def push(memory, _):
    _, sent, memory = worker.compute(gradient, g, range(1), memory)
    return memory, sent['a']

  _, sent = jax.lax.scan(push, worker.init(g, 0), length=100)
  assert sent.dtype == jnp.bfloat16
  wanted = float(g['a'][0])
  error = float(jnp.std(sent.astype(jnp.float32))) / sent.size**0.5
  assert abs(sent.astype(jnp.float32).mean() - wanted) < 4 * error


def test_torn_reads_mix_two_versions_leaf_by_leaf():
  params = {'a': jnp.zeros(2), 'b': jnp.zeros(3), 'c': jnp.zeros(1)}
  new = jax.tree.map(jnp.ones_like, params)
  reply = methods.torn_reads(3, seed=1)
  seen = set()
  for version in range(60):
    visible = sa.server.Visible(params, new, (), (), jnp.int32(version))
    read = reply(visible, jnp.int32(version % 4))
    assert all(len({*leaf.tolist()}) == 1 for leaf in read.values())
    seen.add(tuple(leaf[0].item() for leaf in read.values()))
  assert seen == {(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)}


# A matrix of 20 rows and 30 columns, and a vector of 400: 1,000 elements.
FORM = {'a': jnp.zeros((20, 30)), 'b': jnp.zeros(400)}
SIZES = [
  (methods.drop_gradients(0.99), [10 * 8]),  # A value and an index each.
  (methods.keep_dropped(optax.sgd(0.1)), [10 * 8]),
  (methods.drop_gradients(0.0), [4000]),  # Whole, not with an index each.
  (methods.compress_deeply(2, 0.9, (0.1, 0.01), 2), [800, 800, 80, 80]),
  (methods.send_signs(), [125 + 30 * 8 + 8]),
  (methods.quantise(15, bucket=512), [1000 * 5 // 8 + 3 * 4]),
  (methods.local_updates(optax.sgd(0.1)), [4000]),
]


@pytest.mark.parametrize('worker, wanted', SIZES)
def test_a_push_takes_the_bytes_of_what_is_sent(worker, wanted):
  """By hand; and the clock's push takes its share of a whole gradient's."""
  zero = lambda params, batch, key: sum(x.sum() for x in params.values())
  problem = sa.Problem(lambda key: FORM, zero, lambda batch_id: batch_id)
  clock = sa.Clock(1.0, push_seconds=8.0, pull_seconds=2.0)
  policy = sa.Communication(1)
  with sa.pools.Virtual(clock) as pool:
    arrivals = sa.serve(problem, optax.sgd(0.0), policy, pool, worker=worker)
    pushes = [push for push, _ in itertools.islice(arrivals, len(wanted))]
  assert [push.nbytes for push in pushes] == wanted
  assert sa.Trace.of(pushes).columns['nbytes'].tolist() == wanted
  ages = [3 + 8 * nbytes / 4000 for nbytes in wanted]
  assert [push.age_seconds for push in pushes] == pytest.approx(ages)


def test_scaling_before_adam_hides_what_is_constant():
  """All pushes 3 updates late: before Adam no change, after it a third."""
  gradients = np.random.default_rng(1).normal(size=(30, 4))
  adam = sa.adam(0.01, eps=1e-30)
  before = optax.chain(methods.scale_by_staleness(), adam)
  after = optax.chain(adam, methods.scale_by_staleness())

  def train(optimizer, staleness):
    params, state = jnp.zeros(4), optimizer.init(jnp.zeros(4))
    for g in gradients.astype(np.float32):
      updates, state = optimizer.update(g, state, params, staleness=staleness)
      params = optax.apply_updates(params, updates)
    return params

  plain = train(before, 0)
  np.testing.assert_allclose(train(before, 3), plain, rtol=1e-4)
  np.testing.assert_allclose(train(after, 3), plain / 3, rtol=1e-5)


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: methods.BackupWorkers(4, 4), 'backups=4: .* fewer'),
    (lambda: methods.BackupWorkers(4, -1), 'backups=-1: .* 0 or more'),
    (lambda: methods.BackupWorkers(4.5), 'workers=4.5: .* from 1 to 65536'),
    (lambda: methods.DropStale(4, -1), 'threshold=-1: .* 0 or more'),
    (lambda: methods.FirstWorkers(4, 5), 'first=5: .* from 1 to 4'),
    (lambda: methods.FreshPushes(4, 0), 'pushes=0: .* from 1 to 65536'),
    (lambda: methods.FirstToFinish(4, 5), 'first=5: .* from 1 to 4'),
    (lambda: methods.FirstToFinish(4, ((2, 1),)), 'versions ascend from 0'),
    (lambda: methods.FirstToFinish(4, ()), 'versions ascend from 0'),
    (lambda: methods.StaleSynchronous(4, -1), 'slack=-1: .* 0 or more'),
    (lambda: methods.OneRoundLate(1), 'workers=1: .* from 2 to 65536'),
    (lambda: methods.weight_by_staleness('x'), "kind='x': use one of"),
    (lambda: methods.weight_by_staleness(a=-1.0), 'a=-1.0: use a finite'),
    (lambda: methods.adapt_to_delay(0), 'workers=0'),
    (lambda: methods.correct_rate(0), 'length=0'),
    (lambda: methods.scale_by_distance(0.0), 'limit=0.0: .* above 0'),
    (lambda: methods.fadas(0.1, -1), 'tolerated=-1'),
    (lambda: methods.reduce_by_gap(1.0), r'decay=1.0: .*\[0, 1\)'),
    (lambda: methods.average_workers(0), 'workers=0'),
    (lambda: methods.dana(0.1, 4, 1.5), 'momentum=1.5: .* at most 1'),
    (lambda: methods.elastic_average(4, 2.0), 'moving=2.0: .* at most 1'),
    (lambda: methods.adaptive_revision(0.0, 4), 'learning_rate=0.0'),
    (lambda: methods.delayed_nesterov(0.1, 4, share=0.5), 'share=0.5: .* 0.25'),
    (lambda: methods.smega2(0.1, 0), 'workers=0'),
    (lambda: methods.local_updates(optax.sgd(0.1), 'x'), "push='x': use one"),
    (
      lambda: methods.mix_models(optax.sgd(0.1), 1.5),
      'share=1.5: .* at most 1',
    ),
    (lambda: methods.compress_deeply(4, densities=()), 'densities=.*name one'),
    (
      lambda: methods.compress_deeply(4, densities=(0.0,)),
      'density=0.0: .*above',
    ),
    (lambda: methods.quantise(0), 'levels=0'),
    (lambda: methods.quantise(4, 0), 'bucket=0'),
    (lambda: methods.torn_reads(0), 'shards=0'),
    (lambda: methods.stagger_pulls(optax.sgd(0.1), 4, 0), 'pull_every=0'),
    (lambda: methods.drop_gradients(1.0), r'rate=1.0: .* \[0, 1\)'),
    (lambda: methods.keep_dropped(optax.sgd(0.1), 1.0), r'rate=1.0'),
    (lambda: methods.compensate_delay(-1.0), 'strength=-1.0: use 0 or more'),
    (lambda: methods.compensate_delay(1.0, 1.0), r'decay=1.0: .*\[0, 1\)'),
    (lambda: methods.predict_weights(0.1, -1), 'staleness=-1 counts updates'),
  ],
)
def test_what_makes_no_sense_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_prediction_needs_adam(linear):
  reply = methods.predict_weights(0.1, 1)
  with (
    sa.pools.Virtual() as pool,
    pytest.raises(
      ValueError, match='has 0 states of the kind ScaleByAdamState'
    ),
  ):
    next(
      sa.serve(
        *(linear, optax.sgd(0.1), sa.Communication(2), pool), reply=reply
      )
    )


@pytest.mark.slow
def test_methods_combine(toy):
  """A worker, a transformation of pushes and a reply in one run."""
  ours = {
    'per_push': optax.chain(
      methods.compensate_delay(), methods.scale_by_staleness()
    ),
    'worker': methods.drop_gradients(0.5),
    'reply': methods.predict_weights(0.02, 3),
  }
  optimizer, policy = sa.adam(0.02), methods.BackupWorkers(4)
  clock = sa.Clock(distribution='gamma', spread=0.5)
  with sa.pools.Virtual(clock) as pool:
    arrivals = sa.serve(toy, optimizer, policy, pool, **ours)
    pushes, servers = zip(*itertools.islice(arrivals, 40), strict=True)
  found = sa.simulate(
    *(toy, optimizer, policy, sa.Trace.of(pushes)),
    devices=jax.devices()[:1],
    **ours,
  )
  jax.tree.map(np.testing.assert_array_equal, found.params, servers[-1].params)


@pytest.mark.parametrize(
  'compute, message',
  [
    (lambda g, p, b, m: g(p, b), 'returned 2 values'),
    (lambda g, p, b, m: (jnp.float32(0), {'a': 1.0 * p['inner']}, m), 'shapes'),
    (
      lambda g, p, b, m: (
        jnp.float32(0),
        jax.tree.map(lambda x: x.astype('bfloat16'), p),
        m,
      ),
      'bfloat16',
    ),
  ],
  ids=['two', 'structure', 'dtype'],
)
def test_a_message_is_as_the_parameters(toy, compute, message):
  broken = sa.worker.Worker(lambda params, worker: None, compute)
  for pool in (sa.pools.Virtual, sa.pools.Threads):
    with pool() as made, pytest.raises(ValueError, match=message):
      policy = sa.Communication(2)
      next(sa.serve(toy, optax.sgd(0.1), policy, made, worker=broken))


@pytest.mark.slow
def test_a_message_may_be_the_memory_or_the_parameters(toy):
  """The server reuses a message's memory, and never that of what is kept."""
  accumulate = jax.jit(lambda g, m: jax.tree.map(jnp.add, g, m))

  def compute(gradient, params, batches, memory):
    loss, found = gradient(params, batches)
    memory = accumulate(found, memory)
    return loss, memory, memory

  zeros = lambda params, worker: jax.tree.map(jnp.zeros_like, params)
  whole = lambda gradient, params, batches, memory: (
    jnp.float32(0),
    params,
    memory,
  )
  optimizer, policy = optax.sgd(0.01), sa.Communication(3)
  for worker in (
    sa.worker.Worker(zeros, compute),
    sa.worker.Worker(zeros, whole),
    sa.worker.Worker(lambda params, worker: params, compute),
  ):
    with sa.pools.Virtual() as pool:
      arrivals = sa.serve(toy, optimizer, policy, pool, worker=worker)
      pushes, servers = zip(*itertools.islice(arrivals, 20), strict=True)
    order = [push.worker for push in pushes]
    found = sa.simulate(
      *(toy, optimizer, policy, order),
      devices=jax.devices()[:1],
      worker=worker,
    )
    last = servers[-1].params
    jax.tree.map(np.testing.assert_array_equal, found.params, last)
