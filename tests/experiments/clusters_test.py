"""When asynchrony pays: clocks by hand, and ratios of invented records."""

import dataclasses

import pytest
from invented import Invented, record

import stale_adam as sa
from experiments.beyond import clusters, workers
from experiments.ledger import cluster, runs
from stale_adam import theory
from stale_adam.methods import BackupWorkers

SYNC, GLOBAL = (workers.declare(4, k) for k in (clusters.SYNC, clusters.GLOBAL))
CLOCK = SYNC.clock(1.0)
# Two seconds to compute and one to exchange.
EQUAL = sa.Clock(2.0, push_seconds=0.5, pull_seconds=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
  'speeds, waiting, working, spare',
  [
    ((1.0,), 4 / 3, 4 / 3, 4 / 3),
    # All wait 4 + 1 seconds; the slow one gives a fifth of a push a second.
    ((1.0, 1.0, 1.0, 0.5), 4 / 5, 3 / 3 + 1 / 5, 4 / 3),
    # A spare of speed 1 does not help: then two of five are slow.
    ((1.0, 2.0, 2.0, 2.0), 4 / 3, 1 / 3 + 3 / 2, 4 / 3),
    ((2.0, 2.0, 2.0, 1.0), 4 / 3, 1 / 3 + 3 / 2, 4 / 2),
  ],
)
def test_raw_speed_by_hand(speeds, waiting, working, spare):
  clock = dataclasses.replace(EQUAL, speeds=speeds)
  found = clusters.speed(clock, SYNC.communication)
  assert found == pytest.approx(waiting)
  assert theory.synchronous_seconds(clock, 4) == pytest.approx(4 / waiting)
  found = clusters.speed(clock, GLOBAL.communication)
  assert found == pytest.approx(working, rel=1e-3)  # The last cycle's part.
  assert theory.asynchronous_rate(clock, 4) == pytest.approx(working)
  assert clusters.speed(clock, BackupWorkers(5)) == pytest.approx(spare)


def test_clusters_differ_from_the_papers_in_one_respect():
  assert cluster.CLUSTERS[cluster.PAPER](CLOCK) == CLOCK
  changed = {}
  for name, change in cluster.CLUSTERS.items():
    ours, usual = (dataclasses.asdict(c) for c in (change(CLOCK), CLOCK))
    changed[name] = {k for k in ours if ours[k] != usual[k]}
  exchange = {'push_seconds', 'pull_seconds'}
  expected = {'gamma': {'distribution', 'spread'}, 'exchange': exchange}
  expected |= {'half': {'speeds'}, 'mixed': {'speeds'}, 'paper': set()}
  for name, fields in changed.items():
    assert fields == expected[name.rstrip('.0125')], name
  made = dataclasses.replace(SYNC, cluster='exchange0.25', seed=5).clock(7.0)
  exchanged = made.push_seconds + made.pull_seconds
  assert exchanged == pytest.approx(made.compute_seconds / 4)
  assert made.compute_seconds == pytest.approx(7 * CLOCK.compute_seconds)
  assert made.seed == 5


def test_the_text_of_a_ratio():
  assert clusters.cell([6.0], [4.0]) == '1.50'
  # Residuals 0.5 and -0.5: two errors are 2 sqrt(0.5) / (4 sqrt(2)).
  assert clusters.cell([5.0, 7.0], [3.0, 5.0]) == '1.50 ± 0.25'
  assert clusters.cell([6.0], [None]) == 'never'
  assert clusters.cell([6.0], [4.0, None]) == '1 of 2 never'
  assert clusters.cell([6.0], []) == 'not run yet'
  assert clusters.cell([0.0], [0.0]) == '-'


def invented(seconds):
  """Synchronous: 95 of its 100 BLEU after 19 seconds; others as given."""
  zero = lambda run: dataclasses.replace(run, seed=0)
  found = {zero(SYNC): record(100.0, curve=[(20.0, 100.0)])}
  found[zero(GLOBAL)] = record(95.0, curve=[(seconds, 95.0), (99.0, 90.0)])
  found[clusters.plain(4)[0]] = record(94.0, curve=[(9.0, 94.0)])
  found[clusters.plain(4)[1]] = record(95.0, curve=[(9.0, 80.0), (12.0, 95.0)])
  return Invented(found)


@pytest.mark.slow
def test_on_its_own_cluster_a_run_takes_what_it_took():
  records = invented(10.0)
  assert clusters.goal(records, 4) == 95.0
  pairs = clusters.compared(records, 'paper', 4)
  slow, fast = pairs['4x global']
  assert set(slow) == {19.0} and set(fast) == {10.0}
  # The better rate is the one that was better in BLEU.
  assert set(pairs['plain'][1]) == {12.0}


@pytest.mark.slow
def test_seconds_follow_the_raw_speed():
  """Also by theory, as exactly as a dry run measures it."""
  records = invented(10.0)
  slow, fast = clusters.compared(records, 'gamma1', 4)['4x global']
  _, gain = clusters.raw('gamma1', 4)
  _, usual = clusters.raw('paper', 4)
  assert slow[0] / fast[0] == pytest.approx(19 / 10 * gain / usual)
  waiting = theory.synchronous_seconds
  gamma = dataclasses.replace(CLOCK, distribution='gamma', spread=1.0)
  expected = 19 * waiting(gamma, 4) / waiting(CLOCK, 4)
  assert slow[0] == pytest.approx(expected, rel=0.03)


@pytest.fixture
def few(monkeypatch):
  """Leaves out most clusters; a dry run of each takes a second."""
  cases = [('paper', 4), ('gamma1', 4), ('paper', 8)]
  monkeypatch.setattr(clusters, 'CASES', cases)


@pytest.mark.slow
def test_when_to_wait(few):
  """It pays from the raw speed on at which the seconds are equal.

  Equal seconds on the paper's cluster: the words are in the ratio of its raw
  speeds.
  """
  _, usual = clusters.raw('paper', 4)
  text = clusters.report(invented(19.0))
  assert f'G = 4 needs {usual:.2f} ± 0.00 times the words' in text
  rows = [line.split('|') for line in text.split('\n') if line[:1] == '|']
  cells = {(r[1].strip(), r[2].strip()): [*map(str.strip, r)] for r in rows}
  assert cells['paper', '4'][6] == '1.00 ± 0.00'
  assert float(cells['gamma1', '4'][6].split()[0]) > 1.5
  assert cells['paper', '8'][3:9] == ['not run yet'] * 6


@pytest.mark.slow
def test_what_was_trained_stands_beside_what_was_predicted(few):
  records = invented(10.0)
  first = clusters.TRAINED[0]
  assert (first.cluster, first.communication.global_accumulation) == (
    'gamma1',
    4,
  )
  text = clusters.report(records).split('\n')[-4]
  assert text.count('not run yet') == 3
  factor = clusters.faster(GLOBAL, 'gamma1', GLOBAL.communication)
  assert f'{10 / factor:.1f} |' in text and '95.0 |' in text
  trained = record(93.0, speed=1234.0, curve=[(10.0, 93.0)])
  records._invented[dataclasses.replace(first, seed=0)] = trained
  text = clusters.report(records).split('\n')[-4]
  assert '1,234 |' in text and 'never |' in text and '93.0 |' in text


def test_a_name_tells_the_cluster():
  name = runs.name('tiny', clusters.TRAINED[0])
  assert name.endswith('-seed0-clustergamma1')
