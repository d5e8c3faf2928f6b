"""One order of real threads, on which methods train."""

import dataclasses
import math

import numpy as np
import pytest
from invented import Invented, record

from experiments.beyond import order
from experiments.ledger import runs
from experiments.ledger.store import Stored
from stale_adam.trace import Trace


def test_differences_are_from_the_run_without_a_method():
  point = lambda loss: {'validation_loss': loss}
  made = lambda bleu, *losses: (
    record(bleu)
    | {
      'curve': list(map(point, losses)),
      'trace_sha256': 'a',
      'mean_staleness': 2.5,
      'staleness_histogram': {'9': 1, '10': 2, '0': 3},
    }
  )
  middle, below, others = order.TABLES.values()
  found = {
    middle['none']: made(20.0, 3.0, 2.0),
    middle['quantise']: made(22.5, 1.75),
    below['quantise']: made(30.0, 1.0),  # Its run without a method is missing.
    others['asynchronous momentum']: made(10.0, 4.0),
    others['dana']: made(22.5, 1.75),
    others['smega2']: made(0.5, math.nan),
  }
  text = order.report(Invented(found, 'tiny'))
  assert 'Staleness 0 to 10, 2.5 in the mean.' in text
  cells = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.splitlines()
    if line.startswith('|')
  ]
  rows = {(row[0], row[1]): row[2:] for row in cells}
  assert rows['quantise', '0.0045'] == ['22.5', '+2.5', '1.750', '-0.250']
  assert rows['none', '0.0045'] == ['20.0', '+0.0', '2.000', '+0.000']
  assert rows['quantise', '0.002'] == ['not run yet'] * 4
  assert rows['dana', '0.045'] == ['22.5', '+12.5', '1.750', '-2.250']
  assert rows['smega2', '0.045'] == ['0.5', '-9.5', 'diverged', '-']
  assert rows['adaptive_revision', '0.45'] == ['not run yet'] * 4
  assert cells[2][0] == 'quantise' and cells[3][0] == 'none'  # Best first.
  assert len(cells) == 2 * len(order.TABLES) + len(order.RUNS)
  assert {run.communication for run in order.RUNS} == {order.PLAIN}
  assert len({*order.RUNS}) == len(order.RUNS)
  found[order.RUNS[2]] = found[order.WITHOUT] | {'trace_sha256': 'b'}
  with pytest.raises(ValueError, match='2 orders of arrivals'):
    order.report(Invented(found))


@pytest.mark.slow
def test_methods_follow_the_threads(tmp_path, monkeypatch):
  """The order is recorded once; a run has its arrivals and other numbers."""
  names = 'none', 'correct_rate'  # It changes more than rounding does.
  few = lambda run: dataclasses.replace(run.budget, epochs=0.1)
  some = [
    dataclasses.replace(run, budget=few(run))
    for run in next(iter(order.TABLES.values())).values()
    if run.method in names
  ]
  monkeypatch.setattr(order, 'RUNS', some)
  monkeypatch.setattr(order, 'WITHOUT', some[0])
  trace = order.recorded('micro', tmp_path, tmp_path / 'runs')
  again = order.recorded('micro', tmp_path, tmp_path / 'runs')
  assert trace.digest() == again.digest() and not trace.columns
  records = Stored('micro', tmp_path, training=True)
  order.complete(records, trace, tmp_path / 'runs')
  found = [records.get(run) for run in some]
  assert {r['trace_sha256'] for r in found} == {trace.digest()}
  assert len({r['curve'][-1]['validation_loss'] for r in found}) > 1
  loss = Trace.load(tmp_path / 'runs' / 'threads' / 'trace.npz').columns['loss']
  name = runs.name('micro', some[0])
  own = Trace.load(tmp_path / 'runs' / name / 'trace.npz').columns['loss']
  np.testing.assert_array_equal(own, loss)
