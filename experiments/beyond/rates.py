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
staleness, the artificial one of Figure 2. The last table asks whether another
language pair, on which staleness costs little at the base rate, loses more at
the next higher one. One seed, or more where other tables have them. 43 runs,
14 of them also in Tables 1 and 4, Figures 2 and 3, `workers`, `factors` and
`clusters`; about an hour and a quarter on two processor cores at `tiny`.
"""

from pathlib import Path
from typing import Any

from experiments import command
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from experiments.render import figures
from stale_adam.policy import Communication

RATES = (0.0003, 0.00045, 0.0006, 0.0012)  # The paper's, as in its Table 1.
PAIR = 'en-fi'
CAPTION = 'Points are means over the seeds.'
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
KINDS = {
  SYNC: BATCHES[4][SYNC],
  'artificial staleness 3': HELD,
  'asynchronous, staleness 3': BATCHES[4][ASYNC],
}


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
RUNS = [*dict.fromkeys(RUNS)]
RUNS += [
  declare(rate, kind, pair=PAIR)
  for rate in RATES[:2]
  for kind in (paper.SYNC, paper.ASYNC)
]


def report(records: Records) -> str:
  """BLEU by rate and batches, by rate and schedule, and of the other pair."""
  header = ['batches per update', 'learning rate', SYNC, 'of its best']
  header += [f'{ASYNC}, staleness 3', f'of {SYNC}']
  rows = []
  for count, of in BATCHES.items():
    every = [records.mean(declare(rate, of[SYNC])) for rate in RATES]
    top = max((bleu for bleu in every if bleu is not None), default=None)
    for rate, bleu in zip(RATES, every, strict=True):
      cells = _pair(records, *(declare(rate, c) for c in of.values()))
      shown = f'{rate * records.rate_factor:.3g}'
      cells.insert(1, _share(bleu, top))
      rows.append([str(count), shown, *cells])
  parts = [figures.table(header, rows)]

  header = ['warm-up updates, four batches', 'learning rate', *KINDS]
  rows = []
  for ticks in TICKS:
    for rate in LOWER:
      made = [declare(rate, c, ticks_per_update=ticks) for c in KINDS.values()]
      shown = f'{rate * records.rate_factor:.3g}'
      warmup = f'{_warmup(records, made[0]):,}'
      rows.append([warmup, shown, *map(records.cell, made)])
  parts.append(figures.table(header, rows))

  if pair := records.pair(PAIR):
    header = [f'{pair}, learning rate', SYNC, ASYNC, f'of {SYNC}']
    rows = []
    for rate in RATES[:2]:
      both = [declare(rate, c, pair=PAIR) for c in (paper.SYNC, paper.ASYNC)]
      shown = f'{rate * records.rate_factor:.3g}'
      rows.append([shown, *_pair(records, *both)])
    parts.append(figures.table(header, rows))
  return '\n\n'.join(parts)


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
  """Draw BLEU over the rate for either batch, and over the warm-up by rate."""
  known = lambda points: {x: y for x, y in points.items() if y is not None}
  line = lambda points: (list(points), list(points.values()))
  batches, schedules = {}, {}
  for count, of in BATCHES.items():
    lines = batches.setdefault(f'{count} batches per update', {})
    for kind, communication in of.items():
      made = {rate: declare(rate, communication) for rate in RATES}
      found = {
        rate * records.rate_factor: records.mean(run)
        for rate, run in made.items()
      }
      lines[kind] = line(known(found))
  for rate in LOWER:
    title = f'4 batches per update, rate {rate * records.rate_factor:.3g}'
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
