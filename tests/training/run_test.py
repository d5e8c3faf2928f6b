"""A task of its own, from training with stale gradients to a table.

A softmax classifier on three clouds of points: no text, no translation.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stale_adam as sa
from experiments.render import report
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
