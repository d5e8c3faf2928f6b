"""Which runs of methods follow from which records, and what the table says."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from invented import record

from experiments.beyond import methods, rows
from experiments.ledger import methods as named
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.render import figures
from stale_adam import methods as stale

NUMBERS = {
  'mean_staleness': 3.0,
  'dropped_share': 0.25,
  'used_share': 0.5,
  'bytes_per_batch': 8e3,
  'test_bleu': {'test': 79.0},
}
EVERY = rows.ROWS | rows.COLD


class Held(Records):
  """Invented records by run, seed and all."""

  def __init__(self, found):
    super().__init__('tiny')
    self.found = found

  def get(self, run):
    return self.found.get(run)


def scored(bleu, speed=10.0, loss=2.0):
  points = [(0.0, 0.0), (100.0, bleu)]
  made = record(bleu, speed, points) | NUMBERS
  made['curve'][-1] |= {'validation_loss': loss}
  return made


def shortened(best=None, of=EVERY):
  """Short runs; the middle rate is the best, but for some rows."""
  found = {}
  for place, (name, row) in enumerate(of.items()):
    top = (best or {}).get(name, row.rates[1])
    for rate in rows.possible(row):
      distance = abs(np.log(rate / top))
      found[rows.short(row.run(rate))] = scored(50.0 - distance + 0.01 * place)
  return found


def finished(found):
  """Adds what `then` asks for, again and again, better than any short run."""
  draw, rounds = np.random.default_rng(1), []
  while asked := [r for r in methods.then(Held(found)) if r not in found]:
    rounds.append(list(dict.fromkeys(asked)))
    found |= {run: scored(draw.uniform(60, 90)) for run in asked}
  return rounds


def test_every_method_is_tried_with_three_rates():
  tried = {name.split()[0] for name in named.NAMED} - {'none', 'weight'}
  parts = {'average_pushes', 'local_updates'}  # Of others.
  assert tried | {'weight_by_staleness'} == {*stale.__all__} - parts
  against = {*named.NAMED} - {'stagger_pulls'}  # It makes staleness.
  assert {row.method for row in rows.ROWS.values()} == against
  for row in EVERY.values():
    assert [*row.rates] == sorted({*row.rates}) and len(row.rates) == 3
    assert sorted(rows.possible(row)) == pytest.approx(
      [*reversed(row.beyond(0)), *row.rates, *row.beyond(-1)]
    )


def test_the_best_rate_of_short_runs_is_run_in_full():
  records = Held({})
  assert {*methods.then(records)} == {*methods.RUNS}
  records = Held(shortened())
  known = rows.full(records, EVERY)
  assert known.keys() == EVERY.keys()
  for name, run in known.items():
    assert run == EVERY[name].run(EVERY[name].rates[1])
    short = rows.short(run)
    assert short.budget.epochs == 3 and short.budget.validate_every > 1e9
    assert dataclasses.replace(short, budget=run.budget) == run
  assert {*methods.then(records)} - {*methods.RUNS} == {*known.values()}


@pytest.mark.parametrize('end', [0, -1])
def test_an_end_of_the_grid_is_not_the_end(end):
  """The rates beyond it are asked for, one after the other, while they win."""
  row = rows.ROWS['dana']
  rates = row.beyond(end)
  found = shortened({'dana': rates[-1]})
  for rate in rates:
    del found[rows.short(row.run(rate))]
  for rate, before in zip(rates, [row.rates[end], *rates], strict=False):
    assert 'dana' not in rows.chosen(Held(found), rows.ROWS)
    (asked,) = [
      r
      for r in methods.then(Held(found))
      if r.method == 'dana' and r not in found
    ]
    assert asked == rows.short(row.run(rate))
    found[asked] = scored(1.0)
    assert rows.chosen(Held(found), rows.ROWS)['dana'] == before
    found[asked] = scored(90.0 + rates.index(rate))
  assert rows.chosen(Held(found), rows.ROWS)['dana'] == rates[-1]


def test_the_loss_decides_where_bleu_is_equal():
  """All translate nothing; the loss falls towards the highest rate of all."""
  row, found = rows.ROWS['dana'], {}
  for i, rate in enumerate(sorted(rows.possible(row))):
    # Below 1, more BLEU is no merit.
    found[rows.short(row.run(rate))] = scored(0.9 - 0.05 * i, loss=9.0 - i)
  best = rows.chosen(Held(found), {'dana': row})['dana']
  assert best == max(rows.possible(row))
  # A loss that is not finite is the worst.
  found[rows.short(row.run(best))]['curve'][-1]['validation_loss'] = None
  assert rows.chosen(Held(found), {'dana': row})['dana'] == row.beyond(-1)[-2]


def test_the_rate_that_a_method_leaves_is_the_same_at_any_staleness():
  """By hand, from its source: 1 / tau at 3, 15 and 0.75, and so on."""
  weights = {
    'scale_by_staleness': (1 / 3, 1 / 15, 1),
    'weight polynomial': (1 / 2, 1 / 4, 1.75**-0.5),
    'weight exponential': (np.exp(-1.5), np.exp(-7.5), np.exp(-0.375)),
    'weight hinge': (1, 1 / 111, 1),
    'fadas': (1 / 3, 1 / 15, 1),
    'softsync': (1 / 2, 1 / 2, 1 / 2),
    'quantise': (1, 1, 1),
  }
  for name, (alone, crowded, summed) in weights.items():
    row = rows.ROWS[name]
    assert np.multiply(row.rates, alone) == pytest.approx(rows.ADAM)
    rate = row.rates[1]
    more = rows.with_more_workers(row, rate, 16)
    assert np.multiply(more.rates, crowded) == pytest.approx(
      np.multiply((0.25, 0.5, 1), rate * alone)
    )
    four = rows.with_accumulation(row, rate)
    assert np.multiply(four.rates, summed) == pytest.approx(
      np.multiply((0.5, 1, 2), rate * alone)
    )
    assert four.communication.global_accumulation == 4


def test_rows_weight_as_their_methods_do():
  """Rates are divided by what the transformations multiply updates by."""
  transforms = {
    'scale_by_staleness': stale.scale_by_staleness(),
    'weight polynomial': stale.weight_by_staleness(),
    'weight exponential': stale.weight_by_staleness('exponential'),
    'weight hinge': stale.weight_by_staleness('hinge'),
  }
  for name, made in transforms.items():
    state = made.init(jnp.ones(()))
    for tau in (0.0, 0.75, 3.0, 4.5, 15.0):
      found, _ = made.update(jnp.ones(()), state, staleness=jnp.float32(tau))
      assert rows.ROWS[name].weight(tau) == pytest.approx(found)


@pytest.mark.slow
def test_what_follows_and_that_it_ends():
  found = shortened()
  known = rows.full(Held(found), rows.ROWS)
  first, second, *_ = finished(found)
  assert {*first} == {*rows.full(Held(found), EVERY).values()}
  made = methods.plan(Held(found))
  top = sorted(methods.METHODS, key=lambda n: -found[known[n]]['best_bleu'])
  assert [*made.top] == top[:10]
  asked, wanted = {*second}, set()
  for name in [*rows.BASES, *top[:10]]:
    wanted |= {dataclasses.replace(known[name], seed=s) for s in (1, 2)}
  assert [*made.crowded] == [*rows.ROWS]
  for name, row in made.crowded.items():
    assert row.communication.workers == 16
    if rows.ROWS[name].weight is rows.one:
      assert row.rates[-1] == known[name].learning_rate
    wanted |= {rows.short(row.run(rate)) for rate in row.rates}
  for name in [*rows.CROWDED, *rows.POLICIES, *rows.STALENESS]:
    for cluster in methods.UNEQUAL:
      wanted.add(dataclasses.replace(known[name], cluster=cluster))
  alone = [name for name in top if name in rows.UNCHANGED][:3]
  assert [*made.summed] == alone
  for row in made.summed.values():
    wanted |= {rows.short(row.run(rate)) for rate in row.rates}
  assert wanted == asked
  # By short runs with 16 workers, whose scores are drawn.
  tries = {
    name: [rows.short(made.crowded[name].run(rate)) for rate in rates]
    for name, rates in (
      (name, rows.possible(made.crowded[name])) for name in methods.METHODS
    )
  }
  scores = {
    name: max(found[run]['best_bleu'] for run in tried if run in found)
    for name, tried in tries.items()
  }
  leading = sorted(scores, key=lambda name: -scores[name])[:10]
  assert {*made.packed} == {*rows.CROWDED, *top[:10], *leading}
  every = {*methods.possible(), *methods.RUNS}
  assert {*methods.then(Held(found))} <= every


@pytest.mark.slow
def test_the_table_has_every_method_and_its_numbers():
  assert 'Without all of their short runs: synchr' in methods.report(Held({}))
  found = shortened()
  waiting = rows.full(Held(found), rows.ROWS)[rows.SYNCHRONOUS]
  for seed in runs.SEEDS:
    found[dataclasses.replace(waiting, seed=seed)] = scored(80.0, 5.0)
  del found[waiting]['dropped_share']  # Of an earlier version.
  # 16 workers: twice as fast, so that the ratio is of those.
  crowded = rows.with_more_workers(
    rows.ROWS[rows.SYNCHRONOUS], waiting.learning_rate, 16
  )
  found |= shortened(of={'synchronous': crowded})
  crowd = crowded.run(crowded.rates[1])
  found[crowd] = scored(80.0) | {'curve': scored(80.0)['curve'][:1]}
  found[crowd]['curve'] += [
    {**scored(80.0)['curve'][1], 'virtual_seconds': 50.0}
  ]
  finished(found)
  changes, text = methods.report(Held(found)).split('Four workers; ')
  assert text.startswith('the target is 76.0 BLEU')
  assert "Spearman's rank correlation" in text
  lines = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.splitlines()
    if line.startswith('| synchronous ')
  ]
  first = ['synchronous', '0.0045', '80.0 ± 0.0', '79.0 ± 0.0', '3.00 ± 0.00']
  assert lines[0][:5] == first
  # Half of the words are used.
  assert lines[0][5:8] == ['25 ± 0%', '8 ± 0', '2 ± 0']
  assert lines[0][8:] == ['95.0 ± 0.0', '1.00 ± 0.00']
  same = [x for x in lines if x[1] == '0.00225' and x[8] == '47.5']
  assert [x[9] for x in same] == ['1.00']
  for part in ('16 workers:', '4x global:', '`half`:', '`gamma1`:'):
    assert part in text
  for name in EVERY:
    assert f'\n| {name} ' in text
  known = rows.full(Held(found), rows.ROWS)
  (fadas,) = [x for x in changes.splitlines() if x.startswith('| fadas ')]
  cells = [cell.split()[0] for cell in fadas.strip('|').split('|')]
  for cell, base in zip(
    cells[2:4], ('asynchronous', 'synchronous'), strict=True
  ):
    ours, theirs = (found[known[name]]['best_bleu'] for name in ('fadas', base))
    assert cell == f'{ours - theirs:+.1f}'


def test_a_difference_is_of_the_seeds_that_both_have():
  mine, other = (rows.ROWS[n].run(0.0003) for n in ('fadas', 'asynchronous'))
  found = {}
  for seed, ours, theirs in ((0, 80.0, 70.0), (1, 90.0, 74.0), (2, 60.0, None)):
    found[dataclasses.replace(mine, seed=seed)] = scored(ours)
    if theirs is not None:
      found[dataclasses.replace(other, seed=seed)] = scored(theirs)
  # Of 10 and 16 the mean is 13, the standard deviation 4.24, its error 3.
  assert methods.difference(Held(found), mine, other) == '+13.0 ± 6.0'
  assert methods.difference(Held(found), other, mine) == '-13.0 ± 6.0'
  del found[dataclasses.replace(other, seed=1)]
  assert methods.difference(Held(found), mine, other) == '+10.0'
  for pair in ((mine, mine), (None, mine), (mine, None)):
    assert methods.difference(Held(found), *pair) == '-'
  assert methods.difference(Held({}), mine, other) == '-'


@pytest.mark.slow
def test_it_is_drawn_whatever_is_there(tmp_path):
  for found in ({}, shortened()):
    finished(found)
    methods.draw(tmp_path / 'x.png', Held(found))
    assert (tmp_path / 'x.png').stat().st_size > 10_000


def test_the_frontier_has_what_nothing_beats(monkeypatch, tmp_path):
  drawn, made = [], []
  plot = figures.Figure.subplots

  def subplots(*args, **more):
    made.append(plot(*args, **more))
    monkeypatch.setattr(made[-1], 'plot', lambda *xy, **_: drawn.append(xy))
    return made[-1]

  monkeypatch.setattr(figures.Figure, 'subplots', subplots)
  group = {'a': (1.0, 9.0), 'b': (2.0, 5.0), 'c': (2.0, 7.0), 'd': (3.0, 6.0)}
  group |= {'e': (0.5, 8.0)}
  figures.points(tmp_path / 'x.png', {'all': group}, '', 'y')
  left, bottom = made[0].get_xlim()[0], made[0].get_ylim()[0]
  xs = [left, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
  ys = [9.0, 9.0, 7.0, 7.0, 6.0, 6.0, bottom]
  assert drawn == [(xs, ys)] and left < 0.5 and bottom < 5.0
  assert made[0].get_ylabel() == 'y'
  # Of 0, 5, 6, 7, 8, 9 the quartiles are 5.25 and 7.75: 1.5 is the edge.
  figures.points(tmp_path / 'x.png', {'all': group | {'f': (2, 0.0)}}, '', 'y')
  assert made[1].get_ylim()[0] == 1.5
  assert min(y for _, y in made[1].collections[0].get_offsets()) == 1.5
  assert made[1].get_ylabel() == 'y; points on the edge lie below it'
  assert [x.get_text() for x in made[1].texts][0] == 'f  0.0'
