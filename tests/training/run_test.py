"""A task of its own, from training with stale gradients to a table.

A softmax classifier on three clouds of points: no text, no translation.
"""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stale_adam as sa
from experiments.render import report
from stale_adam.trace import used_staleness
from stale_adam.training import checkpoint, record
from stale_adam.training.run import run
from stale_adam.training.task import Budget, Evaluation

CENTRES = np.array([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]], np.float32)


def points(seed, count=32):
  draw = np.random.default_rng(seed)
  labels = draw.integers(3, size=count)
  return draw.normal(CENTRES[labels], 0.7).astype(np.float32), labels


def loss(params, batch, key):
  del key
  x, labels = batch
  logs = jax.nn.log_softmax(x @ params['weights'] + params['bias'][None])
  return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=1))


class Clouds:
  metric, unit, rate = 'accuracy', 'points', 'points_per_second'
  units_per_epoch = 320

  def __init__(self):
    init = lambda key: {'weights': jnp.zeros((2, 3)), 'bias': jnp.zeros(3)}
    self.problem = sa.Problem(init, loss, points)

  def units(self, batch_id):
    return len(points(batch_id)[1])

  def validation_loss(self, params):
    return float(loss(params, points(10**6, 200), None))

  def validation_score(self, params):
    return self.test(params).scores['all']

  def test(self, params):
    x, labels = points(10**6, 200)
    logits = x @ params['weights'] + params['bias'][None]
    found = np.argmax(np.asarray(logits), axis=1)
    examples = [{'point': str(x[0]), 'class': str(found[0])}]
    return Evaluation({'all': 100 * float(np.mean(found == labels))}, examples)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """(record, directory) of an asynchronous run."""
  out = tmp_path_factory.mktemp('clouds') / 'run'
  identity = {'experiment': 'clouds', 'scale': 'tiny', 'run': 'clouds-async'}
  result = run(
    Clouds(),
    sa.adam(0.1),
    sa.Communication(4, global_accumulation=2),
    sa.pools.Virtual(sa.Clock()),
    Budget(epochs=3, validate_every=160),
    out,
    identity | {'config': {'learning_rate': 0.1}},
    metadata={'classes': 3},
  )
  return result, out


def trained(out, policy, **more):
  """A short run: its record and its trace."""
  identity = {'experiment': 'clouds', 'scale': 'tiny', 'run': 'methods'}
  budget = Budget(epochs=1, validate_every=160)
  pool = sa.pools.Virtual(sa.Clock())
  run(
    *(Clouds(), sa.adam(0.1), policy, pool, budget, out),
    identity | {'config': {}},
    seed=5,
    **more,
  )
  return record.read(out / 'record.json'), sa.Trace.load(out / 'trace.npz')


@pytest.mark.slow
def test_any_policy_leaves_a_record_and_its_name_in_the_trace(tmp_path):
  found, trace = trained(
    tmp_path,
    sa.methods.BackupWorkers(3),
    settings={'problem': 'clouds'},
    per_push=sa.methods.scale_by_staleness(),
  )
  assert found['trace_sha256'] == trace.digest()
  assert trace.settings['policy']['name'] == 'BackupWorkers'
  assert trace.settings['policy']['workers'] == 3
  # Of three pushes at a version, the last comes too late.
  assert trace.columns['used'].tolist()[:6] == [1, 1, 0, 1, 1, 0]
  assert found['used_share'] == pytest.approx(np.mean(trace.columns['used']))
  assert 0.6 < found['used_share'] < 0.8
  # What updates use is fresh; what comes too late is not.
  assert found['mean_staleness'] == 0 == max(used_staleness(trace.columns))
  assert set(found['staleness_histogram']) == {'0'}
  assert trace.columns['staleness'].max() == 1
  assert (trace.settings['seed'], trace.settings['problem']) == (5, 'clouds')
  assert trace.settings['devices'] == len(jax.devices())


@pytest.mark.slow
@pytest.mark.parametrize(
  'method',
  [
    {'per_push': sa.methods.scale_by_staleness()},
    {'worker': sa.methods.drop_gradients(0.8)},
    {'reply': sa.methods.predict_weights(0.1, 3.0)},
  ],
  ids=lambda method: next(iter(method)),
)
def test_methods_work_as_in_serve(method, tmp_path):
  def losses(**more):
    setting = Clouds().problem, sa.adam(0.1), sa.Communication(4)
    with sa.pools.Virtual(sa.Clock()) as pool:
      pushes = sa.serve(*setting, pool, seed=5, **more)
      return [float(p.loss) for p, _ in itertools.islice(pushes, 10)]

  found, trace = trained(tmp_path, sa.Communication(4), **method)
  assert trace.columns['loss'].tolist() == losses(**method) != losses()
  # Six weights and three biases; a fifth of nine are two, of 8 bytes each.
  push = 16 if 'worker' in method else 36
  assert found['bytes_per_batch'] == push + 36


@pytest.mark.slow
def test_work_that_is_abandoned_counts_as_dropped_and_pulls_again(tmp_path):
  """Of three equal workers two push, and the third is restarted."""
  found, trace = trained(tmp_path, sa.methods.FirstWorkers(3, 2))
  assert len(trace) == 10 and trace.columns['restarted'].sum() == 5
  assert found['used_share'] == 1
  assert found['dropped_share'] == pytest.approx(1 / 3)
  assert found['bytes_per_batch'] == 36 + 1.5 * 36


def test_a_classifier_learns_with_stale_gradients(made):
  found, _ = made
  assert found['best_accuracy'] > 90 > found['curve'][0]['accuracy'] - 10
  last = found['curve'][-1]
  assert last['points'] == 3 * 320 == 32 * last['pushes']
  assert 0 < found['mean_staleness'] < 2


def test_its_record_is_valid_and_names_its_own_metric(made):
  found, out = made
  kept = record.read(out / 'record.json')
  assert record.metric(kept) == 'accuracy' and record.best(kept) > 90
  assert record.tests(kept) == {'all': found['best_accuracy']}
  seconds = record.seconds_to(kept, 90.0)
  assert 0 < seconds <= kept['curve'][-1]['virtual_seconds']
  assert record.virtual_speed(kept) == pytest.approx(
    kept['curve'][-1]['points'] / kept['curve'][-1]['virtual_seconds']
  )
  params, metadata = checkpoint.load(out / 'params.npz')
  assert metadata == {'classes': 3}
  assert Clouds().validation_score(params) == found['best_accuracy']


def test_its_table_is_markdown_that_knows_no_translation(made):
  found, out = made
  table = report.compare({'asynchronous': found}, target=90.0)
  header, _, line = table.split('\n')
  assert 'best accuracy' in header and 'virtual points_per_second' in header
  assert f'{found["best_accuracy"]:.1f}' in line
  kept = record.read(out / 'record.json')
  del kept['provenance']['versions']  # Of installed packages: sacrebleu.
  for text in (table, json.dumps(kept)):
    assert 'bleu' not in text.lower() and 'word' not in text.lower()
