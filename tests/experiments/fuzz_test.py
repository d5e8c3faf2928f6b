"""Any input is used as it is, or refused by one line that names it.

FUZZ_EXAMPLES=5000 tries so many of each kind; `make test` tries a few.
"""

import dataclasses
import gzip
import json
import math
import os
import re

import hypothesis
import jax
import numpy as np
import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st
from invented import RECORD

import stale_adam as sa
from experiments import options
from experiments.ledger import records, scales
from experiments.ledger.settings import agrees
from experiments.render import report
from stale_adam.compiled import decisions
from stale_adam.nmt import identity, translation
from stale_adam.nmt.data import corpus, vocabulary
from stale_adam.training import checkpoint
from stale_adam.training import record as record_lib


def examples(usual):
  """So many examples, of whatever takes time to try."""
  wanted = int(os.environ.get('FUZZ_EXAMPLES', usual))
  return hypothesis.settings(
    max_examples=wanted,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )


def outcome(function, *names, errors=(ValueError, OSError)):
  """What a function returns, or None if it refuses its input in one line."""
  try:
    found = function()
    event('used')
    return found
  except errors as error:
    event('refused')
    text = str(error)
    assert text.strip() and '\n' not in text and len(text) < 1200, text
    assert not names or any(name in text for name in names), text
    return None


def event(what):
  """For --hypothesis-show-statistics."""
  if hypothesis.currently_in_test_context():
    hypothesis.event(what)


JSON = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.integers(-(10**400), 10**400)
  | st.floats()
  | st.text(max_size=8),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8), inner, max_size=3)
  ),
  max_leaves=6,
)


def places(value, path=()):
  """Every place in a value of JSON."""
  yield path
  if isinstance(value, dict | list):
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
      yield from places(value[key], (*path, key))


@st.composite
def changed_json(draw, value):
  """A value of JSON with another value at a place or two, or less there."""
  value = json.loads(json.dumps(value))
  for _ in range(draw(st.integers(0, 2))):
    *path, last = draw(st.sampled_from(list(places(value))[1:]))
    part = value
    for key in path:
      part = part[key]
    if draw(st.booleans()):
      part[last] = draw(JSON)
    else:
      del part[last]
    if not value:
      break
  return value


@st.composite
def damaged(draw, data):
  """Bytes with some of them changed, removed, added or repeated."""
  data = bytearray(data)
  for _ in range(draw(st.integers(0, 3))):
    at = draw(st.integers(0, len(data)))
    kind = draw(st.sampled_from(['flip', 'cut', 'insert', 'remove', 'repeat']))
    if kind == 'flip' and at < len(data):
      data[at] ^= draw(st.integers(1, 255))
    elif kind == 'cut':
      del data[at:]
    elif kind == 'insert':
      data[at:at] = draw(st.binary(min_size=1, max_size=8))
    elif kind == 'remove':
      del data[at : at + draw(st.integers(1, 64))]
    elif kind == 'repeat':
      data[at:at] = data[at : at + 64]
  return bytes(data)


# Flags.

NUMBERS = ['nan', 'inf', '-inf', '-1', '0', '-0', '1', '2', '1.5', '1e9']
NUMBERS += ['1e308', '1e309', '1e-320', '4294967295', '4294967296']
NUMBERS += ['9' * 400, '9' * 5000, '', ' ', '1_0', '0x10', '+3', '٣', '²']
TEXTS = st.sampled_from(NUMBERS) | st.text(max_size=12)
TEXTS |= st.integers().map(str) | st.floats().map(str)
TEXTS |= st.integers(0, 64).map(str) | st.floats(0, 1).map(str)
ITEMS = st.tuples(
  st.sampled_from(['size', 'depth', 'dropout', 'heads', 'encoder_depth', 'x']),
  TEXTS,
).map('='.join)
NAMED = [option.name for option in options.options()]
GIVEN = st.one_of(
  st.tuples(st.sampled_from(NAMED), TEXTS),
  st.tuples(st.just('sizes'), st.lists(ITEMS, max_size=3).map(','.join)),
  st.tuples(
    st.just('words_per_second'),
    st.lists(TEXTS, min_size=3, max_size=3).map(','.join),
  ),
)


@pytest.mark.slow
@examples(400)
@given(
  st.lists(GIVEN, min_size=1, max_size=2), st.sampled_from(['micro', 'tiny'])
)
def test_flags(given_flags, scale):
  values = flags.FlagValues()
  found = options.settings(values)
  line = [f'--{name}={text}' for name, text in given_flags]

  def chosen():
    values(['train', *line])
    return options.chosen(scale, {n: f.value for n, f in found.items()})

  names = [name for name, _ in given_flags]
  if any(name in ('workers', 'communication') for name in names):
    names.append('global_accumulation')  # What is allowed depends on them.
  try:
    made = chosen()
  except (flags.Error, ValueError) as error:
    event('refused')
    text = str(error)
    assert '\n' not in text.strip('\n') or isinstance(error, flags.Error), text
    assert any(name in text for name in names), text
    return
  event('used')
  config = json.loads(json.dumps(made.config(), allow_nan=False))
  assert agrees(config, made)
  assert scales.name(scale, made)
  clock = made.clock(100.0)
  assert all(math.isfinite(x) for x in (clock.compute_seconds, clock.spread))
  assert 0 <= made.seed < 2**32 and math.isfinite(made.learning_rate)
  assert np.isfinite(np.float32(made.learning_rate))
  # What was said last of a number is what is used.
  said = dict(given_flags)
  for name in ('seed', 'learning_rate', 'beam', 'vocabulary'):
    if name in said:
      assert getattr(made, name) == type(getattr(made, name))(said[name])


# Text.

WORDS = st.sampled_from(
  'the a man woman reads sees old book , . \u2581 \u2028 \x85 \x00 \x1c \ufeff '
  '\u00a0 \r \t \x0b <unk> </s> <s> \U0001f600 e\u0301 \u200f'.split(' ')
)
LINES = st.lists(WORDS, max_size=8).map(' '.join) | st.text(max_size=20)
LINES |= st.integers(1, 3000).map(lambda n: 'man ' * n)


@st.composite
def written(draw):
  """The bytes of a text file."""
  lines = draw(st.lists(LINES, min_size=0, max_size=6))
  data = '\n'.join(lines).encode('utf-8', 'surrogatepass')
  data += draw(st.sampled_from([b'', b'\n']))
  return data


@st.composite
def texts(draw):
  """The bytes of every file of a corpus, by name."""
  files = {}
  for stem in ('train', 'val', 'test_x'):
    count = draw(st.integers(1, 5))
    for language in ('en', 'de'):
      name = f'{stem}.{language}'
      lines = draw(st.lists(LINES, min_size=count, max_size=count))
      lines = [line.replace('\n', ' ') for line in lines]
      files[name] = '\n'.join(lines).encode('utf-8', 'surrogatepass') + b'\n'
  if draw(st.booleans()):
    name = draw(st.sampled_from(sorted(files)))
    files[name] = draw(written() | damaged(files[name]))
  if draw(st.booleans()):
    name = draw(st.sampled_from(sorted(files)))
    data = gzip.compress(files.pop(name), mtime=0)
    files[f'{name}.gz'] = draw(st.just(data) | damaged(data))
  if draw(st.integers(0, 9)) == 0:
    del files[draw(st.sampled_from(sorted(files)))]
  return files


def plain(files, stem, language):
  """The sentences of a file, in another way; None if it cannot be read."""
  name = f'{stem}.{language}'
  data = files.get(name)
  if data is None:
    data = gzip.decompress(files[f'{name}.gz'])
  lines = data.decode('utf-8').removeprefix('\ufeff')
  lines = lines.removesuffix('\n').split('\n')
  return [line.strip() for line in lines]


@pytest.mark.slow
@examples(120)
@given(texts())
def test_text(tmp_path_factory, files):
  folder = tmp_path_factory.mktemp('text', numbered=True)
  for name, data in files.items():
    (folder / name).write_bytes(data)
  found = outcome(
    lambda: corpus.directory(folder, 'en-de'),
    *('train: ', 'validation: ', 'test test_x: ', 'no test_*'),
  )
  try:
    if found is None:
      return
    parts = {'train': found.train, 'val': found.validation} | found.tests
    for stem, pairs in parts.items():
      sides = [plain(files, stem, language) for language in ('en', 'de')]
      kept = [pair for pair in zip(*sides, strict=True) if all(pair)]
      assert list(zip(*pairs, strict=True)) == kept
    assert corpus.describe(found) and identity.sha256(found)
    check_task(found, folder)
  finally:
    for path in folder.iterdir():
      path.unlink()
    folder.rmdir()


def check_task(text, folder):
  """What becomes of a text that could be read."""
  cache = folder / 'cache'
  size = 40
  try:
    pieces = outcome(lambda: vocabulary.train(text.train, size, cache), 'size=')
    if pieces is None:
      return
    scale = scales.settings('micro', 'transformer')
    model = translation.Model('transformer', pieces, scale.sizes)
    task = outcome(
      lambda: translation.Translation(model, text, scale.shape),
      *('training text: none of', 'validation text: none of'),
    )
    if task is None:
      return
    fit = len(text.train.source) - task.batches.skipped
    placed = []
    for batch_id in range(task.batches.first_epoch):
      batch = task.batches.batch(batch_id)
      placed += [row.max() for row in batch['source_segments']]
    assert sum(placed) == fit
    parts = {'validation': text.validation, **text.tests}
    for name, pairs in parts.items():
      lengths = [len(ids) + 1 for ids in pieces.encode(pairs.source)]
      cut = sum(length > task.longest for length in lengths)
      assert task.shortened.get(name, 0) == cut
  finally:
    for path in cache.glob('*') if cache.exists() else ():
      path.unlink()
    if cache.exists():
      cache.rmdir()


# Traces.

NUMBERS_OF = sa.Communication(3, 2, 2)


def recorded():
  """A trace as a run leaves it."""
  order = [0, 1, 2, 1, 0, 2, 2, 1, 0, 1]
  found = decisions.record(NUMBERS_OF, np.array(order))
  columns = {
    'pulled_version': found.pulled_version,
    'staleness': found.staleness,
    'loss': np.arange(10, dtype=np.float32),
  }
  settings = {
    'policy': {'name': 'Communication'} | dataclasses.asdict(NUMBERS_OF),
    'seed': 3,
  }
  return sa.Trace(order, np.arange(10.0), columns, settings)


TRACE = recorded()


def same_trace(first, second):
  arrays = lambda t: (
    {'worker': t.worker, 'seconds': t.seconds} | dict(t.columns)
  )
  ours, theirs = arrays(first), arrays(second)
  return (
    first.settings == second.settings
    and ours.keys() == theirs.keys()
    and all(np.array_equal(ours[k], theirs[k]) for k in ours)
  )


@pytest.fixture(scope='module')
def trace_bytes(tmp_path_factory):
  path = tmp_path_factory.mktemp('traces') / 'trace.npz'
  TRACE.save(path)
  return path, path.read_bytes()


@examples(300)
@given(st.data())
def test_files_of_traces(trace_bytes, data):
  path, good = trace_bytes
  path.write_bytes(data.draw(damaged(good)))
  found = outcome(lambda: sa.Trace.load(path), str(path))
  assert found is None or same_trace(found, TRACE)


ARRAYS = st.one_of(
  JSON,
  st.lists(st.integers(-2, 4), max_size=12),
  st.lists(st.floats(), max_size=12),
)


@st.composite
def altered(draw):
  """The parts of a trace, of which one or two are something else."""
  parts = {
    'worker': TRACE.worker.tolist(),
    'seconds': TRACE.seconds.tolist(),
    'columns': {k: c.tolist() for k, c in TRACE.columns.items()},
    'settings': TRACE.settings,
  }
  if draw(st.booleans()):
    return draw(changed_json(parts))
  name = draw(st.sampled_from(['worker', 'seconds', 'columns', 'settings']))
  if name == 'columns':
    column = draw(st.sampled_from([*TRACE.columns, 'other']))
    return parts | {'columns': parts['columns'] | {column: draw(ARRAYS)}}
  return parts | {name: draw(ARRAYS)}


@examples(300)
@given(altered())
def test_parts_of_traces(trace_bytes, parts):
  """A replay leads to what the run led to, or says that it does not."""
  hypothesis.assume({'worker', 'seconds'} <= parts.keys())
  made = outcome(
    lambda: sa.Trace(**parts),
    errors=(ValueError, TypeError, OverflowError),
  )
  if made is None:
    return
  path = trace_bytes[0]
  made.save(path)
  assert same_trace(sa.Trace.load(path), made) or has_nan(made)
  policy = {'name': 'Communication'} | dataclasses.asdict(NUMBERS_OF)

  def replayed():
    made.check_replay({'policy': policy, 'seed': 3})
    found = decisions.record(NUMBERS_OF, made.worker)
    made.check_staleness(found.pulled_version, found.staleness)
    return found

  found = outcome(replayed)
  if found is None:
    return
  for name in ('pulled_version', 'staleness'):
    if name in made.columns:
      assert made.columns[name].tolist() == getattr(found, name).tolist()


def has_nan(trace):
  columns = [trace.seconds, *trace.columns.values()]
  return any(np.isnan(c).any() for c in columns if c.dtype.kind == 'f')


# Records.


class One(records.Records):
  """Records of which every run has the same."""

  def __init__(self, record):
    super().__init__('tiny')
    self._record = record

  def get(self, run):
    return self._record


def render(record):
  """Everything that is made of a record's numbers."""
  report.compare({'it': record}, 12.0)
  one, run = One(record), scales.settings('tiny', 'transformer')
  report.summary(one, {'transformer': {'it': run}})
  one.cell(run), one.mean(run), one.seconds(run, 12.0)
  one.curve(run, 'updates'), one.curve(run, 'virtual_seconds')
  agrees(record['config'], run)


def nulls(value):
  """With null for what is not a number, as in the file."""
  if isinstance(value, dict):
    return {k: nulls(v) for k, v in value.items()}
  if isinstance(value, list):
    return [nulls(v) for v in value]
  return None if isinstance(value, float) and math.isnan(value) else value


@pytest.fixture(scope='module')
def record_path(tmp_path_factory):
  return tmp_path_factory.mktemp('records') / 'record.json'


@pytest.mark.slow
@examples(400)
@given(changed_json(RECORD))
def test_values_of_records(record_path, value):
  text = json.dumps(value)
  record_path.write_text(text)
  found = outcome(lambda: record_lib.read(record_path), str(record_path))
  if found is None:
    return
  assert nulls(found) == value
  render(found)
  record_lib.write(record_path, found)
  assert nulls(record_lib.read(record_path)) == value


@examples(200)
@given(damaged(json.dumps(RECORD, ensure_ascii=False).encode()))
def test_files_of_records(record_path, data):
  record_path.write_bytes(data)
  found = outcome(lambda: record_lib.read(record_path), str(record_path))
  if found is not None:
    render(found)
    assert nulls(found) == json.loads(data)


# Files of parameters.

SIZES = dict(scales.settings('micro', 'transformer').sizes)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(directory as a run leaves it, bytes of params.npz, parameters)."""
  folder = tmp_path_factory.mktemp('params')
  lines = ['the old man reads a book', 'a woman sees the man'] * 4
  pieces = vocabulary.train(corpus.Pairs(lines, lines), 30, folder / 'cache')
  pieces.save(folder / translation.VOCABULARY)
  model = translation.Model('transformer', pieces, SIZES)
  params = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
  path = folder / 'params.npz'
  checkpoint.save(path, params, {'model': 'transformer', 'sizes': SIZES})
  return path, path.read_bytes(), params


@pytest.mark.slow
@examples(150)
@given(st.data())
def test_files_of_parameters(trained, data):
  path, good, params = trained
  path.write_bytes(data.draw(damaged(good)))
  found = outcome(lambda: translation.load(path.parent)[1], str(path))
  if found is not None:
    jax.tree.map(np.testing.assert_array_equal, found, params)


METADATA = changed_json({'model': 'transformer', 'sizes': SIZES})


@examples(40)
@given(METADATA)
def test_parameters_of_another_model(trained, metadata):
  path, _, params = trained
  values = [value for value in walk(metadata) if isinstance(value, int | float)]
  hypothesis.assume(all(abs(v) < 64 for v in values if v == v))  # To build it.
  if outcome(
    lambda: checkpoint.save(path, params, metadata) or True,
    errors=(ValueError, TypeError),
  ):
    found = outcome(lambda: translation.load(path.parent), str(path))
    if found is not None:
      assert found[0].kind == 'transformer'
      jax.tree.map(np.testing.assert_array_equal, found[1], params)


def walk(value):
  for path in places(value):
    part = value
    for key in path:
      part = part[key]
    yield part


def test_the_fuzz_notices():
  """A traceback, an error of two lines, and one that names nothing."""
  with pytest.raises(KeyError):
    outcome(lambda: {}['a'])
  for text in ('two\nlines', ' ', 'nothing'):

    def refuse(text=text):
      raise ValueError(text)

    with pytest.raises(AssertionError):
      outcome(refuse, 'name')
  assert re.match('name', 'name=1') and outcome(lambda: 5) == 5
