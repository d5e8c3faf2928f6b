"""The clock of a real run, from its trace."""

import dataclasses

import numpy as np
import pytest
from invented import Invented, record

import stale_adam as sa
from experiments.beyond import real_time

SLEEP = sa.Clock(0.5, distribution='gamma', spread=0.5)
CLOCK = real_time.Measured(
  **dataclasses.asdict(SLEEP)
  | {'pull_seconds': 0.1, 'push_seconds': 0.2, 'update_seconds': 0.05},
  more_seconds=0.3,
)


@pytest.mark.parametrize(
  'numbers',
  [
    sa.Communication(4, global_accumulation=4),
    sa.Communication(3, synchronous=True),
  ],
  ids=['4x global', 'synchronous'],
)
def test_the_clock_of_a_run_on_a_clock_is_that_clock(linear, served, numbers):
  """Its update takes a little less: the last ones have no reply yet."""
  pushes, _ = served(
    linear, sa.adam(0.1), numbers, sa.pools.Virtual(CLOCK), 600
  )
  found = real_time.measured(sa.Trace.of(pushes), SLEEP)
  for field in dataclasses.fields(CLOCK):
    wanted, value = getattr(CLOCK, field.name), getattr(found, field.name)
    if field.type == 'float' or isinstance(wanted, float):
      assert value == pytest.approx(wanted, rel=0.02), field.name
    else:
      assert value == wanted


def test_a_batch_sleeps_as_long_as_is_drawn(monkeypatch):
  slept = []
  monkeypatch.setattr(real_time.time, 'sleep', slept.append)
  batches = real_time.Sleeping(lambda number: 2 * number, SLEEP)
  assert [batches(number) for number in range(5)] == [0, 2, 4, 6, 8]
  assert slept == [SLEEP.compute(0, number) for number in range(5)]
  assert len({*slept}) == 5
  assert np.mean(slept) == pytest.approx(0.5, abs=0.25)


def test_the_table_has_ratios_of_both_kinds():
  """Here real and predicted runs are the same records."""
  sync, ours = real_time.RUNS
  found = {sync: record(50.0), ours: record(50.0)}
  text = real_time.report(Invented(found))
  assert text.count('times as fast') == 2
  assert real_time.report(Invented({sync: record(50.0)})) == 'not run yet'
