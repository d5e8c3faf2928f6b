"""The paper in one picture, and in ten sentences.

  python -m experiments.headline --scale=small --data_dir=data/multi30k

Claim (abstract): stale gradients ruin the asynchronous Transformer, and summing
four of them before each update repairs it. BLEU over virtual time, three seeds
each; then the first sentences of the test set as the models of the first seed
translate them. 9 runs, all of Table 3.
"""

import functools

from experiments import command, paper, runs, table3
from experiments.records import Records
from experiments.report import draw as draw_curves
from experiments.report import summary

LINES = {
  'transformer': {
    name: runs.base('transformer', name)
    for name in (paper.SYNC, paper.ASYNC, paper.GLOBAL)
  }
}
RUNS = runs.seeds(LINES['transformer'].values())


def report(records: Records) -> str:
  """What came of the three, and what they say."""
  text, _ = table3.headline(records, 'transformer')
  return '\n\n'.join(
    [
      summary(records, LINES),
      f'Virtual seconds, synchronous / 4x global: {text}.',
      *translations(records),
    ]
  )


def translations(records: Records) -> list[str]:
  """A list a sentence: source, reference, and every model's translation."""
  found = {name: records.get(run) for name, run in LINES['transformer'].items()}
  examples = {name: r.get('examples', []) for name, r in found.items() if r}
  parts = []
  for shown in zip(*examples.values(), strict=False):
    lines = [('source', shown[0]['source'])]
    lines += [('reference', shown[0]['reference'])]
    lines += [
      (name, example['translation'])
      for name, example in zip(examples, shown, strict=True)
    ]
    parts.append(
      '\n'.join(f'- *{name}*: {text or "(nothing)"}' for name, text in lines)
    )
  return parts


draw = functools.partial(
  draw_curves,
  lines=LINES,
  axis='virtual_seconds',
  label="virtual seconds, at the speeds of the paper's GPUs",
)

if __name__ == '__main__':
  command.main(__name__)
