"""Beyond the paper: do small batches or a long warm-up hide staleness?

  python -m experiments.beyond.rates --scale=tiny

Question: in the paper's Table 1, staleness 3 ruins what synchronous training
learns at twice to eight times the base rate, where that itself loses 1 to 18%.
At `tiny` synchronous training loses 10% at 1.5 times the base rate already, and
staleness costs less than in the paper at the base rate. Two things could hide
it. An update of `tiny` has about 370 target words: is its noise what limits the
rate? Then an update of 16 batches in place of four should tolerate higher
rates, and staleness 3 should ruin them. Or the warm-up, 18% of a synchronous
run, ends too late? Then a faster schedule should show it with four batches,
too.

Asynchronous workers accumulate locally, so that staleness is 3 with either
batch. All runs see the same words. An update of 16 batches happens a quarter as
often, and warm-up and decay last for the same words: so the warm-up has a
quarter of the updates. The second table has four batches and as short a
warm-up, too, by several ticks of the schedule per update; beside real
staleness, the artificial one of Figure 2. The third has what the paper says of
its schedule (Tables 1, 3 and 5, Figure 3) under the shortest of these: at two
thirds to four times the base rate, and with 4x global accumulation. Its last
column is the ratio of times to 98.1% of synchronous BLEU. The fourth table asks
whether another language pair, on which staleness costs little at the base rate,
loses more at the next higher one, or with the short warm-up. The RNN has no
warm-up, and at `tiny` fails with staleness 3 at the highest rate of Table 1:
the last lines ask whether a warm-up is what it lacks. One seed, or more where
other tables have them. 74 runs, 20 of them also in Tables 1 and 4, Figures 2
and 3, `workers`, `factors` and `clusters`; about two hours and a half on two
processor cores at `tiny`.
"""

import functools
from pathlib import Path
from typing import Any

from experiments import command
from experiments.beyond import clusters
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from experiments.render import figures
from stale_adam.policy import Communication
from stale_adam.training.record import best, seconds_to

RATES = (0.0003, 0.00045, 0.0006, 0.0012)  # The paper's, as in its Table 1.
NEAR = list(paper.TABLE3['transformer', paper.SYNC].hours)[-1]
NEAR /= paper.TABLE3['transformer', paper.SYNC].best_bleu  # A target.
PAIR = 'en-fi'
CAPTION = (
  'Points are means over the seeds. In the first row asynchronous training has '
  'as many batches per update, and staleness 3.'
)
SYNC, ASYNC = 'synchronous', 'asynchronous'
BATCHES = {  # Of an update: equally large ones of both kinds.
  4: {
    SYNC: runs.COMMUNICATIONS[paper.SYNC],
    ASYNC: runs.COMMUNICATIONS[paper.LOCAL],
  },
  16: {
    SYNC: Communication(16, synchronous=True),
    ASYNC: Communication(4, local_accumulation=16),
  },
}
HELD = Communication(
  paper.WORKERS, synchronous=True, pull_every=paper.PULL_EVERY[3]
)
TICKS = (1, 2, 4)  # Of the schedule, in an update of four batches.
LOWER = list(paper.TABLE1)[:3]  # Rates at which schedules are compared.
SHORT_RATES = (LOWER[0], *RATES)
KINDS = {
  SYNC: BATCHES[4][SYNC],
  'artificial staleness 3': HELD,
  'asynchronous, staleness 3': BATCHES[4][ASYNC],
}
REPAIRED = '4x global'
REPAIR = {REPAIRED: runs.COMMUNICATIONS[paper.GLOBAL]}
PLAIN = {'plain asynchronous': runs.COMMUNICATIONS[paper.ASYNC]}
ALL_KINDS = KINDS | PLAIN | REPAIR
# Rate and ticks of the other pair.
OTHER = ((RATES[0], 1), (RATES[1], 1), (RATES[0], TICKS[-1]))
HIGHEST = list(paper.TABLE1)[-1]
RNN_WARMUPS = (0, 400, 1600)  # Updates, at every scale.


def declare(
  rate: float, communication: str | Communication, **changes: Any
) -> Settings:
  """Declare a run at one of the paper's rates."""
  return runs.base('transformer', communication, learning_rate=rate, **changes)


RUNS = [
  declare(rate, communication)
  for of in BATCHES.values()
  for communication in of.values()
  for rate in RATES
]
RUNS += [
  declare(rate, communication, ticks_per_update=ticks)
  for communication in KINDS.values()
  for ticks in TICKS
  for rate in LOWER
]
RUNS += [
  declare(rate, communication, ticks_per_update=TICKS[-1])
  for communication in ALL_KINDS.values()
  for rate in SHORT_RATES
]
RUNS += runs.seeds(
  declare(RATES[0], kind, ticks_per_update=TICKS[-1])
  for kind in (paper.SYNC, paper.GLOBAL)
)
RUNS += [
  declare(rate, kind, pair=PAIR, ticks_per_update=ticks)
  for rate, ticks in OTHER
  for kind in (paper.SYNC, paper.ASYNC, paper.GLOBAL)
]
RNN = {
  kind: {
    warmup: runs.base('rnn', kind, learning_rate=HIGHEST, warmup_updates=warmup)
    for warmup in RNN_WARMUPS
  }
  for kind in (paper.SYNC, paper.ASYNC)
}
RUNS += [run for of in RNN.values() for run in of.values()]
RUNS = [*dict.fromkeys(RUNS)]


def report(records: Records) -> str:
  """BLEU by rate and batches, by schedule, of the other pair, of the RNN."""
  parts = [_batches(records), _schedules(records), _short(records)]
  if pair := records.pair(PAIR):
    parts.append(_other_pair(records, pair))
  return '\n\n'.join([*parts, _rnn(records)])


def _batches(records: Records) -> str:
  """By batches per update and rate."""
  header = ['batches per update', 'learning rate', SYNC, 'of its best']
  header += [f'{ASYNC}, staleness 3', f'of {SYNC}']
  rows = []
  for count, of in BATCHES.items():
    every = [records.mean(declare(rate, of[SYNC])) for rate in RATES]
    top = max((bleu for bleu in every if bleu is not None), default=None)
    for rate, bleu in zip(RATES, every, strict=True):
      cells = _pair(records, *(declare(rate, c) for c in of.values()))
      cells.insert(1, _share(bleu, top))
      rows.append([str(count), _shown(records, rate), *cells])
  return figures.table(header, rows)


def _schedules(records: Records) -> str:
  """By warm-up and rate."""
  header = ['warm-up updates, four batches', 'learning rate', *KINDS]
  rows = []
  for ticks in TICKS:
    for rate in LOWER:
      made = [declare(rate, c, ticks_per_update=ticks) for c in KINDS.values()]
      warmup = f'{_warmup(records, made[0]):,}'
      row = [warmup, _shown(records, rate), *map(records.cell, made)]
      rows.append(row)
  return figures.table(header, rows)


def _short(records: Records) -> str:
  """With the shortest warm-up, by rate; with the ratio of times."""
  ticks = {'ticks_per_update': TICKS[-1]}
  warmup = _warmup(records, declare(RATES[0], paper.SYNC, **ticks))
  header = [f'{warmup:,} updates, learning rate', *ALL_KINDS]
  header += [f'{REPAIRED} of {SYNC}', f'seconds, {SYNC} / {REPAIRED}']
  rows = []
  for rate in SHORT_RATES:
    made = {k: declare(rate, c, **ticks) for k, c in ALL_KINDS.items()}
    slow, fast = made[SYNC], made[REPAIRED]
    # The lowest seed's, so that every synchronous run reaches the target.
    target = NEAR * min(map(best, records.all(slow)), default=0.0)
    to_target = functools.partial(seconds_to, target=target)
    rows.append(
      [
        _shown(records, rate),
        *map(records.cell, made.values()),
        _share(records.mean(fast), records.mean(slow)),
        clusters.cell(*records.paired(slow, fast, to_target)),
      ]
    )
  return figures.table(header, rows)


def _other_pair(records: Records, pair: str) -> str:
  """Of another language pair, by rate and warm-up."""
  header = [f'{pair}, learning rate', 'warm-up updates', SYNC, ASYNC]
  header += [f'of {SYNC}', REPAIRED, f'of {SYNC}']
  rows = []
  for rate, ticks in OTHER:
    slow, *others = (
      declare(rate, c, pair=PAIR, ticks_per_update=ticks)
      for c in (paper.SYNC, paper.ASYNC, paper.GLOBAL)
    )
    warmup = f'{_warmup(records, slow):,}'
    row = [_shown(records, rate), warmup, records.cell(slow)]
    for fast in others:
      row += _pair(records, slow, fast)[1:]
    rows.append(row)
  return figures.table(header, rows)


def _rnn(records: Records) -> str:
  """Of the RNN at the highest rate, by warm-up."""
  header = [f'RNN at {_shown(records, HIGHEST)}, warm-up updates', *RNN]
  rows = [
    [f'{warmup:,}', *(records.cell(of[warmup]) for of in RNN.values())]
    for warmup in RNN_WARMUPS
  ]
  return figures.table(header, rows)


def _shown(records: Records, rate: float) -> str:
  """One of the paper's rates, at this scale."""
  return f'{rate * records.rate_factor:.3g}'


def _pair(records: Records, slow: Settings, fast: Settings) -> list[str]:
  """Scores of a synchronous and an asynchronous run, and the latter's share."""
  share = _share(records.mean(fast), records.mean(slow))
  return [records.cell(slow), records.cell(fast), share]


def _share(ours: float | None, whole: float | None) -> str:
  """A share in percent; why there is none."""
  if ours is None or whole is None:
    return Records.missing
  return f'{ours / whole:.1%}' if whole else '-'


def _warmup(records: Records, run: Settings) -> int:
  """Updates of the warm-up at this scale."""
  warmup = runs.at(records.scale, run).warmup_updates
  return warmup // run.ticks_per_update


def draw(path: Path, records: Records) -> None:
  """Draw BLEU over the rate, and over the warm-up by rate."""
  known = lambda points: {x: y for x, y in points.items() if y is not None}
  line = lambda points: (list(points), list(points.values()))
  batches, schedules = {}, {}
  for title, of, ticks in (
    ('4 batches per update', BATCHES[4] | REPAIR, 1),
    ('4 batches, a quarter of the warm-up', BATCHES[4] | REPAIR, TICKS[-1]),
    ('16 batches, a quarter of the warm-up', BATCHES[16], 1),
  ):
    lines = batches.setdefault(title, {})
    for kind, communication in of.items():
      found = {}
      for rate in RATES:
        run = declare(rate, communication, ticks_per_update=ticks)
        found[rate * records.rate_factor] = records.mean(run)
      lines[kind] = line(known(found))
  for rate in LOWER:
    title = f'4 batches per update, rate {_shown(records, rate)}'
    lines = schedules.setdefault(title, {})
    for kind, communication in KINDS.items():
      made = [declare(rate, communication, ticks_per_update=t) for t in TICKS]
      found = {_warmup(records, run): records.mean(run) for run in made}
      lines[kind] = line(known(found))
  label = 'best validation BLEU'
  figures.rows(
    path,
    [(batches, 'learning rate', label), (schedules, 'warm-up updates', label)],
  )


if __name__ == '__main__':
  command.main(__name__)
