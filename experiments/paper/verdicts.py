"""From comparisons of records to verdicts, and to the checklist of all claims.

A claim has parts, each a comparison of means over the seeds; it holds if all
parts do, in part if some do, and stays open while a run is missing.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from experiments.ledger import scales
from experiments.ledger.records import Records, Score, best_bleu
from experiments.ledger.runs import Run
from experiments.paper.as_records import Printed
from experiments.render import figures
from stale_adam import files

LEAST_BLEU = 1.0  # To compare with.
FIRST, LAST = '<!-- claims, rendered -->', '<!-- end of claims -->'


class Part(NamedTuple):
  """One comparison: what was found, and whether it is as claimed.

  Attributes:
    what: is compared; the same at every scale.
    claimed: of it, by the paper.
    found: here.
    holds: whether that is as claimed; None where a run is missing.
    seeds: how many both sides have.
    fitted: whether the virtual clock leaves no other outcome.
  """

  what: str
  claimed: str
  found: str
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
  bounds = [f'at least {100 * low:.0f}%'] if low else []
  bounds += [f'below {100 * high:.0f}%'] if high < math.inf else []
  claimed = ' and '.join(bounds)
  found = [records.by_seed(r) for r in (run, other)]
  seeds = found[0].keys() & found[1].keys()
  if not seeds:
    return Part(what, claimed, records.missing, None)
  ours, theirs = (fmean(score(f[seed]) for seed in seeds) for f in found)
  if math.isnan(ours) or math.isnan(theirs):
    return Part(what, claimed, records.missing, None)
  text = f'{ours:.1f} / {theirs:.1f}'
  if theirs < LEAST_BLEU:
    return Part(what, claimed, f'{text}, which is nothing', False, len(seeds))
  ratio = ours / theirs
  text += f' = {100 * ratio:.1f}%'
  return Part(what, claimed, text, low <= ratio < high, len(seeds))


def verdict(parts: list[Part]) -> str:
  """What the parts come to."""
  known = [part.holds for part in parts if part.holds is not None]
  if not known:
    return 'open, not run yet'
  if len(known) < len(parts):
    missing = len(parts) - len(known)
    return f'open, {sum(known)} of {len(known)}; {missing} not run yet'
  if not all(known):
    part = f'holds in part, {sum(known)} of {len(known)}'
    return part if any(known) else 'does not hold here'
  fitted = all(part.fitted for part in parts)
  return 'holds, as the clock is fitted' if fitted else 'holds'


def _cell(part: Part | None) -> str:
  if part is None:
    return '-'
  if part.holds is None:
    return part.found
  return f'{"✓" if part.holds else "✗"} {part.found}'


def _seeds(parts: Sequence[Part]) -> str:
  """How many the comparisons have: '1 to 3'."""
  counts = sorted({part.seeds for part in parts if part.seeds})
  return ' to '.join(map(str, dict.fromkeys(counts[:1] + counts[-1:])))


def report(claims: Iterable[Claim], ours: Sequence[Records]) -> str:
  """The checklist: all verdicts, then claim by claim every comparison.

  The paper, which has every comparison, stands beside our scales.
  """
  names = [records.scale for records in ours]
  overview, sections = [], []
  for number, claim in enumerate(claims, start=1):
    parts = [list(claim(records)) for records in (Printed(), *ours)]
    verdicts = [verdict(of) for of in parts[1:]]
    said, _, printed = ' '.join(claim.__doc__.split()).partition(' (')
    overview.append([f'{number}. {said}', *verdicts])
    found = [{part.what: part for part in of} for of in parts]
    rows = [
      [part.what, part.claimed, *(_cell(of.get(part.what)) for of in found)]
      for part in parts[0]
    ]
    rows.append(['verdict', '', '', *(f'**{text}**' for text in verdicts)])
    rows.append(['seeds', '', *map(_seeds, parts)])
    table = figures.table(['', 'claimed', 'Aji & Heafield', *names], rows)
    sections += [f'### {number}. {said}', f'{printed[:-1]}.', table]
  overview = figures.table(['claim', *names], overview)
  return '\n\n'.join([overview, *sections])


def write(claims: Iterable[Claim], directory: Path) -> str:
  """Puts the checklist into README.md, paper and scales side by side.

  It stands between the two marks, in a new file if there is none.

  Raises:
    ValueError: if the file has not both marks.
  """
  ours = [Records(scale, directory) for scale in scales.SCALES]
  ours = [records for records in ours if records.directory.exists()]
  text = '\n\n'.join([FIRST, report(claims, ours), LAST])
  path = directory / 'README.md'
  before = path.read_text('utf-8') if path.exists() else f'{FIRST}\n{LAST}\n'
  if not 0 <= before.find(FIRST) < before.find(LAST):
    raise ValueError(
      f'{path} needs the lines {FIRST!r} and {LAST!r}, between which the '
      'checklist goes: put them back'
    )
  with files.replacing(path) as partial:
    head, tail = before.split(FIRST)[0], before.split(LAST)[1]
    partial.write_text(head + text + tail, encoding='utf-8')
  return text
