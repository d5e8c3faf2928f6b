"""Table 4: other language pairs, on validation and test.

  python -m experiments.paper.table4 --scale=tiny

Claim (section 5.3): other language pairs behave as English to German does.
Asynchronous training costs the Transformer much BLEU and the RNN some, and 4x
global accumulation restores it. The grammar of `tiny` has two languages, so it
has two directions and no third pair. At `small`, German, French and Czech
replace German, Finnish and Russian. The first pair has three seeds or more, the
others one. 18 runs, 6 of them also in Table 3; about 30 minutes on two
processor cores at `tiny`, which has 12 of them.
"""

import itertools

from experiments import command
from experiments.ledger import runs
from experiments.ledger.records import Records
from experiments.paper import printed as paper
from experiments.render import figures

RUNS = [
  runs.base(model, communication, pair=pair)
  for pair, (model, communication) in itertools.product(
    paper.TEST, paper.TABLE4
  )
]


def report(records: Records) -> str:
  """One table per pair: validation and tests, ours and the paper's."""
  parts = []
  for pair in paper.TEST:
    if records.pair(pair) is None:
      parts.append(f'This scale has no counterpart of {pair}.')
      continue
    found = [records.get(r) for r in RUNS if r.pair == pair]
    tests = next((list(r['test_bleu']) for r in found if r), ['test'])
    header = [
      records.pair(pair),
      f'paper, {pair}, {paper.VALIDATION[pair]}',
      f'paper, {paper.TEST[pair]}',
      'ours, validation',
      *(f'ours, {test}' for test in tests),
    ]
    rows = []
    for model, communication in paper.TABLE4:
      printed = paper.TABLE4[model, communication]
      run = runs.base(model, communication, pair=pair)
      rows.append(
        [
          f'{model}, {communication}',
          f'{printed[pair, "validation"]:.2f}',
          f'{printed[pair, "test"]:.2f}',
          records.cell(run),
          *(records.cell(run, lambda r, t=t: r['test_bleu'][t]) for t in tests),
        ]
      )
    parts.append(figures.table(header, rows))
  return '\n\n'.join(parts)


if __name__ == '__main__':
  command.main(__name__)
