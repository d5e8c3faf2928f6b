"""A run whose disk fails at any write: one error, nothing damaged, resumed."""

import contextlib
import dataclasses
import errno
import os
import re
import resource
import types

import jax
import jax.numpy as jnp
import pytest
import toys

from experiments import grammar
from experiments.ledger import execute, scales
from stale_adam import files
from stale_adam.nmt import translation
from stale_adam.nmt.data import vocabulary
from stale_adam.policy import Communication
from stale_adam.trace import Trace
from stale_adam.training import checkpoint, resume
from stale_adam.training import record as record_lib
from stale_adam.training.task import Budget, Evaluation

SETTINGS = scales.settings(
  'micro',
  'transformer',
  communication=Communication(4, 1, 2),
  budget=Budget(epochs=1, validate_every=160, patience=50),
)
PROGRAM = {'commit': 'c0ffee', 'dirty': True, 'versions': {}}


class Task:
  """The toy regression with the surroundings of a translation."""

  metric, unit, rate = 'bleu', 'target_words', 'words_per_second'
  units_per_epoch = 320
  problem = toys.PROBLEM
  batches = types.SimpleNamespace(first_epoch=32)
  text = {'name': 'toy', 'sha256': 'ab' * 32}

  def __init__(self):
    text = grammar.corpus(train=200, validation=8, test=8)
    pieces = vocabulary.train(text.train, SETTINGS.vocabulary)
    self.model = translation.Model('transformer', pieces, SETTINGS.sizes)

  def units(self, batch_id):
    return 10

  def validation_loss(self, params):
    return float(jnp.sum(jnp.abs(params['inner'])))

  def validation_score(self, params):
    return float(jnp.sum(params['outer']))

  def test(self, params):
    scores = {'test': self.validation_score(params)}
    return Evaluation(scores, [], {'sacrebleu_signature': ''})


@pytest.fixture(scope='module')
def task():
  return Task()


@pytest.fixture
def run(task, monkeypatch):
  """Makes the run in a directory, with a state at every validation."""
  monkeypatch.setattr(execute, 'program', lambda: PROGRAM)

  def make(out, settings=SETTINGS, **more):
    known = settings, task, out, 'test', 'micro', 'name'
    return execute.execute(*known, save_seconds=1e9, **more)

  return make


@pytest.fixture
def whole(run, tmp_path):
  """The unbroken run: its directory, and what `outcome` gives."""
  run(tmp_path / 'whole')
  return outcome(tmp_path / 'whole')


def outcome(out):
  """What a run left, but for the seconds that the machine took."""
  record = record_lib.read(out / 'record.json')
  trace = Trace.load(out / 'trace.npz')
  params, metadata = checkpoint.load(out / 'params.npz')
  columns = {'seconds': trace.seconds, **trace.columns}
  return (
    [point | {'seconds': None} for point in record['curve']],
    {n: record[n] for n in ('best_bleu', 'test_bleu', 'examples', 'config')},
    trace.digest(),
    {name: column.tolist() for name, column in columns.items()},
    [leaf.tobytes() for leaf in jax.tree.leaves(params)],
    metadata,
  )


class Full:
  """A disk that is full after so many files, in place of `files._flush`."""

  def __init__(self, count):
    self.count, self.left, self._flush = count, count, files._flush

  def __call__(self, path):
    if self.left == 0:
      os.truncate(path, path.stat().st_size // 2)
      raise OSError(errno.ENOSPC, 'No space left on device')
    self.left -= 1
    self._flush(path)


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_write_damages_nothing(
  run, whole, tmp_path, monkeypatch
):
  counter = Full(10**9)
  with monkeypatch.context() as patch:
    patch.setattr(files, '_flush', counter)
    run(tmp_path / 'counted')
  writes = counter.count - counter.left
  assert writes == 7  # run.json, vocabulary, best, two states, trace, record.
  for count in range(writes):
    out = tmp_path / str(count)
    with monkeypatch.context() as patch:
      patch.setattr(files, '_flush', Full(count))
      with pytest.raises(OSError) as caught:
        run(out)
    message = str(caught.value)
    assert 'No space left on device' in message and str(out) in message
    assert '\n' not in message
    left = {path.name for path in out.glob('*.npz')}
    if count:  # Else it does not get as far as to begin.
      said = re.search('saved so far: (.*)[.] Remove', message)[1]
      assert set(said.split(', ')) == (left or {'nothing'})
    assert not list(out.glob('.*')) and not (out / 'record.json').exists()
    for name in left - {'trace.npz'}:
      checkpoint.load(out / name)
    run(out)
    assert outcome(out) == whole


@contextlib.contextmanager
def limited(size):
  """Files of at most so many bytes: a limit of the system, not of ours."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_file_that_the_system_refuses_to_write(run, whole, tmp_path):
  """The first state, which another thread writes."""
  out = tmp_path / 'limited'
  best = (tmp_path / 'whole' / 'params.npz').stat().st_size
  with pytest.raises(OSError) as caught, limited(best + 512):
    run(out)
  assert caught.value.__cause__.errno == errno.EFBIG
  assert re.search(
    f"too large: '{out}/resume-0.npz'; .* so far: params.npz", str(caught.value)
  )
  run(out)
  assert outcome(out) == whole


def test_a_finished_run_is_kept_until_it_is_overwritten(run, whole, tmp_path):
  out = tmp_path / 'whole'
  before = {path: path.read_bytes() for path in out.iterdir()}
  with pytest.raises(FileExistsError, match='holds a finished run'):
    run(out)
  assert {path: path.read_bytes() for path in out.iterdir()} == before
  run(out, overwrite=True)
  assert outcome(out) == whole


def test_an_unfinished_run_with_another_rate_is_refused(
  run, tmp_path, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(files, '_flush', Full(5))
    with pytest.raises(OSError, match='unfinished'):
      run(tmp_path)
  other = dataclasses.replace(SETTINGS, learning_rate=0.5)
  with pytest.raises(FileExistsError, match='learning_rate: 0.003 there, 0.5'):
    run(tmp_path, other)
  assert resume.exists(tmp_path)


def test_parameters_name_the_vocabulary_beside_them(whole, tmp_path):
  path = tmp_path / 'whole' / translation.VOCABULARY
  # The toy's parameters are not the model's, but the vocabulary is.
  with pytest.raises(ValueError, match='has other parameters'):
    translation.load(path.parent)
  path.write_bytes(path.read_bytes()[::-1])
  with pytest.raises(ValueError, match='is not the vocabulary of params.npz'):
    translation.load(path.parent)
