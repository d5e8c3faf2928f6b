"""The picture of a run, by hand and by the rules of Perfetto."""

import collections
import json
import math

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings

import stale_adam as sa
from stale_adam import timeline, trace
from stale_adam.worker import Push

KEYS = {
  'M': {'args'},
  'X': {'ts', 'dur', 'args'},
  'C': {'ts', 'args'},
  's': {'ts', 'id', 'cat'},
  't': {'ts', 'id', 'cat'},
  'f': {'ts', 'id', 'cat', 'bp'},
}
NAMES = {'process_name': str, 'thread_name': str}
PLACES = {'process_sort_index': int, 'thread_sort_index': int}


def refuse(value):
  raise ValueError(f'{value} is not JSON')


def once(pairs):
  assert len(dict(pairs)) == len(pairs), f'a key appears twice: {pairs}'
  return dict(pairs)


def parsed(text):
  """Reads strict JSON: the one object of the format."""
  found = json.loads(text, parse_constant=refuse, object_pairs_hook=once)
  assert found.keys() == {'traceEvents', 'displayTimeUnit'}
  assert found['displayTimeUnit'] in ('ms', 'ns')
  return found['traceEvents']


def whole(value):
  return type(value) is int and 0 <= value < 2**63


def shape(event):
  """Checks an event by itself: its keys and their types."""
  assert event['ph'] in KEYS, f'phase {event["ph"]}'
  needed = KEYS[event['ph']] | {'ph', 'name', 'pid', 'tid'}
  assert needed <= event.keys() <= needed | {'ts'}, f'keys of {event}'
  assert isinstance(event['name'], str) and event['name'], f'name: {event}'
  for key in event.keys() & {'ts', 'dur', 'id'}:
    assert whole(event[key]), f'{key} of {event}'
  for key in ('pid', 'tid'):
    assert whole(event[key]) and 0 < event[key] < 2**32, f'{key} of {event}'
  if event['ph'] == 'M':
    kinds = NAMES | PLACES
    assert event['name'] in kinds, f'metadata: {event}'
    key = 'name' if event['name'] in NAMES else 'sort_index'
    assert list(event['args']) == [key], f'metadata: {event}'
    assert type(event['args'][key]) is kinds[event['name']]
  if event['ph'] == 'C':
    assert event['args'], f'a counter of nothing: {event}'
    for value in event['args'].values():
      assert type(value) in (int, float) and math.isfinite(value), f'{event}'


def read(events):
  """Checks all events, and ties arrows to slices as Perfetto does.

  A track is a stack of slices. Slices that have ended are removed when the next
  begins; that one may lie in the top slice, but not reach beyond it. An arrow's
  end belongs to the slice that is on top at that place of the file.

  Returns:
    (slices, arrows): (track's name, name, begin, duration) of every slice; and
    of each arrow, by id, those that it connects.
  """
  names, slices = {}, []
  stacks = collections.defaultdict(list)
  arrows = collections.defaultdict(list)
  now = 0
  for event in events:
    shape(event)
    phase, track = event['ph'], (event['pid'], event['tid'])
    if phase == 'M':
      place = track if event['name'].startswith('thread') else track[:1]
      assert (place, event['name']) not in names, f'named twice: {event}'
      names[place, event['name']] = event['args']
      continue
    for place, kind in ((track, 'thread'), (track[:1], 'process')):
      for what in ('name', 'sort_index'):
        assert (place, f'{kind}_{what}') in names, f'no name yet: {event}'
    assert event['ts'] >= now, f'out of order: {event}'
    now = event['ts']
    stack = stacks[track]
    if phase == 'X':
      begin, duration = now, event['dur']
      # Instants alone may lie on each other.
      while stack and sum(stack[-1][2:]) <= begin:
        if stack[-1][2:] == (begin, 0) and duration == 0:
          break
        stack.pop()
      if stack:
        assert begin + duration <= sum(stack[-1][2:]), f'overlaps: {event}'
      name = names[track, 'thread_name']['name']
      stack.append((name, event['name'], begin, duration))
      slices.append(stack[-1])
    elif phase in 'stf':
      assert stack, f'an arrow in no slice: {event}'
      begin, duration = stack[-1][2:]
      inside = now == begin or begin < now < begin + duration
      assert inside, f'beside its slice: {event}'
      if phase == 'f':
        assert event['bp'] == 'e', f'tied to a later slice: {event}'
      arrow = arrows[event['name'], event['cat'], event['id']]
      arrow.append((phase, stack[-1]))
  for key, arrow in arrows.items():
    phases = ''.join(phase for phase, _ in arrow)
    assert phases == 'stf', f'arrow {key} is {phases}'
  assert len({tid for place, _ in names for tid in place[1:]}) == len(
    [place for place, what in names if what == 'thread_name']
  ), 'threads share a number'
  ends = lambda arrow: [end for _, end in arrow]
  return slices, {key[2]: ends(arrow) for key, arrow in arrows.items()}


def push(worker, version, staleness, pushes, seconds, times, loss=1.0):
  """A stand-in for what `serve` yields; seconds are halves and quarters."""
  return Push(
    worker=worker,
    pulled_version=version,
    ids=[0],
    seconds=seconds,
    loss=jnp.float32(loss),
    message=None,
    staleness=staleness,
    staleness_pushes=pushes,
    age_seconds=0.0,
    times=times,
    measured=None,
  )


# Two equal workers: pull 0.25, compute 1, push 0.25, update 0.5. The second
# waits at the server while the first's update is made.
ASYNCHRONOUS = [
  push(0, 0, 0, 0, 1.5, (0, 0.25, 1.25, 1.5)),
  push(1, 0, 1, 1, 2.0, (0, 0.25, 1.25, 1.5)),
  push(0, 1, 1, 1, 3.5, (2, 2.25, 3.25, 3.5), math.nan),
  push(1, 2, 1, 1, 4.0, (2.5, 2.75, 3.75, 4.0), 0.5),
]
# Worker 1 takes twice as long; an update takes 0.5, all else no time.
SYNCHRONOUS = [
  push(0, 0, 0, 0, 1.0, (0, 0, 1, 1)),
  push(1, 0, 0, 1, 2.0, (0, 0, 2, 2)),
  push(0, 1, 0, 0, 3.5, (2.5, 2.5, 3.5, 3.5)),
  push(1, 1, 0, 1, 4.5, (2.5, 2.5, 4.5, 4.5)),
]


@pytest.fixture
def events(tmp_path):
  """Writes a trace, and reads its events."""

  def write(made):
    timeline.write(tmp_path / 'timeline.json', made)
    return parsed((tmp_path / 'timeline.json').read_text('utf-8'))

  return write


def in_seconds(slices):
  """By track: (name, begin, end), in seconds."""
  tracks = collections.defaultdict(list)
  for track, name, begin, duration in slices:
    tracks[track].append((name, begin / 1e6, (begin + duration) / 1e6))
  return tracks


def test_an_asynchronous_run(events):
  slices, arrows = read(events(sa.Trace.of(ASYNCHRONOUS)))
  assert in_seconds(slices) == {
    'server': [
      ('pull', 0, 0),
      ('update', 1.5, 2),
      ('update', 2, 2.5),
      ('update', 3.5, 3.5),  # Its reply is not in the trace,
      ('push', 4, 4),  # and of the last one the version neither.
    ],
    'worker 0': [
      ('pull', 0, 0.25),
      ('compute', 0.25, 1.25),
      ('push', 1.25, 1.5),
      ('wait', 1.5, 2),
      ('pull', 2, 2.25),
      ('compute', 2.25, 3.25),
      ('push', 3.25, 3.5),
    ],
    'worker 1': [
      ('pull', 0, 0.25),
      ('compute', 0.25, 1.25),
      ('push', 1.25, 1.5),
      ('wait', 1.5, 2.5),
      ('pull', 2.5, 2.75),
      ('compute', 2.75, 3.75),
      ('push', 3.75, 4),
    ],
  }
  server = [s for s in slices if s[0] == 'server']
  compute = lambda w, at: (f'worker {w}', 'compute', int(at * 1e6), 1_000_000)
  assert arrows == {
    0: [server[0], compute(0, 0.25), server[1]],
    1: [server[0], compute(1, 0.25), server[2]],
    2: [server[1], compute(0, 2.25), server[3]],
    3: [server[2], compute(1, 2.75), server[4]],
  }


def test_a_synchronous_run(events):
  slices, arrows = read(events(sa.Trace.of(SYNCHRONOUS)))
  assert in_seconds(slices) == {
    'server': [
      ('pull', 0, 0),
      ('push', 1, 1),
      ('update', 2, 2.5),
      ('push', 3.5, 3.5),
      ('push', 4.5, 4.5),
    ],
    'worker 0': [('compute', 0, 1), ('wait', 1, 2.5), ('compute', 2.5, 3.5)],
    'worker 1': [('compute', 0, 2), ('wait', 2, 2.5), ('compute', 2.5, 4.5)],
  }
  names = lambda arrow: [(s[0], s[1], s[2] / 1e6) for s in arrow]
  assert names(arrows[2]) == [
    ('server', 'update', 2),
    ('worker 0', 'compute', 2.5),
    ('server', 'push', 3.5),
  ]
  assert [names(arrows[i])[0] for i in range(4)] == [
    ('server', 'pull', 0),
    ('server', 'pull', 0),
    ('server', 'update', 2),
    ('server', 'update', 2),
  ]


def test_counters_and_what_slices_tell(events):
  """A loss that is not finite is left out."""
  found = events(sa.Trace.of(ASYNCHRONOUS))
  counters = collections.defaultdict(list)
  for event in found:
    if event['ph'] == 'C':
      (value,) = event['args'].items()
      counters[event['name']].append((event['ts'] / 1e6, *value))
  times = [1.5, 2, 3.5, 4]
  rows = lambda unit, values: [
    (at, unit, value)
    for at, value in zip(times, values, strict=True)
    if value is not None
  ]
  assert counters == {
    'staleness': rows('updates', [0, 1, 1, 1]),
    'version': rows('updates', [0, 1, 2, 3]),
    'loss': rows('mean', [1, 1, None, 0.5]),
  }
  computed = [e['args'] for e in found if e['name'] == 'compute']
  assert computed == [
    {'pulled_version': 0, 'staleness': 0, 'loss': 1.0},
    {'pulled_version': 0, 'staleness': 1, 'loss': 1.0},
    {'pulled_version': 1, 'staleness': 1},
    {'pulled_version': 2, 'staleness': 1, 'loss': 0.5},
  ]


def test_files_are_equal_byte_for_byte(tmp_path):
  made = sa.Trace.of(ASYNCHRONOUS)
  made.save(tmp_path / 'trace.npz')
  timeline.write(tmp_path / 'new' / 'a.json', made)
  timeline.write(
    str(tmp_path / 'b.json'), sa.Trace.load(tmp_path / 'trace.npz')
  )
  first = (tmp_path / 'new' / 'a.json').read_bytes()
  assert first == (tmp_path / 'b.json').read_bytes()
  # A unit at the beginning was once taken for that of `ts`.
  assert first.index(b'"traceEvents"') < first.index(b'"displayTimeUnit"')


def test_a_run_of_nothing(events):
  assert read(events(sa.Trace.of([]))) == ([], {})


def test_a_replay_has_no_times(tmp_path):
  replayed = sa.Trace.of([push(0, 0, 0, 0, 1.0, None)])
  with pytest.raises(ValueError, match='no columns .* a replay'):
    timeline.write(tmp_path / 'timeline.json', replayed)
  assert not list(tmp_path.iterdir())


def test_times_out_of_order_by_a_hair(events):
  """Two sums of the same numbers, and workers whose clocks are wrong."""
  late = 0.1 + 0.2  # 0.30000000000000004
  pushes = [
    push(0, 0, 0, 0, 0.3, (0, 0, late, 0.3)),
    push(1, 0, 1, 1, 0.5, (0, -0.01, 0.4, 0.6)),
    push(2, 0, 2, 2, 0.8, (0, 0.7, 0.69, 0.7)),
  ]
  slices, _ = read(events(sa.Trace.of(pushes)))
  tracks = in_seconds(slices)
  assert tracks['worker 0'] == [('compute', 0, 0.3)]
  assert tracks['worker 1'] == [('compute', 0, 0.4), ('push', 0.4, 0.5)]
  assert tracks['worker 2'] == [('pull', 0, 0.7), ('compute', 0.7, 0.7)]


DURATION = st.sampled_from([0.0, 1e-7, 1 / 3, 1.0]) | st.floats(0, 2)


@pytest.mark.slow
@settings(max_examples=25)
@given(
  numbers=st.tuples(*[st.integers(1, 3)] * 4),
  synchronous=st.booleans(),
  durations=st.tuples(*[DURATION] * 4),
  distribution=st.sampled_from(['equal', 'gamma']),
)
def test_any_run_can_be_read(
  tmp_path_factory,
  linear,
  served,
  numbers,
  synchronous,
  durations,
  distribution,
):
  """And its slices add up to what the trace's columns say."""
  workers, local, together, every = numbers
  communication = sa.Communication(
    workers, local, 1 if synchronous else together, synchronous, every
  )
  spread = 0.5 if distribution == 'gamma' else 0.0
  clock = sa.Clock(*durations, distribution, spread, speeds=(1.0, 0.7))
  pool = sa.pools.Virtual(clock)
  pushes, states = served(linear, optax.sgd(0.1), communication, pool, 12)
  made = sa.Trace.of(pushes)
  path = tmp_path_factory.getbasetemp() / 'timeline.json'
  timeline.write(path, made)
  slices, arrows = read(parsed(path.read_text('utf-8')))
  assert sorted(arrows) == list(range(12))
  micro = np.rint(np.array([push.seconds for push in pushes]) * 1e6)
  arrived = [arrow[2][2] for _, arrow in sorted(arrows.items())]
  assert arrived == micro.tolist()
  server = [s for s in slices if s[0] == 'server'][1:]
  versions = [state.version for state in states]
  rose = np.diff([0, *versions[:-1]]) > 0
  assert [s[1] == 'update' for s in server] == [*rose, False]
  total = lambda name: sum(s[3] for s in slices if s[1] == name) / 1e6
  columns = made.columns
  computing = np.sum(columns['computed'] - columns['started'])
  assert total('compute') == pytest.approx(computing, abs=24e-6)
  busy = np.sum(trace.busy_until(made) - made.seconds)
  assert sum(s[3] for s in server) / 1e6 == pytest.approx(busy, abs=24e-6)


def _without(events, key):
  del next(e for e in events if key in e)[key]


def _set(events, phase, key, value, which=0):
  [e for e in events if e['ph'] == phase][which][key] = value


def _drop(events, phase):
  events.remove(next(e for e in events if e['ph'] == phase))


def _swap(events, phase):
  """Moves an event before the one that it follows."""
  at = next(i for i, e in enumerate(events) if e['ph'] == phase)
  events[at - 1], events[at] = events[at], events[at - 1]


@pytest.mark.parametrize(
  'spoil, message',
  [
    (lambda e: _without(e, 'dur'), 'keys of'),
    (lambda e: _without(e, 'id'), 'keys of'),
    (lambda e: _set(e, 'X', 'ph', 'B'), 'phase B'),
    (lambda e: _set(e, 'X', 'dur', -1), 'dur of'),
    (lambda e: _set(e, 'X', 'dur', 0.5), 'dur of'),
    (lambda e: _set(e, 'X', 'ts', '0'), 'ts of'),
    (lambda e: _set(e, 'X', 'tid', 0), 'tid of'),
    (lambda e: _set(e, 'X', 'tid', 99), 'no name yet'),
    (lambda e: _set(e, 'X', 'dur', 300_000, 1), 'overlaps'),
    (lambda e: _set(e, 'X', 'ts', 9_000_000, 1), 'out of order'),
    (lambda e: _set(e, 'C', 'args', {}), 'a counter of nothing'),
    (lambda e: _set(e, 'C', 'args', {'mean': None}), 'mean'),
    (lambda e: _set(e, 'M', 'name', 'process_title'), 'metadata'),
    (lambda e: _set(e, 'M', 'args', {'name': 1}), 'int'),
    (lambda e: _drop(e, 'M'), 'no name yet'),
    (lambda e: _drop(e, 's'), 'is tf'),
    (lambda e: _drop(e, 't'), 'is sf'),
    (lambda e: _drop(e, 'f'), 'is st'),
    (lambda e: _swap(e, 's'), 'an arrow in no slice'),
    (lambda e: _swap(e, 't'), 'beside its slice'),
    (lambda e: _swap(e, 'f'), 'beside its slice'),
    (lambda e: _set(e, 'f', 'bp', 's'), 'tied to a later slice'),
    (lambda e: _set(e, 'f', 'id', 77), 'is st'),
    (lambda e: _set(e, 'f', 'name', 'other'), 'is st'),
  ],
)
def test_a_fault_would_be_noticed(events, spoil, message):
  spoiled = events(sa.Trace.of(ASYNCHRONOUS))
  spoil(spoiled)
  with pytest.raises(AssertionError, match=message):
    read(spoiled)


@pytest.mark.parametrize(
  'text',
  [
    '[]',
    '{"traceEvents":[]}',
    '{"traceEvents":[NaN],"displayTimeUnit":"ms"}',
    '{"traceEvents":[{"ts":1,"ts":2}],"displayTimeUnit":"ms"}',
    '{"traceEvents":[],"displayTimeUnit":"us"}',
  ],
)
def test_other_files_would_be_noticed(text):
  with pytest.raises((AssertionError, AttributeError, ValueError)):
    parsed(text)
