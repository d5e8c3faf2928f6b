"""The training loop on a quadratic whose validations follow a script."""

import itertools
import struct
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from tensorboardX.proto import event_pb2

import stale_adam as sa
from stale_adam import pools, problem
from stale_adam.policy import Communication
from stale_adam.training import checkpoint, course
from stale_adam.training import loop as train
from stale_adam.training.task import Budget

NAN, INF = float('nan'), float('inf')


def _loss(params, batch, key):
  del key
  return 0.5 * jnp.sum(jnp.square(params['x'] - batch))


class Task:
  """A task whose batches have 10 words, and its epochs 10 batches."""

  metric, unit, rate = 'bleu', 'target_words', 'words_per_second'
  units_per_epoch = 100

  def __init__(self, losses=(), bleus=(), fails_at=None):
    self._losses = itertools.chain(losses, itertools.count(-1.0, -1.0))
    self._bleus = itertools.chain(bleus, itertools.repeat(0.0))
    self._fails_at = fails_at
    self.validated = []  # Parameters at every validation.
    self.clock = 0.0  # A word takes a second, a validation a thousand.
    init = lambda key: {'x': jnp.ones(3)}
    self.problem = problem.Problem(init, _loss, self.batch)

  def batch(self, batch_id):
    if batch_id == self._fails_at:
      raise RuntimeError(f'batch {batch_id} cannot be read')
    return np.full(3, batch_id, np.float32)

  def units(self, batch_id):
    self.clock += 10
    return 10

  def validation_loss(self, params):
    self.validated.append(jax.tree.map(np.array, params))
    self.clock += 1000
    return next(self._losses)

  def validation_score(self, params):
    np.testing.assert_array_equal(params['x'], self.validated[-1]['x'])
    return next(self._bleus)


class Pool(pools.Virtual):
  """Remembers that it was closed."""

  closed = False

  def close(self):
    super().close()
    self.closed = True


@pytest.fixture
def run(tmp_path):
  """Trains a task; further arguments replace those of `train`."""

  def run(task, workers=1, rate=0.01, pool=None, wrap=lambda o: o, **arguments):
    budget = {'epochs': 2, 'validate_every': 20, 'patience': 5}
    budget |= {k: arguments.pop(k) for k in budget if k in arguments}
    communication = Communication(workers, **arguments)
    pool = Pool(threads=1) if pool is None else pool
    try:
      return train.train(
        task,
        wrap(optax.sgd(rate)),
        communication,
        pool,
        Budget(**budget),
        seed=0,
        out=tmp_path,
        metadata={'what': ['a', 'quadratic']},
      )
    finally:
      assert pool.closed

  return run


def axis(outcome, field):
  return [point[field] for point in outcome.curve]


def assert_saved(tmp_path, outcome, expected):
  """`expected` are the best parameters, in memory and on disk."""
  np.testing.assert_array_equal(outcome.best_params['x'], expected['x'])
  params, metadata = checkpoint.load(tmp_path / 'params.npz')
  np.testing.assert_array_equal(params['x'], expected['x'])
  assert metadata == {'what': ['a', 'quadratic']}


@pytest.mark.parametrize(
  'communication, expected',
  [
    ({'workers': 1}, [40, 70, 110, 140, 180, 200]),
    ({'workers': 3}, [40, 70, 110, 140, 180, 200]),
    ({'workers': 2, 'synchronous': True}, [40, 70, 110, 140, 180, 200]),
    # A push of 40 words at a time.
    ({'workers': 1, 'local_accumulation': 4}, [40, 80, 120, 160, 200]),
  ],
)
def test_validates_whenever_so_many_words_are_reached(
  run, communication, expected
):
  outcome = run(Task(), validate_every=35, **communication)
  assert axis(outcome, 'target_words') == expected


def test_stops_when_the_epochs_are_over(run):
  outcome = run(Task(), epochs=1.25, validate_every=50)
  assert axis(outcome, 'target_words') == [50, 100, 130]
  assert axis(outcome, 'epochs') == [0.5, 1.0, 1.3]
  assert run(Task(), epochs=0.001).curve[-1]['target_words'] == 10


@pytest.mark.parametrize(
  'losses, validations',
  [
    ([5, 4, 3, 3, 3.5, 4, 1], 6),  # An equal loss is not lower.
    ([5, 6, 6, 4, 5, 5, 5, 1], 7),  # One lower loss is new patience.
    ([5, 4, 4.5, 4.2, 4.1, 1], 5),  # Lower than the last, not the lowest.
    ([5, NAN, INF, NAN, 1], 4),
    ([NAN, NAN, 5, NAN, 6, INF, 1], 6),
    ([-INF, 5, 4, 3, 2], 10),  # Nonsense is not low.
  ],
)
def test_stops_after_patience_without_a_lower_loss(run, losses, validations):
  outcome = run(Task(losses), patience=3)
  assert len(outcome.curve) == validations
  # The budget would have allowed for ten.
  np.testing.assert_array_equal(
    axis(outcome, 'validation_loss')[: len(losses)], losses[:validations]
  )


def test_a_run_of_nan_ends_and_is_a_result(run, tmp_path):
  task = Task([NAN] * 10)
  outcome = run(task, patience=3)
  assert 3 <= len(outcome.curve) <= 4
  assert np.isnan(axis(outcome, 'validation_loss')).all()
  assert_saved(tmp_path, outcome, task.validated[0])


@pytest.mark.parametrize(
  'losses, bleus, best',
  [
    ([9, 8, 7, 6], [1, 3, 2, 2], 1),
    ([9, 8, 7, 6], [1, 3, 3, 2], 2),  # Ties: the lower loss.
    ([9, 7, 8, 9.5], [0, 0, 0, 0], 1),
    ([9, NAN, 8, 9], [1, 3, 2, 2], 1),  # BLEU comes first.
    ([NAN, 9, NAN, INF], [3, 3, 3, 3], 1),
    ([9, 8, -INF, 10], [3, 3, 3, 3], 1),
  ],
)
def test_the_best_parameters_are_kept(run, tmp_path, losses, bleus, best):
  task = Task(losses, bleus)
  outcome = run(task, epochs=0.8)
  assert len(task.validated) == len(outcome.curve) == 4
  assert len({tuple(params['x']) for params in task.validated}) == 4
  assert outcome.best is outcome.curve[best]
  assert_saved(tmp_path, outcome, task.validated[best])


@pytest.mark.parametrize('best', [1, 9])
def test_smoothed_parameters_are_validated_and_kept(run, tmp_path, best):
  """Those of the versions of the same run without smoothing."""
  raw = Task()
  pushes = run(raw, validate_every=10).trace.columns['loss']
  versions = [np.ones(3), *(params['x'] for params in raw.validated)]
  wanted = reference.smoothed(versions, 0.3)[2::2]
  task = Task(bleus=[i == best for i in range(10)])
  outcome = run(task, wrap=lambda o: sa.smooth(o, 0.3))
  found = np.stack([params['x'] for params in task.validated])
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
  assert np.abs(found - versions[2::2]).max() > 0.1
  assert_saved(tmp_path, outcome, task.validated[best])
  # Workers compute at the parameters, not at the smoothed ones.
  np.testing.assert_allclose(outcome.trace.columns['loss'], pushes, rtol=1e-6)


def test_a_point_of_the_curve(run):
  # Of no learning rate, so that each batch's loss is known.
  outcome = run(Task(range(50, 0, -10)), 2, rate=0.0, global_accumulation=2)
  loss = lambda batch_id: 1.5 * (1 - batch_id) ** 2
  assert len(outcome.curve) == 10
  # Two workers, a second a batch: batches 2i and 2i + 1 arrive together.
  assert outcome.curve[1] == {
    'updates': 2,
    'pushes': 4,
    'target_words': 40,
    'epochs': 0.4,
    'virtual_seconds': 2.0,
    'seconds': outcome.curve[1]['seconds'],
    'train_loss': pytest.approx((loss(2) + loss(3)) / 2),
    'validation_loss': 40,
    'bleu': 0.0,
  }
  json_types = {type(value) for value in outcome.curve[1].values()}
  assert json_types <= {int, float}


def test_training_seconds_do_not_count_validation(run, monkeypatch):
  task = Task()
  clock = types.SimpleNamespace(monotonic=lambda: task.clock)
  monkeypatch.setattr(course, 'time', clock)
  outcome = run(task, epochs=1)
  assert axis(outcome, 'seconds') == [20, 40, 60, 80, 100]
  assert outcome.seconds == 100
  # 100 words in 10 virtual seconds, and in 100 by the scripted clock.
  assert outcome.speed() == {'virtual': 10.0, 'measured': 1.0}


def test_staleness_and_order_of_every_push(run):
  outcome = run(Task(), workers=3, validate_every=50)
  staleness = outcome.trace.columns['staleness'].tolist()
  assert staleness == [0, 1] + [2] * 18
  assert outcome.trace.worker.tolist() == ([0, 1, 2] * 7)[:20]
  assert outcome.trace.seconds.tolist() == [1 + i // 3 for i in range(20)]
  assert len(outcome.trace.digest()) == 64


def events(directory):
  """Scalars (name, target words, value) of the one event file.

  Records are a length of 8 bytes, its checksum of 4, the data, its checksum.
  """
  (path,) = directory.glob('events.out.tfevents.*')
  data, at, found = path.read_bytes(), 0, []
  while at < len(data):
    (length,) = struct.unpack_from('<Q', data, at)
    event = event_pb2.Event()
    event.ParseFromString(data[at + 12 : at + 12 + length])
    at += 12 + length + 4
    # The second field is what the values are drawn over: target words.
    over = {field.number: value for field, value in event.ListFields()}.get(2)
    found += [(v.tag, over, v.simple_value) for v in event.summary.value]
  return found


def test_tensorboard_can_read_the_events(run, tmp_path):
  outcome = run(Task([5, NAN, 3], [10, 20, 30]), epochs=0.6)
  names = 'train_loss', 'validation_loss', 'bleu'
  found = {(name, words): value for name, words, value in events(tmp_path)}
  assert len(found) == 9
  for point, name in itertools.product(outcome.curve, names):
    value = found[name, point['target_words']]
    np.testing.assert_allclose(value, point[name], rtol=1e-6)


def test_a_failing_worker_is_heard_and_costs_nothing_saved(run, tmp_path):
  task = Task([5, 4, 3], [1, 2, 1], fails_at=7)
  with pytest.raises(RuntimeError, match='batch 7 cannot be read'):
    run(task, workers=2)
  assert len(task.validated) == 3
  params, _ = checkpoint.load(tmp_path / 'params.npz')
  np.testing.assert_array_equal(params['x'], task.validated[1]['x'])
  assert ('bleu', 60, 1.0) in events(tmp_path)
  assert not list(tmp_path.glob('*.partial'))


def test_a_failure_at_once(run, tmp_path):
  with pytest.raises(RuntimeError, match='batch 0 cannot be read'):
    run(Task(fails_at=0))
  assert not (tmp_path / 'params.npz').exists()


@pytest.mark.parametrize('name', ['epochs', 'validate_every', 'patience'])
@pytest.mark.parametrize('value', [0, -1, NAN])
def test_a_budget_is_positive(name, value):
  kind = 'finite number above 0' if name == 'epochs' else 'whole number, 1 or'
  with pytest.raises(ValueError, match=f'{name}={value}: use a {kind}'):
    Budget(**{name: value})
