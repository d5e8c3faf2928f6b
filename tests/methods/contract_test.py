"""One contract for every method: a new one is a row here, and inherits it all.

Each is held against NumPy (reference.py), under `serve` on an uneven virtual
clock and on host threads, and against `simulate`, bit for bit; and it is taken
up again with work in flight.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
import reference
import rules
import toys

import stale_adam as sa
from stale_adam import methods

RATE, COUNT = 0.02, 60
TOLERANCE = 1e-5  # float32 against float64 over some Adam updates.
ADAM, SGD = sa.adam(RATE), optax.sgd(0.05)
ONE = jax.devices()[:1]
CLOCK = sa.Clock(0.9, 0.1, 0.2, 0.15, 'normal', 0.5, (1.0, 2.0, 0.7), seed=4)
PLAIN = (sa.Communication(4), sa.Communication(4, 2, 3))


@dataclasses.dataclass(frozen=True)
class Method:
  """A method, and the same in NumPy.

  Attributes:
    ours: arguments of `serve` and `simulate`.
    theirs: arguments of `reference.train`; a factory where it has state.
    policies: to try it with, and the reference's `decide` of each.
    optimizer: ours; `reference` makes the other.
  """

  ours: dict[str, Any]
  theirs: Callable[[], dict[str, Any]] = dict
  policies: tuple[Any, ...] = PLAIN
  optimizer: Any = ADAM
  reference: Callable[[], Any] = lambda: reference.Adam(lambda update: RATE)


def draws(seed, bucket):
  """The uniform numbers of `quantise`, for the reference."""

  def of(who, push):
    key = jax.random.fold_in(jax.random.PRNGKey(seed), who)
    for _ in range(push + 1):
      key, own = jax.random.split(key)
    leaves, structure = jax.tree.flatten(toys.init(None))
    keys = jax.random.split(own, len(leaves))
    pairs = zip(leaves, keys, strict=True)
    shape = lambda x: (-(-x.size // bucket), bucket)
    drawn = [jax.random.uniform(k, shape(x), x.dtype) for x, k in pairs]
    return jax.tree.unflatten(structure, [np.float64(x) for x in drawn])

  return of


def newer(seed, shards):
  """What `torn_reads` reads of the newest version, for the reference."""

  def of(version, who):
    key = jax.random.key(seed)
    for number in (version, who):
      key = jax.random.fold_in(key, number)
    drawn = jax.random.bernoulli(key, shape=(shards,))
    return [False, *np.asarray(drawn)[1:].tolist()]

  return of


warm = sa.inverse_sqrt(RATE, 10)
sgd = lambda rate=0.05: {
  'optimizer': optax.sgd(rate),
  'reference': lambda: reference.Sgd(rate),
}
adam = lambda: reference.Adam(lambda update: RATE)
mean = lambda ages: np.mean(ages)
after = lambda method, scale: Method(
  {},
  optimizer=optax.chain(ADAM, method),
  reference=lambda: reference.Scaled(adam(), scale),
)
alone = lambda *policies: Method({}, policies=policies)


def bundle(arguments, theirs=dict, reference=None, policies=PLAIN):
  """A row of a method that brings its optimizer along."""
  ours = {k: x for k, x in arguments.items() if k != 'optimizer'}
  return Method(ours, theirs, policies, arguments['optimizer'], reference)


ONES = (sa.Communication(4), sa.Communication(3, 2))  # A push per update.
ROUNDS = (sa.Communication(4, 2, synchronous=True), sa.Communication(3, 2, 2))
METHODS = {
  'none': Method({}),
  'BackupWorkers': alone(
    methods.BackupWorkers(4), methods.BackupWorkers(6, 2, local_accumulation=2)
  ),
  'DropStale': alone(methods.DropStale(4, 2), methods.DropStale(4, 3, 2)),
  'DropStale, Rennala': alone(
    methods.DropStale(4, 0, 4), methods.DropStale(3, 0, 2)
  ),
  'FirstWorkers': alone(
    methods.FirstWorkers(4, 2), methods.FirstWorkers(3, 2, local_accumulation=2)
  ),
  'FreshPushes': alone(
    methods.FreshPushes(4, 3), methods.FreshPushes(3, 2, local_accumulation=2)
  ),
  'FirstToFinish': alone(
    methods.FirstToFinish(4, 2),
    methods.FirstToFinish(4, ((0, 1), (5, 3), (12, 4))),
  ),
  'StaleSynchronous': alone(
    methods.StaleSynchronous(3, 1),
    methods.StaleSynchronous(4, 0, local_accumulation=2),
  ),
  'OneRoundLate': alone(
    methods.OneRoundLate(4), methods.OneRoundLate(3, local_accumulation=2)
  ),
  'scale_by_staleness, pushes': Method(
    {'per_push': methods.scale_by_staleness()},
    rules.weighted(lambda tau: 1 / max(1, tau)),
    **sgd(),
  ),
  'scale_by_staleness, after Adam': after(
    methods.scale_by_staleness(), lambda ages, u: 1 / max(1, mean(ages))
  ),
  'weight_by_staleness, polynomial': Method(
    {'per_push': methods.weight_by_staleness()},
    rules.weighted(lambda tau: (1 + tau) ** -0.5),
    **sgd(),
  ),
  'weight_by_staleness, hinge': Method(
    {'per_push': methods.weight_by_staleness('hinge', 2.0, 1.5)},
    rules.weighted(lambda t: 1 / (2 * (t - 1.5) + 1) if t > 1.5 else 1),
    **sgd(),
  ),
  'weight_by_staleness, exponential': after(
    methods.weight_by_staleness('exponential', 0.3),
    lambda ages, u: np.exp(-0.3 * mean(ages)),
  ),
  'adapt_to_delay': after(
    methods.adapt_to_delay(2), lambda ages, u: 2 / max(2, mean(ages))
  ),
  'correct_rate': after(
    methods.correct_rate(20),
    lambda ages, u: max(1, mean(ages)) ** (min(u / 20, 1) - 1),
  ),
  'scale_by_distance': Method(
    {'per_push': methods.scale_by_distance(0.001)},
    lambda: rules.near(0.001),
    **sgd(),
  ),
  'average_pushes': Method(
    {},
    policies=(PLAIN[1], sa.Communication(3, synchronous=True)),
    optimizer=optax.chain(methods.average_pushes(), optax.sgd(0.1)),
    reference=lambda: rules.averaged(reference.Sgd(0.1)),
  ),
  'fadas': Method(
    {},
    optimizer=methods.fadas(RATE, b2=0.98, eps=1e-9),
    reference=lambda: rules.fadas(RATE, 1),
  ),
  'compensate_delay, constant': Method(
    {'per_push': methods.compensate_delay(0.5)},
    rules.compensated(0.5),
    **sgd(),
  ),
  'compensate_delay, adaptive': Method(
    {'per_push': methods.compensate_delay(2.0, 0.95)},
    rules.compensated(2.0, 0.95),
  ),
  'reduce_by_gap': Method(
    {'per_push': methods.reduce_by_gap(0.9)}, rules.gap(0.9), **sgd()
  ),
  'average_workers': Method(
    {'per_push': methods.average_workers(4)}, rules.last_pushes(4), **sgd()
  ),
  'dana': bundle(
    methods.dana(0.05, 4, 0.6),
    rules.dana(0.05, 0.6),
    lambda: reference.Sgd(0.05),
  ),
  'elastic_average': bundle(
    methods.elastic_average(4, 0.3)
    | {'worker': methods.local_updates(optax.sgd(0.1))},
    rules.elastic(0.3, 0.1),
    lambda: reference.Sgd(1.0),
    (sa.Communication(4, 2), sa.Communication(4, 1, 2)),
  ),
  'adaptive_revision': bundle(
    methods.adaptive_revision(0.1, 4),
    rules.revised(0.1),
    lambda: reference.Sgd(1.0),
    (PLAIN[0], sa.Communication(4, 2)),
  ),
  'delayed_nesterov': Method(
    {},
    policies=ONES,
    optimizer=methods.delayed_nesterov(0.1, 4, 0.8, 0.1),
    reference=lambda: rules.DelayedNesterov(0.1, 4, 0.8, 0.1),
  ),
  'smega2': bundle(
    methods.smega2(0.05, 4, 0.5),
    lambda: {'reply': lambda params, own, *_: own.reply(params)},
    lambda: rules.Smega(0.05, 4, 0.5),
    ONES,
  ),
  'drop_gradients': Method(
    {'worker': methods.drop_gradients(0.7)},
    lambda: {'worker': rules.dropped(0.7)},
    **sgd(),
  ),
  'keep_dropped': Method(
    {'worker': methods.keep_dropped(optax.sgd(0.1), 0.7, 4)},
    lambda: {'local_worker': rules.kept(0.7, lambda: reference.Sgd(0.1), 4)},
    **sgd(),
  ),
  'compress_deeply': Method(
    {'worker': methods.compress_deeply(4, 0.5, (0.7, 0.3), 5, 0.4)},
    lambda: {'worker': rules.deep(4, 0.5, (0.7, 0.3), 5, 0.4)},
    **sgd(),
  ),
  'send_signs': Method(
    {'worker': methods.send_signs()},
    lambda: {'worker': rules.signs},
    **sgd(),
  ),
  'quantise': Method(
    {'worker': methods.quantise(3, bucket=4, seed=5)},
    lambda: {'worker': rules.quantised(3, 4, draws(5, 4))},
    **sgd(),
  ),
  'local_updates, change': Method(
    {'worker': methods.local_updates(optax.sgd(0.1))},
    lambda: {'local_worker': rules.walked(lambda: reference.Sgd(0.1))},
    policies=(sa.Communication(4, 3), PLAIN[1]),
    **sgd(),
  ),
  'local_updates, gradients': Method(
    {'worker': methods.local_updates(ADAM, 'gradients')},
    lambda: {'local_worker': rules.walked(adam, 'gradients')},
    policies=(PLAIN[1], sa.Communication(3, 3)),
  ),
  'average_models': bundle(
    methods.average_models(optax.sgd(0.1)),
    lambda: {'local_worker': rules.walked(lambda: reference.Sgd(0.1))},
    lambda: rules.averaged(reference.Sgd(1.0)),
    ROUNDS,
  ),
  'diloco': bundle(
    methods.diloco(ADAM, 0.5, 0.6),
    lambda: {'local_worker': rules.walked(adam)},
    lambda: rules.averaged(rules.Nesterov(0.5, 0.6)),
    ROUNDS,
  ),
  'buffered_averaging': bundle(
    methods.buffered_averaging(optax.sgd(0.1), 0.5),
    lambda: {
      'local_worker': rules.walked(lambda: reference.Sgd(0.1)),
      **rules.weighted(lambda tau: (1 + tau) ** -0.5)(),
    },
    lambda: rules.averaged(reference.Sgd(0.5)),
    (PLAIN[1], sa.Communication(3, 1, 2)),
  ),
  'mix_models': bundle(
    methods.mix_models(optax.sgd(0.1), 0.6),
    lambda: {
      'local_worker': rules.walked(lambda: reference.Sgd(0.1)),
      'per_push': rules.mixed(0.6, lambda tau: (1 + tau) ** -0.5),
    },
    lambda: reference.Sgd(1.0),
    ONES,
  ),
  'downpour': bundle(
    methods.downpour(optax.sgd(0.1), 0.05),
    lambda: {
      'local_worker': rules.walked(lambda: reference.Sgd(0.1), 'gradients')
    },
    lambda: rules.Adagrad(0.05),
    (PLAIN[1], PLAIN[0]),
  ),
  'worker_adam': bundle(
    methods.worker_adam(ADAM),
    lambda: {'local_worker': rules.walked(adam)},
    lambda: reference.Sgd(1.0),
    ONES,
  ),
  'softsync': Method(
    {},
    policies=(
      methods.softsync(SGD, 4, 2)['policy'],
      methods.softsync(SGD, 5, 2, 2)['policy'],
    ),
    optimizer=methods.softsync(optax.sgd(0.1), 4, 2)['optimizer'],
    reference=lambda: rules.averaged(reference.Sgd(0.05)),
  ),
  'apply_own_push': Method(
    {'worker': methods.apply_own_push(ADAM)},
    lambda: {'local_worker': rules.own_push(adam)},
    policies=(PLAIN[1], methods.OneRoundLate(3)),
  ),
  'stagger_pulls': bundle(
    methods.stagger_pulls(ADAM, 3, 4),
    lambda: {'reply': rules.staggered(4, (0, 1, 2))},
    adam,
    (
      sa.Communication(3, synchronous=True, pull_every=4),
      sa.Communication(3, 2, synchronous=True),
    ),
  ),
  'torn_reads': Method(
    {'reply': methods.torn_reads(2, seed=3)},
    lambda: {'reply': rules.torn(2, newer(3, 2))},
    policies=(sa.Communication(4, pull_every=3), methods.OneRoundLate(3)),
  ),
  'predict_weights': Method(
    {'reply': methods.predict_weights(warm, 2.5)},
    lambda: {'reply': rules.predicted(2.5)},
    policies=(*PLAIN, sa.Communication(3, pull_every=3)),
    optimizer=sa.adam(warm),
    reference=lambda: reference.Adam(
      lambda u: RATE * min(1, u / 10) * min(1, np.sqrt(10 / u))
    ),
  ),
}


def cases(*which):
  """Every method with its policies at these places; with all by default."""
  return [
    pytest.param(method, method.policies[i], id=f'{name}, {i}')
    for name, method in METHODS.items()
    for i in sorted({x % len(method.policies) for x in which or range(9)})
  ]


def decide(policy):
  made = {
    sa.Communication: rules.plain,
    methods.BackupWorkers: rules.backup,
    methods.DropStale: rules.drop_stale,
    methods.FirstWorkers: rules.first_workers,
    methods.FreshPushes: rules.fresh_pushes,
    methods.FirstToFinish: rules.first_to_finish,
    methods.StaleSynchronous: rules.stale_synchronous,
    methods.OneRoundLate: rules.one_round_late,
  }
  return made[type(policy)](policy)


def never_stale(policy):
  fresh = isinstance(policy, methods.FirstWorkers | methods.FreshPushes)
  return fresh or getattr(policy, 'synchronous', False)


def run(method, policy, pool, count=COUNT, resume=None):
  with pool:
    arrivals = sa.serve(
      *(toys.PROBLEM, method.optimizer, policy, pool),
      resume=resume,
      **method.ours,
    )
    return zip(*itertools.islice(arrivals, count), strict=True)


def simulate(method, policy, trace, **more):
  return sa.simulate(
    *(toys.PROBLEM, method.optimizer, policy, trace),
    devices=ONE,
    **method.ours,
    **more,
  )


def equal(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


def test_every_method_has_a_row():
  rows = {name.split(',')[0] for name in METHODS} - {'none'}
  assert rows == {*methods.__all__}


@pytest.mark.slow
@pytest.mark.parametrize('method, policy', cases())
def test_every_version_is_the_references(method, policy):
  pushes, servers = run(method, policy, sa.pools.Virtual(CLOCK))
  versions, staleness, used = reference.train(
    method.reference(),
    [push.worker for push in pushes],
    policy.workers,
    decide(policy),
    policy.local_accumulation,
    **method.theirs(),
  )
  assert [push.staleness for push in pushes] == staleness
  assert [push.used for push in pushes] == used
  assert max(staleness) > 0 or never_stale(policy)
  for server in servers:
    wanted = versions[server.version]
    assert reference.distance(server.params, wanted) < TOLERANCE


def replays(method, policy, pool):
  pushes, servers = run(method, policy, pool)
  trace = sa.Trace.of(pushes)
  found = simulate(method, policy, trace)
  equal(found.params, servers[-1].params)
  equal(found.loss, np.array([push.loss for push in pushes]))
  assert found.staleness.tolist() == [push.staleness for push in pushes]
  assert found.used.tolist() == [push.used for push in pushes]
  again, last = run(method, policy, sa.pools.Virtual(trace), 2 * COUNT)
  equal(last[-1].params, servers[-1].params)
  assert len(again) == COUNT


@pytest.mark.slow
@pytest.mark.parametrize('method, policy', cases(0))
def test_a_trace_of_the_clock_replays_bit_for_bit(method, policy):
  replays(method, policy, sa.pools.Virtual(CLOCK))


@pytest.mark.slow
@pytest.mark.parametrize('method, policy', cases(-1))
def test_a_trace_of_threads_replays_bit_for_bit(method, policy):
  replays(method, policy, sa.pools.Threads())


@pytest.mark.slow
@pytest.mark.parametrize('method, policy', cases(-1))
def test_it_continues_with_work_in_flight(method, policy):
  """Bit for bit, from the Server alone: what is in flight is computed again."""
  pushes, servers = run(method, policy, sa.pools.Virtual(CLOCK))
  order = np.array([push.worker for push in pushes])
  half = COUNT // 2
  # The server is consumed as it goes on: it is taken where a run ended.
  first = sa.Trace(order[:half], np.arange(float(half)))
  _, begun = run(method, policy, sa.pools.Virtual(first), half)
  assert begun[-1].held
  rest = sa.Trace(order[half:], np.arange(float(COUNT - half)))
  later, ended = run(
    method, policy, sa.pools.Virtual(rest), COUNT, resume=begun[-1]
  )
  equal(ended[-1].params, servers[-1].params)
  equal([p.loss for p in later], [p.loss for p in pushes[half:]])
  assert [p.staleness for p in later] == [p.staleness for p in pushes[half:]]


@dataclasses.dataclass(frozen=True)
class Law:
  """A method that does what something simpler does, with the same arrivals."""

  ours: dict[str, Any]
  policy: Any
  base: Any
  optimizer: Any = ADAM  # Unless ours has one.
  other: Any = None  # The base's; by default the same.
  order: Any = tuple(itertools.islice(itertools.cycle(range(4)), 40))
  ages: Any = None  # Staleness; by default the base's.
  params: bool = True  # Not where workers alone see the base's parameters.


PLAIN4 = sa.Communication(4)
SYNCHRONOUS = sa.Communication(4, synchronous=True)
ALONE, ONLY = sa.Communication(1), (0,) * 20
nesterov = lambda mu: optax.sgd(0.05, mu, nesterov=True)
# x - a g / sqrt(1 + sum of g^2).
adagrad = optax.adagrad(0.1, initial_accumulator_value=1.0, eps=1e-12)
of_push = lambda method: Law({'per_push': method}, PLAIN4, PLAIN4)
of_fresh = lambda method: Law({'per_push': method}, SYNCHRONOUS, SYNCHRONOUS)
of_worker = lambda method: Law(
  {'worker': method}, sa.Communication(4, 2), sa.Communication(4, 2), SGD
)
of_one = lambda ours, other, **more: Law(
  *(ours, ALONE, ALONE, None, other, ONLY), **more
)


def of_softsync(splits, base, other):
  ours = methods.softsync(SGD, 4, splits)
  return Law({}, ours['policy'], base, ours['optimizer'], other)


LAWS = {
  'no backup worker is synchronous': Law(
    {}, methods.BackupWorkers(4, 0), SYNCHRONOUS
  ),
  'dropping no push is asynchronous': Law({}, methods.DropStale(4, 3), PLAIN4),
  'dropping all stale pushes of one worker is nothing': Law(
    {}, methods.DropStale(1, 0, 2), sa.Communication(1, 1, 2), order=ONLY
  ),
  'the first of all workers are all': Law(
    {}, methods.FirstWorkers(4, 4), SYNCHRONOUS
  ),
  'the first of all to finish are all': Law(
    {}, methods.FirstToFinish(4, 4), SYNCHRONOUS
  ),
  'the first to finish alone is asynchronous': Law(
    {}, methods.FirstToFinish(4, 1), PLAIN4
  ),
  'fresh pushes of one worker are summed': Law(
    {}, methods.FreshPushes(1, 3), sa.Communication(1, 1, 3), order=ONLY
  ),
  'slack without end is asynchronous': Law(
    {}, methods.StaleSynchronous(4, 99), PLAIN4, order=(0, 1, 1, 2, 3, 1, 1) * 6
  ),
  'without slack rounds are synchronous': Law(
    *({}, methods.StaleSynchronous(4, 0), SYNCHRONOUS, SGD),
    ages=(0, 1, 2, 3) * 10,  # Every push is an update, on its own.
  ),
  'no staleness scales nothing': of_fresh(methods.scale_by_staleness()),
  'no staleness divides no rate': Law(
    *({}, SYNCHRONOUS, SYNCHRONOUS),
    optax.chain(ADAM, methods.scale_by_staleness()),
    ADAM,
  ),
  'no power weights nothing': of_push(methods.weight_by_staleness(a=0.0)),
  'below a hinge nothing is weighted': of_push(
    methods.weight_by_staleness('hinge', b=3.0)
  ),
  'the usual delay lowers no rate': Law(
    *({}, PLAIN4, PLAIN4),
    optax.chain(ADAM, methods.adapt_to_delay(4)),
    ADAM,
  ),
  'a rate is corrected at first only': Law(
    *({}, SYNCHRONOUS, SYNCHRONOUS),
    optax.chain(ADAM, methods.correct_rate(5)),
    ADAM,
  ),
  'within the limit distance scales nothing': of_push(
    methods.scale_by_distance(1e9)
  ),
  'the mean of one push is the push': Law(
    *({}, PLAIN4, PLAIN4),
    optax.chain(methods.average_pushes(), SGD),
    SGD,
  ),
  'FADAS of one worker is AMSGrad': of_one(
    {'optimizer': methods.fadas(RATE)}, optax.amsgrad(RATE, b2=0.99)
  ),
  'no staleness needs no compensation': of_fresh(
    methods.compensate_delay(2.0, 0.95)
  ),
  'no strength compensates nothing': of_push(methods.compensate_delay(0.0)),
  'without a gap nothing is reduced': of_fresh(methods.reduce_by_gap()),
  'the mean of one worker is its push': dataclasses.replace(
    of_one({'per_push': methods.average_workers(1)}, SGD), optimizer=SGD
  ),
  'DANA of one worker is Nesterov': of_one(
    methods.dana(0.05, 1, 0.6), nesterov(0.6), params=False
  ),
  'delayed Nesterov of one worker is Nesterov': of_one(
    {'optimizer': methods.delayed_nesterov(0.05, 1, 0.6)}, nesterov(0.6)
  ),
  'SMEGA of one worker is Nesterov': of_one(
    methods.smega2(0.05, 1, 0.6), nesterov(0.6), params=False
  ),
  'adaptive revision of one worker is Adagrad': of_one(
    methods.adaptive_revision(0.1, 1), adagrad
  ),
  'elastic averaging of one worker is half as fast': of_one(
    methods.elastic_average(1, 0.5)
    | {'worker': methods.local_updates(optax.sgd(0.1))},
    optax.sgd(0.05),
  ),
  'dropping nothing sends all': of_worker(methods.drop_gradients(0.0)),
  'keeping nothing sends all': of_worker(
    methods.keep_dropped(optax.sgd(0.1), 0.0)
  ),
  'compressing to all sends all': of_worker(
    methods.compress_deeply(4, 0.0, (1.0,))
  ),
  'a bucket of one element is not rounded': of_worker(
    methods.quantise(1, bucket=1)
  ),
  'local updates that do not move are local accumulation': of_worker(
    methods.local_updates(optax.sgd(0.0), 'gradients')
  ),
  'the gradient of one local update is the gradient': Law(
    {'worker': methods.local_updates(ADAM, 'gradients')}, PLAIN4, PLAIN4
  ),
  'the change by one local update is the gradient': Law(
    {'worker': methods.local_updates(optax.sgd(1.0))}, PLAIN4, PLAIN4, SGD
  ),
  'an own push that is not applied is none': of_worker(
    methods.apply_own_push(optax.sgd(0.0))
  ),
  'an own push that is taken back is a delay of one': of_one(
    {'worker': methods.apply_own_push(optax.sgd(-0.05)), 'optimizer': SGD},
    sa.delay(SGD, 1),
    params=False,
  ),
  'one local update is none': Law(
    *(methods.average_models(optax.sgd(0.1)), SYNCHRONOUS, SYNCHRONOUS, None),
    optax.chain(methods.average_pushes(), optax.sgd(0.1)),
  ),
  'the mean change is the mean gradient': Law(
    *(
      methods.buffered_averaging(optax.sgd(0.1)),
      SYNCHRONOUS,
      SYNCHRONOUS,
      None,
    ),
    optax.chain(methods.average_pushes(), optax.sgd(0.1)),
  ),
  '1-softsync is K-batch-async of the mean': of_softsync(
    1, sa.Communication(4, 1, 4), optax.chain(methods.average_pushes(), SGD)
  ),
  'N-softsync is asynchronous at 1 / N of the rate': of_softsync(
    4, PLAIN4, optax.sgd(0.05 / 4)
  ),
  'FedBuff with weights of 1 is K-batch-async': Law(
    methods.buffered_averaging(optax.sgd(0.1))
    | {'per_push': methods.weight_by_staleness(a=0.0)},
    *(sa.Communication(4, 1, 3), sa.Communication(4, 1, 3), None),
    optax.chain(methods.average_pushes(), optax.sgd(0.1)),
  ),
  'DiLoCo of one worker with one local update is Nesterov': of_one(
    methods.diloco(optax.sgd(0.1), 0.5, 0.6), nesterov(0.6)
  ),
  'DiLoCo of one worker without momentum is its optimizer': of_one(
    methods.diloco(ADAM, 1.0, 0.0), ADAM
  ),
  'Adam of one worker is Adam': of_one(methods.worker_adam(ADAM), ADAM),
  'Downpour with one local update is Adagrad': Law(
    *(methods.downpour(optax.sgd(0.1), 0.05), PLAIN4, PLAIN4, None),
    optax.adagrad(0.05),
  ),
  'mixing a fresh model in whole is local': of_one(
    methods.mix_models(optax.sgd(0.1), 1.0), optax.sgd(0.1)
  ),
  'predicting no update replies as published': Law(
    {'reply': methods.predict_weights(RATE, 0)}, PLAIN4, PLAIN4
  ),
  'predicting no update keeps artificial staleness': Law(
    {'reply': methods.predict_weights(RATE, 0)},
    *(sa.Communication(4, pull_every=3), sa.Communication(4, pull_every=3)),
  ),
  'pulling after every update staggers nothing': Law(
    methods.stagger_pulls(SGD, 4, 1), SYNCHRONOUS, SYNCHRONOUS, None, SGD
  ),
  'without artificial staleness nothing is torn': Law(
    {'reply': methods.torn_reads(2, seed=3)}, PLAIN4, PLAIN4
  ),
  'one shard is never torn': Law(
    {'reply': methods.torn_reads(1)},
    *(sa.Communication(4, pull_every=3), sa.Communication(4, pull_every=3)),
  ),
}


def close(left, right):
  same = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
  jax.tree.map(same, left, right)


@pytest.mark.slow
@pytest.mark.parametrize('law', LAWS)
def test_reduces_to_its_base(law):
  law = LAWS[law]
  ours = {'optimizer': law.optimizer} | law.ours
  found = sa.simulate(
    toys.PROBLEM, policy=law.policy, order=law.order, devices=ONE, **ours
  )
  wanted = sa.simulate(
    *(toys.PROBLEM, law.other or ours['optimizer'], law.base, law.order),
    devices=ONE,
  )
  if law.params:
    close(found.params, wanted.params)
  close(found.loss, wanted.loss)
  ages = wanted.staleness.tolist() if law.ages is None else [*law.ages]
  assert found.staleness.tolist() == ages


@pytest.mark.slow
def test_buffered_averaging_of_fresh_pushes_is_their_mean():
  """FedBuff with weights of 1: pushes that are not stale, K-batch-sync."""
  policy, ours = methods.FreshPushes(4, 3), methods.buffered_averaging(SGD)
  order = [0, 1, 1, 2, 3, 0] * 5
  mean = optax.chain(methods.average_pushes(), SGD)
  fed, plain = (
    sa.simulate(toys.PROBLEM, policy=policy, order=order, devices=ONE, **more)
    for more in (ours, {'optimizer': mean})
  )
  close(fed.params, plain.params)


@pytest.mark.slow
@pytest.mark.parametrize(
  'policy',
  [methods.FreshPushes(4, 4), methods.StaleSynchronous(4, 0)],
  ids=lambda policy: type(policy).__name__,
)
def test_equal_workers_keep_time_with_synchronous_training(policy):
  """Rounds of one push each: as many seconds, and the same updates.

  On the same batches, that is: who is restarted has used up some ids.
  """
  clock, found = sa.Clock(1.0, 0.25, 0.25), []
  problem = toys.PROBLEM
  for chosen in (policy, SYNCHRONOUS):
    with sa.pools.Virtual(clock) as pool:
      arrivals = sa.serve(problem, SGD, chosen, pool)
      pushes, servers = zip(*itertools.islice(arrivals, 24), strict=True)
    ids = [*(p.ids[0] for p in pushes), *[0] * 4]  # Those in flight, of any.
    problem = problem._replace(batch=lambda i, ids=ids: reference.batch(ids[i]))
    rounds = [server.params for server in servers[3::4]]
    found.append(
      (rounds, [p.loss for p in pushes], [p.seconds for p in pushes])
    )
  assert found[0][2] == found[1][2]
  close(*(x[:2] for x in found))


@pytest.mark.slow
@pytest.mark.parametrize('workers', [2, 4])
def test_rennala_drops_what_equal_workers_began_before_the_update(workers):
  """Every second round: N pushes are used, then N - 1 of those are old."""
  policy = methods.DropStale(workers, 0, workers)
  count = 4 * (2 * workers - 1)
  method = Method({}, optimizer=SGD)
  pushes, servers = run(method, policy, sa.pools.Virtual(sa.Clock()), count)
  used = [push for push in pushes if push.used]
  assert len(used) == 4 * workers == workers * servers[-1].version


@pytest.mark.slow
def test_the_worker_may_look_ahead_in_place_of_the_server():
  """DANA-Slim: push mu v + g, and reply as published; the same gradients."""
  mu, order = 0.6, [0, 1, 2, 3, 3, 1, 0, 2] * 5
  add = jax.jit(lambda v, g: jax.tree.map(lambda v, g: mu * v + g, v, g))

  def compute(gradient, params, batches, velocity):
    loss, g = gradient(params, batches)
    velocity = add(velocity, g)
    return loss, add(velocity, g), velocity

  zeros = lambda params, worker: jax.tree.map(np.zeros_like, params)
  slim = {'worker': sa.worker.Worker(zeros, compute), 'optimizer': SGD}
  zero = methods.dana(0.05, 4, mu)
  losses = [
    sa.simulate(toys.PROBLEM, policy=PLAIN4, order=order, devices=ONE, **more)
    for more in (slim, zero)
  ]
  np.testing.assert_allclose(losses[0].loss, losses[1].loss, rtol=1e-4)


@pytest.mark.slow
def test_delayed_updates_are_local_accumulation():
  """Ott et al. (2018): half of the workers with two batches each are all."""
  half = sa.Communication(2, 2, synchronous=True)
  few = sa.simulate(toys.PROBLEM, ADAM, half, [0, 1] * 10, devices=ONE)
  every = [0, 1, 2, 3] * 10
  many = sa.simulate(toys.PROBLEM, ADAM, SYNCHRONOUS, every, devices=ONE)
  close(few.params, many.params)


@pytest.mark.slow
def test_asynchronous_parallel_sgd_is_global_accumulation():
  """Lian et al. (2015): x <- x - rate (the sum of G late gradients)."""
  order = [0, 1, 2, 3] * 10
  policy = sa.Communication(4, 1, 2)
  found = sa.simulate(toys.PROBLEM, SGD, policy, order, devices=ONE)
  ages = found.staleness.reshape(-1, 2).tolist()
  wanted = reference.late(reference.Sgd(0.05), ages)
  assert reference.distance(found.params, wanted[-1]) < TOLERANCE


@pytest.mark.slow
def test_one_round_late_is_a_delay_of_one():
  """Against a loop of updates, each on the sum of N gradients."""
  order = [*range(4)] * 10
  found = sa.simulate(
    *(toys.PROBLEM, ADAM, methods.OneRoundLate(4), order), devices=ONE
  )
  late = reference.late(adam(), [[min(u, 1)] * 4 for u in range(10)])
  assert reference.distance(found.params, late[-1]) < TOLERANCE
  assert found.staleness.tolist() == [0] * 4 + [1] * 36
