"""Which runs of methods follow from which records, and what the table says."""

import dataclasses
import itertools

import numpy as np
import pytest
from invented import record

from experiments.beyond import methods
from experiments.ledger import methods as named
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.paper import printed as paper
from experiments.render import figures

NUMBERS = {'mean_staleness': 3.0, 'dropped_share': 0.25, 'bytes_per_batch': 8e3}


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


def shortened():
  """Short runs, the higher the rate the better, but for one method."""
  draw = np.random.default_rng(0)
  found = {}
  for name, grid in methods.FULL.items():
    scores = sorted(draw.uniform(10, 50, len(grid)), reverse=name == 'sgd')
    for run, score in zip(grid, scores, strict=True):
      found[methods.short(run)] = scored(score)
  return found


def finished(found):
  """Adds what `then` asks for, again and again, better than any short run."""
  draw, rounds = np.random.default_rng(1), []
  while asked := [r for r in methods.then(Held(found)) if r not in found]:
    rounds.append(asked)
    found |= {run: scored(draw.uniform(60, 90)) for run in asked}
  return rounds


def test_every_method_is_tried_with_three_rates_or_more():
  assert {*methods.TRIED} == {*named.NAMED}
  for rates, _ in methods.TRIED.values():
    assert len({*rates}) >= 3 and sorted(rates) == [*rates]


def test_the_best_rate_of_short_runs_is_run_in_full():
  assert methods.then(Held({})) == []
  found = shortened()
  full = methods.chosen(Held(found))
  assert full.keys() == methods.FULL.keys()
  for name, run in full.items():
    assert run == methods.FULL[name][0 if name == 'sgd' else -1]
    short = methods.short(run)
    assert short.budget.epochs == 3
    assert dataclasses.replace(short, budget=run.budget) == run
  assert methods.then(Held(found)) == [*full.values()]


def test_what_follows_and_that_it_ends():
  found = shortened() | {run: scored(80.0) for run in methods.RUNS[:5]}
  full = methods.chosen(Held(found))
  first, second = finished(found)
  assert first == [*full.values()]
  records = Held(found)
  top = methods.followed(records)
  best = sorted(full, key=lambda n: -found[full[n]]['best_bleu'])
  assert top == best[:10]
  asked = {*second}
  for name in top:
    assert asked >= {dataclasses.replace(full[name], seed=s) for s in (1, 2)}
  crowds = {r.communication for r in asked if r.communication.workers == 16}
  assert crowds and {*methods.combined(records)} <= {*methods.UNCHANGED}
  for cluster, name in itertools.product(methods.UNEQUAL, methods.POLICIES):
    assert dataclasses.replace(full[name], cluster=cluster) in asked
  assert {*methods.then(records)} <= {*methods.possible()}


def test_the_table_has_every_method_and_its_numbers():
  found = shortened()
  empty = methods.report(Held({}))
  assert 'Without all of their short runs: scale_by_staleness per' in empty
  for run in (r for of in methods.BASES.values() for r in of):
    for seed in runs.SEEDS:
      found[dataclasses.replace(run, seed=seed)] = scored(80.0, 5.0)
  finished(found)
  text = methods.report(Held(found))
  assert 'the target is 76.0 BLEU' in text
  line = next(x for x in text.splitlines() if x.startswith('| synchronous Ad'))
  cells = [cell.strip() for cell in line.strip('|').split('|')]
  assert cells[1:6] == [
    '0.0045',
    '80.0 ± 0.0',
    '3.00 ± 0.00',
    '25 ± 0%',
    '8 ± 0',
  ]
  assert cells[6:] == ['5 ± 0', '95.0 ± 0.0', '1.00 ± 0.00']
  for part in ('16 workers:', 'With global', '`half`:', '`gamma1`:'):
    assert part in text
  for name in methods.TRIED:
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


def test_rates_are_those_of_the_paper_times_the_scale():
  run = methods.declare('none', 0.0003, runs.COMMUNICATIONS[paper.ASYNC])
  assert run == runs.base('transformer', paper.ASYNC)
