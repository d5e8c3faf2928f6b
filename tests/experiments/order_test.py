"""One order of real threads, on which methods train."""

import dataclasses

import numpy as np
import pytest
from invented import Invented, record

from experiments.beyond import order
from experiments.ledger import runs
from experiments.ledger.store import Stored
from stale_adam.trace import Trace


def test_differences_are_from_the_run_without_a_method():
  point = lambda loss: {'validation_loss': loss}
  found = {
    order.WITHOUT: record(20.0)
    | {'curve': [point(3.0), point(2.0)], 'trace_sha256': 'a'},
    order.RUNS[1]: record(22.5) | {'curve': [point(1.75)], 'trace_sha256': 'a'},
  }
  text = order.report(Invented(found))
  cells = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.splitlines()
  ]
  assert cells[2] == ['none', '20.0', '+0.0', '2.000', '+0.000']
  assert cells[3][1:] == ['22.5', '+2.5', '1.750', '-0.250']
  assert cells[4][1:] == ['not run yet'] * 4
  found[order.MOMENTUM] = record(10.0) | {
    'curve': [point(4.0)],
    'trace_sha256': 'a',
  }
  found[order.LINES['dana']] = found[order.RUNS[1]]
  text = order.report(Invented(found))
  assert '| dana' in text and '+12.5' in text and '-2.250' in text
  assert len(cells) == 2 + len(order.RUNS)
  assert {run.communication for run in order.RUNS} == {order.PLAIN}
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
    for run in order.RUNS
    if run.method in names and run.optimizer == 'adam'
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
