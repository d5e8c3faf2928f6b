"""Traces: what they hold, on disk and off; and shares, counted by hand."""

import hashlib
import json
import math
import os

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given

import stale_adam as sa
from stale_adam import trace
from stale_adam.worker import Push

ORDER = st.lists(st.integers(0, 2**31 - 1), max_size=20)
SETTINGS = {
  'communication': {'workers': 4, 'synchronous': False},
  'seed': 0,
  'problem': {'sizes': [2, 3], 'note': 'ä', 'none': None},
}


def made(order, seconds=None, dtype=np.int32):
  seconds = range(len(order)) if seconds is None else seconds
  return sa.Trace(np.array(order, dtype), np.array(seconds, np.float64))


def push(
  worker, version, staleness, pushes, seconds, times=None, measured=None
):
  """A stand-in for what `serve` yields."""
  return Push(
    worker=worker,
    pulled_version=version,
    ids=[0],
    seconds=seconds,
    loss=jnp.float32(seconds / 2),
    message=None,
    staleness=staleness,
    staleness_pushes=pushes,
    age_seconds=seconds / 4,
    times=times,
    measured=measured,
  )


# Two equal workers: pull 0.25, compute 1, push 0.25, update 0.5. The second
# waits at the server while the first's update is made.
ASYNCHRONOUS = [
  push(0, 0, 0, 0, 1.5, (0, 0.25, 1.25, 1.5)),
  push(1, 0, 1, 1, 2.0, (0, 0.25, 1.25, 1.5)),
  push(0, 1, 1, 1, 3.5, (2, 2.25, 3.25, 3.5)),
  push(1, 2, 1, 1, 4.0, (2.5, 2.75, 3.75, 4.0)),
]
# Worker 1 takes twice as long; an update takes 0.5, all else no time.
SYNCHRONOUS = [
  push(0, 0, 0, 0, 1.0, (0, 0, 1, 1)),
  push(1, 0, 0, 1, 2.0, (0, 0, 2, 2)),
  push(0, 1, 0, 0, 3.5, (2.5, 2.5, 3.5, 3.5)),
  push(1, 1, 0, 1, 4.5, (2.5, 2.5, 4.5, 4.5)),
]


def same(found, expected):
  """Whether two traces agree bit for bit."""
  arrays = lambda t: {'worker': t.worker, 'seconds': t.seconds} | t.columns
  bits = lambda t: {
    name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays(t).items()
  }
  return bits(found) == bits(expected) and found.settings == expected.settings


def test_digest_is_that_of_little_endian_32_bit_numbers():
  """Golden: records hold digests, so this must never change."""
  expected = hashlib.sha256(b'\2\0\0\0\0\0\0\0\1\1\0\0').hexdigest()
  assert made([2, 0, 257]).digest() == expected
  assert made([]).digest() == hashlib.sha256(b'').hexdigest()


@given(ORDER, st.floats(0, 1e9))
def test_digest_ignores_seconds_and_memory_layout(order, offset):
  plain = made(order)
  later = made(order, [offset + 2 * i for i in range(len(order))])
  assert later.digest() == plain.digest()
  assert made(order, dtype='>i8').digest() == plain.digest()
  doubled = sa.Trace(np.repeat(plain.worker, 2)[::2], plain.seconds)
  assert doubled.digest() == plain.digest()


@given(ORDER, ORDER)
def test_digest_tells_orders_apart(first, second):
  same = made(first).digest() == made(second).digest()
  assert same == (first == second)
  assert made([*first, 0]).digest() != made(first).digest()


def test_lists_become_arrays():
  made = sa.Trace([2, 0], [1, 2], {'a': [1.5, 2.5]}, {'t': (1, np.int64(2))})
  assert made.worker.dtype == np.int32 and made.worker.tolist() == [2, 0]
  assert made.seconds.dtype == np.float64
  assert made.columns['a'].tolist() == [1.5, 2.5]
  assert made.settings == {'t': [1, 2]}
  assert len(made) == 2 and len(sa.Trace([], [])) == 0


@pytest.mark.parametrize(
  'arguments, message',
  [
    (([[0]], [[1.0]]), r'worker has shape \(1, 1\)'),
    (([0, 1], [1.0]), r'seconds has shape \(1,\).*each of the 2 arrivals'),
    (([0], [1.0], {'loss': [1.0, 2.0]}), r'loss has shape \(2,\)'),
    (([0], [1.0], {'loss': ['a']}), 'loss has .* type <U1'),
    (([0, -1], [1, 2]), 'runs from -1 to 0'),
    (([0, 2**31], [1, 2]), 'runs from 0 to 2147483648'),
    (([0.0, 1.0], [1, 2]), 'type float64: use whole numbers'),
    (([0], [1.0], {}, {'a': math.nan}), 'JSON'),
    ((['a'], [0]), 'worker has type <U1: use whole numbers'),
    (([0], ['a']), 'seconds has .* type <U1'),
    (([[0], [1, 2]], [0, 1]), 'worker is no array of numbers'),
  ],
)
def test_what_is_no_trace(arguments, message):
  with pytest.raises(ValueError, match=message):
    sa.Trace(*arguments)


@pytest.mark.parametrize('given', [[], [1], 'a', None])
@pytest.mark.parametrize('name', ['settings', 'columns'])
def test_what_has_names_is_a_mapping(name, given):
  with pytest.raises(TypeError, match=f'{name}=.*use a mapping by name'):
    sa.Trace([0], [1.0], **{name: given})


def test_settings_are_what_json_can_hold():
  with pytest.raises(TypeError, match='settings hold <object .*use what JSON'):
    sa.Trace([0], [1.0], {}, {'a': object()})


def test_columns_of_pushes():
  found = sa.Trace.of(iter(ASYNCHRONOUS), {'seed': 3})
  expected = {
    'pulled_version': ('int32', [0, 0, 1, 2]),
    'staleness': ('int32', [0, 1, 1, 1]),
    'staleness_pushes': ('int32', [0, 1, 1, 1]),
    'used': ('int32', [1, 1, 1, 1]),
    'restarted': ('int32', [0, 0, 0, 0]),
    'age_seconds': ('float32', [0.375, 0.5, 0.875, 1.0]),
    'loss': ('float32', [0.75, 1.0, 1.75, 2.0]),
    'nbytes': ('int64', [0, 0, 0, 0]),
    'pulled': ('float64', [0, 0, 2, 2.5]),
    'started': ('float64', [0.25, 0.25, 2.25, 2.75]),
    'computed': ('float64', [1.25, 1.25, 3.25, 3.75]),
    'arrived': ('float64', [1.5, 1.5, 3.5, 4.0]),
  }
  columns = found.columns.items()
  assert {k: (str(c.dtype), c.tolist()) for k, c in columns} == expected
  assert found.worker.tolist() == [0, 1, 0, 1]
  assert found.seconds.tolist() == [1.5, 2, 3.5, 4]
  assert found.settings == {'seed': 3}


def test_columns_that_were_measured_and_times_that_were_not():
  pushes = [
    push(0, 0, 0, 0, i, measured={'norm': jnp.float32(i), 'cosine': np.nan})
    for i in range(3)
  ]
  columns = sa.Trace.of(pushes).columns
  assert columns['norm'].tolist() == [0, 1, 2]
  assert columns['norm'].dtype == columns['cosine'].dtype == np.float32
  assert np.isnan(columns['cosine']).all()
  assert not columns.keys() & {'pulled', 'started', 'computed', 'arrived'}
  assert len(sa.Trace.of([])) == 0


@pytest.mark.parametrize(
  'communication, clock, expected',
  [
    (
      sa.Communication(2),
      sa.Clock(1, push_seconds=0.25, pull_seconds=0.25, update_seconds=0.5),
      ASYNCHRONOUS,
    ),
    (
      sa.Communication(2, synchronous=True),
      sa.Clock(1, update_seconds=0.5, speeds=(1, 0.5)),
      SYNCHRONOUS,
    ),
  ],
)
def test_a_real_run_is_that_by_hand(
  linear, served, communication, clock, expected
):
  pool = sa.pools.Virtual(clock)
  pushes, _ = served(linear, optax.sgd(0.1), communication, pool, 4)
  found, expected = sa.Trace.of(pushes), sa.Trace.of(expected)
  own = {'age_seconds', 'loss', 'nbytes'}  # Made up for the stand-ins.
  assert own < found.columns.keys()
  keep = lambda t: {k: c.tolist() for k, c in t.columns.items() if k not in own}
  assert keep(found) == keep(expected)
  assert found.worker.tolist() == expected.worker.tolist()
  assert found.seconds.tolist() == expected.seconds.tolist()


@pytest.mark.slow
@hypothesis.settings(max_examples=40)
@given(
  ORDER,
  st.dictionaries(st.text(max_size=5), st.sampled_from('?ifd'), max_size=4),
  st.dictionaries(st.text(max_size=5), st.none() | st.integers(), max_size=3),
)
def test_any_trace_comes_back(tmp_path_factory, order, columns, settings):
  path = tmp_path_factory.getbasetemp() / 'any' / 'trace.npz'
  columns = {k: np.arange(len(order)).astype(d) for k, d in columns.items()}
  saved = sa.Trace(order, np.arange(len(order)) / 3, columns, settings)
  saved.save(path)
  assert same(sa.Trace.load(path), saved)
  assert os.listdir(path.parent) == ['trace.npz']


def test_a_run_comes_back(tmp_path):
  saved = sa.Trace.of(ASYNCHRONOUS, SETTINGS)
  saved.save(tmp_path / 'trace.npz')
  assert same(sa.Trace.load(tmp_path / 'trace.npz'), saved)
  saved.save(str(tmp_path / 'no_ending'))
  assert same(sa.Trace.load(str(tmp_path / 'no_ending')), saved)


def test_files_are_small(tmp_path):
  """Regular orders take next to nothing."""
  made([i % 4 for i in range(10_000)]).save(tmp_path / 'trace.npz')
  assert (tmp_path / 'trace.npz').stat().st_size < 40_000  # Of 120,000.


def test_what_cannot_be_written_leaves_the_old_file_whole(
  tmp_path, monkeypatch
):
  def full(file, **arrays):
    file.write(b'half')
    raise OSError('no space left')

  made([0, 1]).save(tmp_path / 'trace.npz')
  monkeypatch.setattr(np, 'savez_compressed', full)
  with pytest.raises(OSError, match='no space'):
    made([1, 0]).save(tmp_path / 'trace.npz')
  assert same(sa.Trace.load(tmp_path / 'trace.npz'), made([0, 1]))


@pytest.mark.slow
def test_no_flipped_byte_goes_unnoticed(tmp_path):
  small = sa.Trace([1, 0, 1], [1, 2, 3], {'loss': np.ones(3)}, {'seed': 1})
  small.save(tmp_path / 'good.npz')
  data = (tmp_path / 'good.npz').read_bytes()
  damaged = tmp_path / 'damaged.npz'
  noticed, wrong = 0, {}
  for at in range(len(data)):
    for mask in (1, 255):
      changed = bytearray(data)
      changed[at] ^= mask
      damaged.write_bytes(changed)
      try:
        found = sa.Trace.load(damaged)
      except ValueError as error:
        assert 'damaged.npz is damaged' in str(error)
        noticed += 1
      except Exception as error:
        wrong[at, mask] = repr(error)
      else:
        # A byte that nobody reads, such as the time of writing, may differ.
        if not same(found, small):
          wrong[at, mask] = f'other values: {found}'
  assert noticed > len(data)  # Of twice as many.
  assert not wrong


def test_a_truncated_file(tmp_path):
  path = tmp_path / 'trace.npz'
  made([0, 1, 2]).save(path)
  data = path.read_bytes()
  for length in [*range(0, len(data), 7), len(data) - 1]:
    path.write_bytes(data[:length])
    with pytest.raises(ValueError, match='trace.npz is damaged'):
      sa.Trace.load(path)


def test_a_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match='trace.npz'):
    sa.Trace.load(tmp_path / 'trace.npz')


def _text(path):
  path.write_text('0 1 0 1\n')


def _array(path):
  with open(path, 'wb') as file:
    np.save(file, np.ones(3))


def _archive(path):
  np.savez(path, worker=np.zeros(3, np.int32), seconds=np.ones(3))


def _objects(path):
  np.savez(path, header=np.array([{}], object))


def _changed(path, header=None, **arrays):
  made([0, 1]).save(path)
  with np.load(path) as archive:
    old = dict(archive)
  header = json.dumps(json.loads(str(old['header'])) | (header or {}))
  np.savez(path, **(old | {'header': np.array(header)} | arrays))


def _other_order(path):
  _changed(path, worker=np.array([1, 0], np.int32))


def _other_length(path):
  _changed(path, seconds=np.ones(3))


def _fewer_columns(path):
  _changed(path, {'columns': ['loss']})


@pytest.mark.parametrize(
  'make, reason',
  [
    (_text, ''),
    (_array, ''),
    (_archive, 'header'),
    (_objects, 'allow_pickle'),
    (_other_order, 'the order is not the one that was saved'),
    (_other_length, r'seconds has shape \(3,\)'),
    (_fewer_columns, 'column_0'),
    (os.mkdir, 'directory'),
  ],
)
def test_a_file_of_something_else(tmp_path, make, reason):
  path = tmp_path / 'other.npz'
  make(path)
  with pytest.raises(
    ValueError, match=f'other.npz .*no trace .*{reason}.*record the run again'
  ):
    sa.Trace.load(path)


@pytest.mark.parametrize(
  'found, said', [(3, 'a newer format, 3;'), (1, 'an older format, 1;')]
)
def test_another_format_is_no_damage(tmp_path, found, said):
  _changed(tmp_path / 'trace.npz', {'format': found})
  wanted = f'trace.npz is a trace of {said} this version reads format 2'
  with pytest.raises(ValueError, match=wanted):
    sa.Trace.load(tmp_path / 'trace.npz')


def test_a_changed_header_alone_is_no_damage(tmp_path):
  """So that the cases above are not refused for something else."""
  _changed(tmp_path / 'trace.npz')
  assert same(sa.Trace.load(tmp_path / 'trace.npz'), made([0, 1]))


def test_settings_that_agree():
  recorded = sa.Trace([0], [1.0], settings=SETTINGS)
  recorded.check(SETTINGS)
  recorded.check(SETTINGS | {'seed': np.int64(0)})
  recorded.check(
    SETTINGS | {'problem': SETTINGS['problem'] | {'sizes': (2, 3)}}
  )
  made([0]).check({})


@pytest.mark.parametrize(
  'change, differences',
  [
    ({'seed': 1}, ['seed: 0 in the trace, 1 here']),
    (
      {'communication': {'workers': 3, 'synchronous': True}},
      [
        'communication.workers: 4 in the trace, 3 here',
        'communication.synchronous: False in the trace, True here',
      ],
    ),
    (
      {'communication': {'workers': 4, 'pull_every': 2}},
      [
        'communication.synchronous: False in the trace, nothing here',
        'communication.pull_every: nothing in the trace, 2 here',
      ],
    ),
    ({'problem': 'toy'}, ['in the trace, toy here']),
    ({'more': None}, ['more: nothing in the trace, None here']),
  ],
)
def test_settings_that_differ(change, differences):
  with pytest.raises(ValueError) as caught:
    sa.Trace([0], [1.0], settings=SETTINGS).check(SETTINGS | change)
  message = str(caught.value)
  assert message.count(' in the trace, ') == len(differences)
  for difference in [*differences, 'counterfactual=True']:
    assert difference in message


def test_the_error_of_an_order_that_cannot_happen():
  error = trace.infeasible(7, 2, [3, 0])
  assert isinstance(error, ValueError)
  assert 'arrival 7 ' in str(error) and 'worker 2,' in str(error)
  assert 'in flight: 0, 3.' in str(error)
  assert 'in flight: none.' in str(trace.infeasible(0, 9, []))
  many = str(trace.infeasible(0, 2000, range(1024)))
  assert 'in flight: 0, 1, 2, 3, 4, 5, 6, ..., 1023.' in many


def test_histogram():
  histogram = trace.staleness_histogram([3, 0, 3, 1, 3, 0])
  assert histogram == {0: 2, 1: 1, 3: 3}
  assert list(histogram) == [0, 1, 3]
  assert trace.staleness_histogram([]) == {}


@pytest.mark.parametrize(
  'pushes, until, workers, server',
  [
    # The replies to the last two arrivals are not known.
    (ASYNCHRONOUS, [2, 2.5, 3.5, 4], 4 / (2 * 4), 1 / 4),
    (SYNCHRONOUS, [1, 2.5, 3.5, 4.5], 6 / (2 * 4.5), 0.5 / 4.5),
  ],
)
def test_busy_shares_by_hand(pushes, until, workers, server):
  made = sa.Trace.of(pushes)
  assert trace.busy_until(made).tolist() == until
  share = trace.busy_share(made, 2)
  assert share == {
    'workers': pytest.approx(workers),
    'server': pytest.approx(server),
  }
  assert all(type(value) is float for value in share.values())
  halved = trace.busy_share(made, 4)
  assert halved['workers'] == pytest.approx(workers / 2)


def test_a_reply_to_another_keeps_the_server_from_nothing():
  """Worker 0's push at 1 is answered at 2, as worker 1 arrives: no update."""
  made = sa.Trace.of(
    [
      push(0, 0, 0, 0, 1.0, (0, 0, 1, 1)),
      push(1, 0, 0, 1, 2.0, (0, 0, 2, 2)),
      push(0, 1, 0, 0, 3.0, (2, 2, 3, 3)),
    ]
  )
  assert trace.answered(made).tolist() == [-1, -1, 1]
  assert trace.busy_share(made, 2)['server'] == 0


def test_busy_shares_of_no_time():
  empty = trace.busy_share(sa.Trace.of([]), 1)
  at_once = trace.busy_share(
    sa.Trace.of([push(0, 0, 0, 0, 0.0, (0, 0, 0, 0))]), 1
  )
  for share in (empty, at_once):
    assert math.isnan(share['workers']) and math.isnan(share['server'])


def test_busy_shares_need_times_and_all_workers():
  with pytest.raises(ValueError, match="no columns .*'pulled'.* a replay"):
    trace.busy_share(sa.Trace.of([push(0, 0, 0, 0, 1.0)]), 1)
  with pytest.raises(ValueError, match='workers=1: worker 1 arrives'):
    trace.busy_share(sa.Trace.of(ASYNCHRONOUS), 1)
