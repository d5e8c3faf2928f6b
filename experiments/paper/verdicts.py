"""Verdicts on claims from comparisons of records, and the checklist of both.

A claim has parts, each a comparison of means over the seeds. It holds if all
parts do, in part if some do, and stays open while a run is missing.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from experiments.ledger.records import Records, Score
from experiments.ledger.settings import Settings
from experiments.ledger.store import Stored
from experiments.paper.as_records import Printed
from experiments.render import figures
from stale_adam import files
from stale_adam.training.record import best

LEAST_BLEU = 1.0  # A lower score is too low to compare with.
FIRST, LAST = '<!-- claims, rendered -->', '<!-- end of claims -->'


class Part(NamedTuple):
  """One comparison, and whether the claim holds for it.

  Attributes:
    what: what is compared; the same at every scale.
    claimed: what the paper says.
    found: what the records say.
    holds: whether the two agree; None if a run is missing.
    seeds: number of seeds that both sides have.
    fitted: whether the fitted virtual clock determines the outcome.
  """

  what: str
  claimed: str
  found: str
  holds: bool | None
  seeds: int = 0
  fitted: bool = False


Parts = Iterator[Part]


class Claim(NamedTuple):
  """A claim of the paper.

  Attributes:
    text: what the paper says, in one sentence.
    printed: the paper's numbers for it, and where they are.
    compare: yields the comparisons that decide it, from the records of a scale.
  """

  text: str
  printed: str
  compare: Callable[[Records], Parts]


def share(
  records: Records,
  what: str,
  run: Settings,
  other: Settings,
  low: float = 0.0,
  high: float = math.inf,
  score: Score = best,
) -> Part:
  """Check whether the ratio of two runs' scores lies in [low, high).

  Both scores are means over the seeds that both runs have. If the other run
  translates nothing, the claim does not hold.
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
    return Part(what, claimed, f'{text}, too low to compare', False, len(seeds))
  ratio = ours / theirs
  text += f' = {100 * ratio:.1f}%'
  return Part(what, claimed, text, low <= ratio < high, len(seeds))


def verdict(parts: list[Part]) -> str:
  """The verdict on a claim from its parts."""
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
  return 'holds, fixed by the clock' if fitted else 'holds'


def _cell(part: Part | None) -> str:
  if part is None:
    return '-'
  if part.holds is None:
    return part.found
  return f'{"✓" if part.holds else "✗"} {part.found}'


def _seeds(parts: Sequence[Part]) -> str:
  """Number of seeds of the comparisons, such as '1 to 3'."""
  counts = sorted({part.seeds for part in parts if part.seeds})
  return ' to '.join(map(str, dict.fromkeys(counts[:1] + counts[-1:])))


def report(claims: Iterable[Claim], ours: Sequence[Records]) -> str:
  """The checklist: all verdicts, then the comparisons of each claim.

  The paper's own numbers are shown beside our scales.
  """
  names = [records.scale for records in ours]
  overview, sections = [], []
  for number, claim in enumerate(claims, start=1):
    parts = [list(claim.compare(records)) for records in (Printed(), *ours)]
    verdicts = [verdict(of) for of in parts[1:]]
    overview.append([f'{number}. {claim.text}', *verdicts])
    found = [{part.what: part for part in of} for of in parts]
    rows = [
      [part.what, part.claimed, *(_cell(of.get(part.what)) for of in found)]
      for part in parts[0]
    ]
    rows.append(['verdict', '', '', *(f'**{text}**' for text in verdicts)])
    rows.append(['seeds', '', *map(_seeds, parts)])
    table = figures.table(['', 'claimed', 'Aji & Heafield', *names], rows)
    sections += [f'### {number}. {claim.text}', f'{claim.printed}.', table]
  overview = figures.table(['claim', *names], overview)
  return '\n\n'.join([overview, *sections])


def write(
  claims: Iterable[Claim], directory: Path, all_records: Sequence[Stored]
) -> str:
  """Write the checklist into README.md, paper and scales side by side.

  It replaces what is between two marks; a new file has only the checklist.

  Raises:
    ValueError: if the file does not have both marks.
  """
  ours = [records for records in all_records if records.directory.exists()]
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
