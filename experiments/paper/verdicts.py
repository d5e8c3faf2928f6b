"""Verdicts on claims from comparisons of records, and the checklist of both.

A claim has parts, each a comparison of means over the seeds. A part holds,
fails, or is undecided if its interval over the seeds allows both. A claim holds
if all parts do, in part if some do, and stays open while a run is missing.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from experiments.ledger.records import Records, Score
from experiments.ledger.settings import Settings
from experiments.ledger.store import Stored
from experiments.paper.as_records import Printed
from experiments.paper.ratios import Outcome, ratio
from experiments.render import figures
from stale_adam import files
from stale_adam.training.record import best

LEAST_BLEU = 1.0  # A lower score is too low to compare with.
FIRST, LAST = '<!-- claims, rendered -->', '<!-- end of claims -->'


class Part(NamedTuple):
  """One comparison, and what it says of the claim.

  Attributes:
    what: what is compared; the same at every scale.
    claimed: what the paper says.
    found: what the records say.
    outcome: whether the two agree.
    seeds: number of seeds that both sides have.
    fitted: whether the fitted virtual clock determines the outcome.
  """

  what: str
  claimed: str
  found: str
  outcome: Outcome
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
  low: float = -math.inf,
  high: float = math.inf,
  score: Score = best,
) -> Part:
  """Check whether the ratio of two runs' scores lies in [low, high).

  Both scores are means over the seeds that both runs have. Their ratio has an
  interval of two standard errors, which decides: see `ratios.ratio`. With one
  seed the ratio alone decides, and nothing is known of chance. If the other run
  translates nothing, the claim fails.
  """
  bounds = [f'at least {100 * low:.0f}%'] if low > -math.inf else []
  bounds += [f'below {100 * high:.0f}%'] if high < math.inf else []
  claimed = ' and '.join(bounds)
  scores = records.paired(run, other, score)
  seeds = len(scores[0])
  if not seeds or any(map(math.isnan, scores[0] + scores[1])):
    return Part(what, claimed, records.missing, Outcome.MISSING)
  ours, theirs = map(fmean, scores)
  text = f'{ours:.1f} / {theirs:.1f}'
  if theirs < LEAST_BLEU:
    text += ', too low to compare'
    return Part(what, claimed, text, Outcome.FAILS, seeds)
  found = ratio(*scores)
  text += f' = {found.text(unit=0.01)}%'
  return Part(what, claimed, text, found.outcome(low, high), seeds)


def verdict(parts: list[Part]) -> str:
  """The verdict on a claim from its parts."""
  counts = Counter(part.outcome for part in parts)
  holding, undecided = counts[Outcome.HOLDS], counts[Outcome.UNDECIDED]
  missing = counts[Outcome.MISSING]
  known = len(parts) - missing
  if not known:
    return 'open, not run yet'
  more = f'; {undecided} undecided' if undecided else ''
  if missing:
    return f'open, {holding} of {known}{more}; {missing} not run yet'
  if holding == known:
    fitted = all(part.fitted for part in parts)
    return 'holds, fixed by the clock' if fitted else 'holds'
  if undecided == known:
    return 'undecided'
  if holding:
    return f'holds in part, {holding} of {known}{more}'
  if undecided:
    return f'fails in {known - undecided} of {known}{more}'
  return 'does not hold here'


def _cell(part: Part | None) -> str:
  # A missing run has no mark.
  return f'{part.outcome.value} {part.found}'.strip() if part else '-'


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
