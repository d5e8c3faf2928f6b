"""From comparisons of records to verdicts, and to the checklist of all claims.

A claim has parts, each a comparison of means over the seeds; it holds if all
parts do, in part if some do, and stays open while a run is missing.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from experiments import scales
from experiments.records import Records, Score, best_bleu
from experiments.runs import Run
from stale_adam import results

LEAST_BLEU = 1.0  # To compare with.
FIRST, LAST = '<!-- claims, rendered -->', '<!-- end of claims -->'


class Part(NamedTuple):
  """One comparison: what was found, and whether it is as claimed.

  `holds` is None where a run is missing; `seeds` is how many both sides have;
  `fitted` where the virtual clock leaves no other outcome.
  """

  text: str
  holds: bool | None
  seeds: int = 0
  fitted: bool = False


Parts = Iterator[Part]
Claim = Callable[[Records], Parts]


def share(
  records: Records,
  what: str,
  run: Run,
  other: Run,
  low: float = 0.0,
  high: float = math.inf,
  score: Score = best_bleu,
) -> Part:
  """Whether a score over the other run's lies in [low, high).

  Means over the seeds that both have. A share of nothing is as claimed by
  nobody: the other must translate at all.
  """
  found = [records.by_seed(r) for r in (run, other)]
  seeds = found[0].keys() & found[1].keys()
  if not seeds:
    return Part(f'{what}: not run yet', None)
  ours, theirs = (fmean(score(f[seed]) for seed in seeds) for f in found)
  text = f'{what}: {ours:.1f} against {theirs:.1f}'
  if theirs < LEAST_BLEU:
    return Part(f'{text}, which is nothing', False, len(seeds))
  bounds = [f'at least {100 * low:.0f}%'] if low else []
  bounds += [f'below {100 * high:.0f}%'] if high < math.inf else []
  ratio = ours / theirs
  text += f', {100 * ratio:.1f}%; claimed: {" and ".join(bounds)}'
  return Part(text, low <= ratio < high, len(seeds))


def verdict(parts: list[Part]) -> str:
  """What the parts come to."""
  known = [part.holds for part in parts if part.holds is not None]
  if len(known) < len(parts) or not parts:
    return f'open: {len(parts) - len(known)} of {len(parts)} not run yet'
  if not all(known):
    part = f'holds in part, {sum(known)} of {len(known)}'
    return part if any(known) else 'does not hold here'
  fitted = all(part.fitted for part in parts)
  return 'holds, as the clock is fitted' if fitted else 'holds'


def report(claims: Iterable[Claim], records: Records) -> str:
  """The checklist of a scale: verdict, claim, and every comparison."""
  marks, lines = {True: '✓', False: '✗', None: '·'}, []
  for number, claim in enumerate(claims, start=1):
    parts = list(claim(records))
    counts = sorted({part.seeds for part in parts if part.seeds}) or [0]
    seeds = ' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    said = ' '.join(claim.__doc__.split())
    lines.append(f'{number}. **{verdict(parts)}** (seeds: {seeds}). {said}.')
    lines += [f'   - {marks[part.holds]} {part.text}' for part in parts]
  return '\n'.join(lines)


def write(claims: Iterable[Claim], directory: Path) -> str:
  """Puts the checklist of every scale with records into README.md; returns it.

  It stands between the two marks, in a new file if there is none.

  Raises:
    ValueError: if the file has not both marks.
  """
  found = [Records(scale, directory) for scale in scales.SCALES]
  parts = [
    f'### {records.scale}\n\n{report(claims, records)}'
    for records in found
    if records.directory.exists()
  ]
  text = '\n\n'.join([FIRST, *parts, LAST])
  path = directory / 'README.md'
  before = path.read_text('utf-8') if path.exists() else f'{FIRST}\n{LAST}\n'
  if not 0 <= before.find(FIRST) < before.find(LAST):
    raise ValueError(
      f'{path} needs the lines {FIRST!r} and {LAST!r}, between which the '
      'checklist goes: put them back'
    )
  with results.whole(path) as partial:
    head, tail = before.split(FIRST)[0], before.split(LAST)[1]
    partial.write_text(head + text + tail, encoding='utf-8')
  return text
