"""A replay says that it is equal, or which push differs first, and why."""

import numpy as np
import pytest

from experiments.ledger import replay
from stale_adam.trace import Trace

COUNT = 6
SETTINGS = {
  'device': '1 x cpu, 2 cores',
  'devices': 1,
  'versions': {'jax': '1.0', 'numpy': '2.0'},
  'commit': 'c0ffee',
  'problem': {'text': {'name': 'a', 'sha256': 'abc'}, 'rate': 0.1},
}


def trace(settings=SETTINGS, count=COUNT, **changes):
  columns = {
    'pulled_version': np.arange(count, dtype=np.int32),
    'staleness': np.ones(count, np.int32),
    'loss': np.linspace(3, 1, count, dtype=np.float32),
  }
  for name, (push, value) in changes.items():
    columns[name][push] = value
  return Trace(np.arange(count) % 2, np.arange(count), columns, settings)


def test_equal_traces():
  assert replay.differs(trace(), trace()) is None
  # Times are those of each run.
  later = Trace(trace().worker, trace().seconds + 1, trace().columns, SETTINGS)
  assert replay.differs(trace(), later) is None


@pytest.mark.parametrize('push', [0, 3, COUNT - 1])
@pytest.mark.parametrize('name', replay.COMPARED)
def test_the_first_push_that_differs(name, push):
  changed = trace(**{name: (slice(push, None), 7)})
  found = replay.differs(trace(), changed)
  value = trace().columns[name][push]
  assert found.startswith(
    f'push {push + 1} of {COUNT} differs: {name} {value} recorded, '
  )
  assert '7' in found and 'none that the trace records' in found


def test_the_last_bit_counts():
  loss = trace().columns['loss'][2]
  changed = trace(loss=(2, np.nextafter(loss, np.float32(9))))
  assert replay.differs(trace(), changed).startswith('push 3 of 6')


def test_the_earliest_of_several_columns_is_named():
  found = replay.differs(trace(), trace(loss=(4, 9), staleness=(2, 5)))
  assert 'push 3 of 6 differs: staleness 1 recorded, 5 replayed;' in found
  both = replay.differs(trace(), trace(loss=(2, 9), staleness=(2, 5)))
  assert 'staleness 1' in both and 'loss ' in both and '9.0 replayed' in both


def test_losses_that_are_not_numbers_are_equal_to_themselves():
  nan = trace(loss=(2, np.nan))
  assert replay.differs(nan, trace(loss=(2, np.nan))) is None
  assert 'nan recorded' in replay.differs(nan, trace())
  assert 'nan replayed' in replay.differs(trace(), nan)


def test_zeros_of_different_sign_differ():
  found = replay.differs(trace(loss=(2, 0.0)), trace(loss=(2, -0.0)))
  assert found.startswith('push 3 of 6 differs: loss 0.0 recorded, -0.0')


def test_a_shorter_replay_differs():
  found = replay.differs(trace(), cut(4))
  assert found.startswith('6 pushes recorded, 4 replayed')


def cut(count):
  whole = trace()
  columns = {name: c[:count] for name, c in whole.columns.items()}
  return Trace(whole.worker[:count], whole.seconds[:count], columns, SETTINGS)


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'devices': 4}, 'another number of devices (devices: 1 there, 4 here)'),
    (
      {'device': '1 x cpu, 8 cores'},
      'another processor (device: "1 x cpu, 2 cores" there, "1 x cpu, 8 cores"',
    ),
    (
      {'versions': {'jax': '1.1', 'numpy': '2.0'}},
      'other versions (versions.jax: "1.0" there, "1.1" here)',
    ),
    (
      {'problem': {'text': {'name': 'a', 'sha256': 'xyz'}, 'rate': 0.1}},
      'another text (text.sha256: "abc" there, "xyz" here)',
    ),
    ({'commit': 'f00d'}, 'another commit of the program (commit: "c0ffee"'),
  ],
)
def test_the_likely_cause(changes, said):
  changed = trace(SETTINGS | changes, loss=(1, 9))
  found = replay.differs(trace(), changed)
  assert f'likely cause: {said}' in found
  # A cause alone is none: the numbers decide.
  assert replay.differs(trace(), trace(SETTINGS | changes)) is None


def test_a_trace_without_losses_is_compared_by_what_it_has():
  bare = Trace(trace().worker, trace().seconds)
  assert replay.differs(bare, trace()) is None
  other = Trace(1 - trace().worker, trace().seconds, trace().columns)
  assert 'push 1 of 6 differs: worker 0' in replay.differs(bare, other)
