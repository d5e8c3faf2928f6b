"""Which runs of methods follow from which records, and what the table says."""

import dataclasses

import numpy as np
import pytest
from invented import record

from experiments.beyond import methods
from experiments.ledger import methods as named
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.render import figures

NUMBERS = {
  'mean_staleness': 3.0,
  'dropped_share': 0.25,
  'bytes_per_batch': 8e3,
  'test_bleu': {'test': 79.0},
}


class Held(Records):
  """Invented records by run, seed and all."""

  def __init__(self, found):
    super().__init__('tiny')
    self.found = found

  def get(self, run):
    return self.found.get(run)


def scored(bleu, speed=10.0):
  points = [(0.0, 0.0), (100.0, bleu)]
  return record(bleu, speed, points) | NUMBERS


def shortened(best=None):
  """Short runs; the middle rate is the best, but for some rows."""
  found = {}
  for name, row in methods.ROWS.items():
    top = (best or {}).get(name, row.rates[1])
    for rate in (*row.rates, *row.beyond):
      distance = abs(np.log(rate / top))
      found[methods.short(row.run(rate))] = scored(50.0 - distance)
  return found


def finished(found):
  """Adds what `then` asks for, again and again, better than any short run."""
  draw, rounds = np.random.default_rng(1), []
  while asked := [r for r in methods.then(Held(found)) if r not in found]:
    rounds.append(list(dict.fromkeys(asked)))
    found |= {run: scored(draw.uniform(60, 90)) for run in asked}
  return rounds


def test_every_method_is_tried_with_three_rates():
  against = {*named.NAMED} - {'stagger_pulls'}  # It makes staleness.
  assert {row.method for row in methods.ROWS.values()} == against
  for row in methods.ROWS.values():
    low, high = row.beyond
    assert [*row.rates] == sorted({*row.rates}) and len(row.rates) == 3
    assert low < row.rates[0] and high > row.rates[-1]


def test_the_best_rate_of_short_runs_is_run_in_full():
  records = Held({})
  assert {*methods.then(records)} <= {*methods.RUNS}
  records = Held(shortened())
  known = methods.full(records)
  assert known.keys() == methods.ROWS.keys()
  for name, run in known.items():
    assert run == methods.ROWS[name].run(methods.ROWS[name].rates[1])
    short = methods.short(run)
    assert short.budget.epochs == 3 and short.budget.validate_every > 1e9
    assert dataclasses.replace(short, budget=run.budget) == run
  assert {*methods.then(records)} - {*methods.RUNS} == {*known.values()}


@pytest.mark.parametrize('end', [0, -1])
def test_an_end_of_the_grid_is_not_the_end(end):
  """The rate beyond it is asked for, once, and wins if it is better."""
  row = methods.ROWS['dana']
  further = row.beyond[end]
  found = shortened({'dana': further})
  del found[methods.short(row.run(further))]
  assert 'dana' not in methods.chosen(Held(found))
  (asked,) = [
    r
    for r in methods.then(Held(found))
    if r.method == 'dana' and r not in found
  ]
  assert asked == methods.short(row.run(further))
  found[asked] = scored(99.0)
  assert methods.chosen(Held(found))['dana'] == further
  found[asked] = scored(1.0)
  assert methods.chosen(Held(found))['dana'] == row.rates[end]


def test_what_follows_and_that_it_ends():
  found = shortened() | {run: scored(40.0) for run in methods.COLD.values()}
  known = methods.full(Held(found))
  first, second = finished(found)
  assert {*first} == {*known.values()}
  records = Held(found)
  top = sorted(methods.METHODS, key=lambda n: -found[known[n]]['best_bleu'])
  assert methods.followed(records) == top[:10]
  asked, wanted = {*second}, set()
  for name in [*methods.BASES, *top[:10]]:
    wanted |= {dataclasses.replace(known[name], seed=s) for s in (1, 2)}
  for name in [*methods.CROWDED, *top[:10]]:
    for times in (1.0, 0.5):
      wanted.add(with_workers(known[name], 16, times))
  uneven = [name for name in top[:10] if name in methods.STALENESS]
  for name in [*methods.CROWDED, *methods.POLICIES, *uneven]:
    for cluster in methods.UNEQUAL:
      wanted.add(dataclasses.replace(known[name], cluster=cluster))
  alone = [name for name in top if name in methods.UNCHANGED][:3]
  assert methods.combined(records) == alone
  sums = {run for run in asked - wanted}
  assert wanted <= asked and len(sums) == 6
  for run in sums:
    assert run.communication.global_accumulation == 4
    assert run.method in {methods.ROWS[name].method for name in alone}
  every = {*methods.possible(), *methods.RUNS}
  assert {*methods.then(records)} <= every


def with_workers(run, workers, times):
  more = {'workers': workers}
  if run.communication.global_accumulation > 1:
    more['global_accumulation'] = workers
  numbers = dataclasses.replace(run.communication, **more)
  rate = times * run.learning_rate
  return dataclasses.replace(run, communication=numbers, learning_rate=rate)


def test_the_table_has_every_method_and_its_numbers():
  assert 'Without all of their short runs: synchr' in methods.report(Held({}))
  found = shortened() | {run: scored(40.0) for run in methods.COLD.values()}
  waiting = methods.full(Held(found))[methods.SYNCHRONOUS]
  for seed in runs.SEEDS:
    found[dataclasses.replace(waiting, seed=seed)] = scored(80.0, 5.0)
  # 16 workers: twice as fast, so that the ratio is of those.
  crowd = with_workers(waiting, 16, 1.0)
  found[crowd] = scored(80.0) | {'curve': scored(80.0)['curve'][:1]}
  found[crowd]['curve'] += [
    {**scored(80.0)['curve'][1], 'virtual_seconds': 50.0}
  ]
  finished(found)
  text = methods.report(Held(found))
  assert 'the target is 76.0 BLEU' in text
  lines = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.splitlines()
    if line.startswith('| synchronous ')
  ]
  first = ['synchronous', '0.0045', '80.0 ± 0.0', '79.0 ± 0.0', '3.00 ± 0.00']
  assert lines[0][:5] == first
  assert lines[0][5:8] == ['25 ± 0%', '8 ± 0', '5 ± 0']
  assert lines[0][8:] == ['95.0 ± 0.0', '1.00 ± 0.00']
  same = [x for x in lines if x[1] == '0.0045' and x[8] == '47.5']
  assert [x[9] for x in same] == ['1.00']
  for part in ('16 workers:', '4x global:', '`half`:', '`gamma1`:'):
    assert part in text
  for name in methods.ROWS:
    assert f'\n| {name} ' in text


@pytest.mark.slow
def test_it_is_drawn_whatever_is_there(tmp_path):
  for found in ({}, shortened()):
    finished(found)
    methods.draw(tmp_path / 'x.png', Held(found))
    assert (tmp_path / 'x.png').stat().st_size > 10_000


def test_the_frontier_has_what_nothing_beats(monkeypatch, tmp_path):
  drawn = []
  plot = figures.Figure.subplots

  def subplots(*args, **more):
    axes = plot(*args, **more)
    monkeypatch.setattr(axes, 'plot', lambda *xy, **_: drawn.append(xy))
    return axes

  monkeypatch.setattr(figures.Figure, 'subplots', subplots)
  group = {'a': (1.0, 9.0), 'b': (2.0, 5.0), 'c': (2.0, 7.0), 'd': (3.0, 6.0)}
  figures.points(tmp_path / 'x.png', {'all': group | {'e': (0.5, 8.0)}}, '', '')
  assert drawn == [((3.0, 2.0, 1.0), (6.0, 7.0, 9.0))]
