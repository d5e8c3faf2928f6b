"""The paper in one figure and ten translations.

  python -m experiments.paper.headline --scale=small --data_dir=data/multi30k

Claim (abstract): stale gradients ruin the asynchronous Transformer, and summing
four of them before each update repairs it. The figure shows BLEU over virtual
time, three seeds or more. Below it, the models of the first seed translate the
first sentences of the test set. Scores and times have ± their standard
deviation over the seeds, and a ratio of times ± two standard errors. 9 runs,
all of them also in Table 3; about an hour on two processor cores at `small`, by
two processes.
"""

import functools
import re

from experiments import command
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.paper import printed as paper
from experiments.paper import table3
from experiments.render.report import draw as draw_curves
from experiments.render.report import summary

LINES = {
  'transformer': {
    name: runs.base('transformer', name)
    for name in (paper.SYNC, paper.ASYNC, paper.GLOBAL)
  }
}
RUNS = runs.seeds(LINES['transformer'].values())


def report(records: Records) -> str:
  """The scores of the three runs, and their translations."""
  text, _ = table3.headline(records, 'transformer')
  return '\n\n'.join(
    [
      summary(records, LINES),
      f'The transformer, {table3.RATIO}: {text}.',
      *translations(records),
    ]
  )


def translations(records: Records) -> list[str]:
  """Each sentence, its reference, and every model's translation."""
  found = {name: records.get(run) for name, run in LINES['transformer'].items()}
  # Early records have no translations.
  found = {n: r['examples'] for n, r in found.items() if r and 'examples' in r}
  parts = []
  for said in zip(*found.values(), strict=True):
    lines = [('reference', said[0]['reference'])]
    lines += zip(found, (each['translation'] for each in said), strict=True)
    parts.append(f'**{_plain(said[0]["source"])}**')
    parts.append(
      '\n'.join(f'- *{name}*: {_plain(text)}' for name, text in lines)
    )
  return parts


def _plain(text: str) -> str:
  """Escape a text for Markdown."""
  return re.sub(r'([\\`*_<\[])', r'\\\1', text) or '(nothing)'


draw = functools.partial(
  draw_curves,
  lines=LINES,
  axis='virtual_seconds',
  axis_label=table3.SECONDS,
)

if __name__ == '__main__':
  command.main(__name__)
