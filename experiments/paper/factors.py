"""Where does 1.37 come from?

  python -m experiments.paper.factors --scale=tiny

Claim (Table 3): to a BLEU near convergence, synchronous training takes 1.37
times as long as 4x global accumulation with the Transformer, and 1.30 times
with the RNN. Time is words needed divided by raw speed. So the ratio of times,
synchronous / global, is the product of two: the ratio of words needed,
synchronous / global, and the ratio of raw speed, global / synchronous. The
first is what the model learns from a word. It is below 1 if global accumulation
needs more words. The second is that of the cluster, here of the virtual clock,
and constant. Both are shown at the base rate, half of it and twice it, with
five seeds or more where the runs are there. Ratios are means over the seeds
whose global run reaches the target, with two standard errors; BLEU and seconds
have their standard deviation.

A target is a percentage of the best BLEU of the synchronous run of a pair, as
in the paper, which has one pair. The synchronous run always reaches it. Where
means are shown, both runs of a pair have the same seed, hence the same first
parameters and batches. The distribution is over all pairs of a synchronous and
a global run at the base rate, with ten seeds of the Transformer each. It shows
how often a single pair has the paper's ratio by chance.

The last tables have what the authors' code does and the text does not say, at
the base rate: with one seed or, where it matters, three. Compare their
differences with the distribution. The RNN has smoothing alone.

- Ticks: the code's schedule ticks once for every G batches. That is once per
  update with 4x global accumulation, as here, so it cannot explain the ratio.
  With 4x local accumulation it is four times per update. The row with global
  accumulation shows what four ticks would do there.
- Started on zero: an asynchronous run begins with Adam run once on a zero
  gradient, which advances its bias correction and schedule.
- Not smoothed: Marian's recipes validate exponentially smoothed parameters. The
  code then validates those of synchronous runs, but the newest parameters of
  asynchronous ones. Smoothing changes no update. At a scale that smooths
  nothing, these rows repeat those of the plain runs.
- Clipped: the recipes clip gradients at the norm 5. The code clips the sum of
  asynchronous pushes, but the mean of synchronous workers, which is a sum of
  norm 20. It clips each shard of the parameters separately; here the norm is
  that of the whole gradient. The loss of a batch is the mean over its words.
- Left out: under artificial staleness, each worker of the code pulls at its own
  phase. Figures 2 and 3 show that; neither run of the ratio has artificial
  staleness.

96 runs, 24 of them also in other tables; about four hours on two processor
cores at `tiny`.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from experiments import command
from experiments.ledger import runs
from experiments.ledger.records import Record, Records, spread
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from experiments.render import figures
from stale_adam.training.record import best, reached, virtual_speed

Pairs = Sequence[tuple[Record, Record]]  # Synchronous and global.
Lines = dict[str, Sequence[Sequence[float]]]  # Of a panel, by label.

CAPTION = (
  'Lines are means over the seeds, bands reach from the lowest to the highest '
  'seed. A line ends where one of the global runs does not get to the target.'
)
SEEDS, MORE_SEEDS = range(5), range(10)
PAIR = (paper.SYNC, paper.GLOBAL)
RATES = {
  'half the base rate': 0.5,
  'base rate': 1.0,
  'twice the base rate': 2.0,
}
PERCENT = (*range(50, 90, 5), *range(90, 100))  # The targets that are drawn.
WORDS, SPEED, TIME = 'words needed', 'raw speed', 'time'
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NEVER = 0.0  # The ratio of times if the global run never reaches the target.
# Of the sum of an update. The code clips the mean of synchronous workers.
CLIP_NORM = {
  paper.ASYNC: 5.0,
  paper.GLOBAL: 5.0,
  paper.SYNC: 5.0 * paper.WORKERS,
}


def declare(model: str, communication: str, times: float = 1.0) -> Settings:
  """Declare a run at a multiple of the base rate."""
  rate = times * paper.LEARNING_RATE[model]
  return runs.base(model, communication, learning_rate=rate)


def _variants(model: str) -> dict[str, Settings]:
  """The runs of a model's last table, by label."""
  of = lambda c, **changes: runs.base(model, c, **changes)
  plain = (*PAIR, paper.ASYNC, paper.LOCAL)
  found = {c: of(c) for c in plain}
  for c in plain:
    found[f'{c}, not smoothed'] = of(c, exponential_smoothing=0.0)
  if model == 'rnn':
    return found
  for c in (paper.GLOBAL, paper.LOCAL):
    found[f'{c}, 4 ticks per update'] = of(c, ticks_per_update=4)
  for c in (paper.GLOBAL, paper.ASYNC):
    found[f'{c}, started on zero'] = of(c, start_on_zero=True)
  for c, norm in CLIP_NORM.items():
    found[f'{c}, clipped at {norm:g}'] = of(c, clip_norm=norm)
  found[f'{paper.GLOBAL}, zero, clipped, not smoothed'] = of(
    paper.GLOBAL,
    start_on_zero=True,
    exponential_smoothing=0.0,
    clip_norm=CLIP_NORM[paper.GLOBAL],
  )
  return found


def _with_seeds(of: Iterable[Settings], seeds: Iterable[int]) -> list[Settings]:
  pairs = itertools.product(of, seeds)
  return [run.with_seed(seed) for run, seed in pairs]


VARIANTS = {model: _variants(model) for model in paper.LEARNING_RATE}
MATTERS = [  # With more seeds, because the first one showed a difference.
  VARIANTS['transformer'][label]
  for label in (
    f'{paper.LOCAL}, 4 ticks per update',
    f'{paper.SYNC}, not smoothed',
    f'{paper.GLOBAL}, not smoothed',
  )
]
_SETS = itertools.product(paper.LEARNING_RATE, PAIR, RATES.values())
RUNS = [
  *_with_seeds(itertools.starmap(declare, _SETS), SEEDS),
  *_with_seeds((declare('transformer', c) for c in PAIR), MORE_SEEDS),
  *itertools.chain(*(of.values() for of in VARIANTS.values())),
  *runs.seeds(MATTERS),
]


def printed(model: str) -> dict[float, dict[str, float]]:
  """The paper's three ratios, by target as a share of the synchronous best."""
  slow, fast = (paper.TABLE3[model, c] for c in PAIR)
  speed = fast.words_per_second / slow.words_per_second
  found = {}
  for bleu, hours in slow.hours.items():
    time = hours / fast.hours[bleu]
    cells = {WORDS: time / speed, SPEED: speed, TIME: time}
    found[bleu / slow.best_bleu] = cells
  return found


def seed_pairs(records: Records, model: str, times: float) -> Pairs:
  """Both runs of every seed that has both, at a multiple of the base rate."""
  slow, fast = (records.by_seed(declare(model, c, times)) for c in PAIR)
  return [(slow[seed], fast[seed]) for seed in slow if seed in fast]


def all_pairs(records: Records, model: str) -> Pairs:
  """Every synchronous run with every global one, at the base rate.

  Without synchronous runs that translate nothing: they have no target.
  """
  slow, fast = (records.all(declare(model, c)) for c in PAIR)
  return [(a, b) for a, b in itertools.product(slow, fast) if best(a) > 0]


def ratio(slow: Record, fast: Record, share: float, field: str) -> float | None:
  """What a target takes, synchronous / global; None if it is never reached.

  Args:
    slow: the record of the synchronous run.
    fast: the record of the other run.
    share: target / best BLEU of the synchronous run.
    field: of the curves, 'target_words' or 'virtual_seconds'.
  """
  taken = [
    reached(record, share * best(slow), field) for record in (slow, fast)
  ]
  return taken[0] / taken[1] if all(taken) else None  # 0: the target is 0.


def factors(pairs: Pairs, share: float) -> dict[str, list[float | None]]:
  """The ratios of every pair to a target; None if it is never reached.

  time = words needed * raw speed
  """
  found = {WORDS: [], SPEED: [], TIME: []}
  for slow, fast in pairs:
    words = ratio(slow, fast, share, 'target_words')
    speed = virtual_speed(fast) / virtual_speed(slow)
    found[WORDS].append(words)
    found[SPEED].append(speed)
    found[TIME].append(None if words is None else words * speed)
  return found


def distribution(pairs: Pairs, share: float) -> np.ndarray:
  """The ratio of times of every pair, in rising order; it may be NEVER."""
  found = (ratio(*pair, share, 'virtual_seconds') for pair in pairs)
  return np.array(sorted(times or NEVER for times in found))


def report(records: Records) -> str:
  """The two factors, the distribution, and what the code does besides."""
  parts = []
  for model in paper.LEARNING_RATE:
    parts += _factors(records, model)
  parts.append(
    'The ratio of times over all pairs: its quantiles, and how many pairs have '
    'at least the highest ratio of the paper, and how many one between the '
    'other two. Where the global run never reaches the target, the ratio '
    'counts as the lowest.'
  )
  parts += [_pairs(records, model) for model in paper.LEARNING_RATE]
  parts.append("What the authors' code does and the text does not say:")
  parts += [_code(records, model) for model in paper.LEARNING_RATE]
  return '\n\n'.join(parts)


def _factors(records: Records, model: str) -> list[str]:
  """Both factors in words and as a table, the paper's and ours."""
  cells = printed(model)
  every = lambda name: ', '.join(f'{of[name]:.2f}' for of in cells.values())
  *_, (top, last) = cells.items()
  ours = factors(seed_pairs(records, model, 1.0), top)
  text = (
    f'The {model}, to {_percent(*cells)} of the synchronous best: the paper '
    f'has the ratios {every(TIME)} of times. Raw speed is {last[SPEED]:.2f} of '
    f'each, so the words needed must be the rest: {every(WORDS)}. Ours to '
    f'{_percent(top)} at the base rate: raw speed {_mean(ours[SPEED])}, words '
    f'needed {_mean(ours[WORDS])}, product {_mean(ours[TIME])}.'
  )
  shares = (0.5, 0.75, 0.9, *cells)
  rows = []
  for name in (WORDS, SPEED, TIME):
    shown = (f'{cells[s][name]:.2f}' if s in cells else '-' for s in shares)
    rows.append([f'paper, {name}', *shown])
  for label, times in RATES.items():
    pairs = seed_pairs(records, model, times)
    found = [factors(pairs, share) for share in shares]
    for name in (WORDS, SPEED, TIME):
      rows.append([f'{label}, {name}', *(_mean(of[name]) for of in found)])
  header = [model, *map(_percent, shares)]
  return [text, figures.table(header, rows)]


def _pairs(records: Records, model: str) -> str:
  """A table of the distribution, a line for each of the paper's targets."""
  cells, pairs = printed(model), all_pairs(records, model)
  *others, top = (round(of[TIME], 2) for of in cells.values())
  low, high = min(others), max(others)
  header = [f'{model}, target', 'paper', 'pairs', 'global never']
  header += [f'quantile {q:g}' for q in QUANTILES]
  header += [f'{top:.2f} or more', f'{low:.2f} to {high:.2f}']
  rows = []
  for share, of in cells.items():
    row = [_percent(share), f'{of[TIME]:.2f}']
    found = distribution(pairs, share)
    if found.size:
      # One of the ratios: nothing lies between a ratio and never.
      shown = np.quantile(found, QUANTILES, method='inverted_cdf')
      row += [f'{found.size}', _portion(found == NEVER)]
      row += ['never' if q == NEVER else f'{q:.2f}' for q in shown]
      row.append(_portion(found >= top))
      row.append(_portion((low <= found) & (found <= high)))
    else:
      row += [records.missing] * (len(header) - len(row))
    rows.append(row)
  return figures.table(header, rows)


def _code(records: Records, model: str) -> str:
  """A table of the variants, to the second of the paper's targets."""
  _, share, _ = printed(model)
  slow = records.by_seed(VARIANTS[model][paper.SYNC])
  goal = f'virtual seconds to {_percent(share)}'
  header = [model, 'seeds', 'best BLEU', goal, 'synchronous / this']
  rows = []
  for label, run in VARIANTS[model].items():
    fast = records.by_seed(run)
    pairs = [(slow[seed], fast[seed]) for seed in slow if seed in fast]
    row = [label, *[records.missing] * 4]
    if pairs:
      targets = [(made, share * best(plain)) for plain, made in pairs]
      scores = [best(made) for made, _ in targets]
      seconds = [reached(*target, 'virtual_seconds') for target in targets]
      times = [ratio(*pair, share, 'virtual_seconds') for pair in pairs]
      row[1:] = f'{len(pairs)}', spread(scores), spread(seconds)
      row.append(_mean(times))
    rows.append(row)
  return figures.table(header, rows)


def _mean(ratios: Sequence[float | None]) -> str:
  return spread(ratios, digits=2, errors=2.0)


def _percent(*shares: float) -> str:
  return ', '.join(f'{100 * share:.1f}%' for share in shares)


def _portion(which: np.ndarray) -> str:
  return f'{100 * which.mean():.0f}%'


def draw(path: Path, records: Records) -> None:
  """Draw words needed and time over the target, and the distribution."""
  words, times, pairs = {}, {}, {}
  for model in paper.LEARNING_RATE:
    found = _over_targets(records, model)
    words[model] = found[WORDS]
    if speed := found[SPEED].get('base rate'):
      words[model]['raw speed, global / synchronous'] = speed
    times[model] = found[TIME]
    pairs[model] = _empirical(records, model)
  target = 'target, % of the best BLEU of the synchronous run'
  ratio_of_times = 'time, synchronous / global'
  figures.rows(
    path,
    [
      (words, target, 'words needed, synchronous / global'),
      (times, target, ratio_of_times),
      (pairs, ratio_of_times, 'share of pairs with at most this'),
    ],
  )


def _over_targets(records: Records, model: str) -> dict[str, Lines]:
  """Lines of each ratio, as far as all seeds reach the target."""
  cells = printed(model)
  x = [100 * share for share in cells]
  found = {
    name: {'paper': (x, [of[name] for of in cells.values()])}
    for name in (WORDS, SPEED, TIME)
  }
  for label, times in RATES.items():
    pairs = seed_pairs(records, model, times)
    every = {percent: factors(pairs, percent / 100) for percent in PERCENT}
    for name, lines in found.items():
      points = [
        (percent, fmean(of[name]), min(of[name]), max(of[name]))
        for percent, of in every.items()
        if of[name] and None not in of[name]
      ]
      if points:
        lines[label] = [*map(list, zip(*points, strict=True))]
  return found


def _empirical(records: Records, model: str) -> Lines:
  """The distribution for each of the paper's targets, and its last ratio."""
  cells, pairs = printed(model), all_pairs(records, model)
  lines = {}
  for name, share in zip(('first', 'second', 'third'), cells, strict=True):
    found = distribution(pairs, share)
    up_to = np.arange(1, found.size + 1) / max(found.size, 1)
    there = found != NEVER
    lines[f"the paper's {name} target"] = found[there], up_to[there]
  *_, last = cells.values()
  lines["the paper's ratio at its third"] = [last[TIME]] * 2, [0, 1]
  return lines


if __name__ == '__main__':
  command.main(__name__)
