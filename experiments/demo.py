"""Why the paper was written, in three minutes on two processor cores.

  python -m experiments.demo

Trains the `tiny` Transformer three times from the same parameters, on the same
sentences, at the same learning rate: synchronously, asynchronously, and
asynchronously with 4x global accumulation, by four workers each. Then prints
what came of each and draws the three curves over virtual time.

Claim: staleness ruins asynchronous training; summing four gradients before
each update repairs it, and is sooner done than waiting for every worker
(Aji & Heafield 2019, Tables 3 and 5). The rate is that of Table 5's second
line, twice that of Table 3: both runs that wait or sum learn as well there. At
this scale the first two parts of the claim show, the last hardly: see
results/README.md.
"""

from pathlib import Path

from absl import flags

from experiments.ledger import execute as experiment
from experiments.ledger import scales
from experiments.render import figures
from stale_adam.policy import Communication
from stale_adam.training import record as results

OUT = flags.DEFINE_string('out', 'runs/demo', 'Directory for what it leaves.')
SEED = flags.DEFINE_integer(
  'seed', 0, 'Of parameters, dropout, order and clock.', 0
)
LEARNING_RATE = flags.DEFINE_float(
  'learning_rate', 0.006, 'Peak, of all three.', 0.0
)

RUNS = {
  'synchronous': Communication(4, synchronous=True),
  'asynchronous': Communication(4),
  'asynchronous + 4x global': Communication(4, global_accumulation=4),
}


def report(records: dict, texts: dict, learning) -> str:
  """The table of the three runs and some translations side by side."""
  target = 0.9 * records['synchronous']['best_bleu']
  rows = []
  for name, record in records.items():
    seconds = results.seconds_to_bleu(record, target)
    rows.append(
      [
        name,
        f'{record["best_bleu"]:.1f}',
        f'{record["test_bleu"]["test"]:.1f}',
        f'{record["mean_staleness"]:.2f}',
        f'{record["words_per_second"]["virtual"]:,.0f}',
        'never' if seconds is None else f'{seconds:.1f}',
      ]
    )
  header = [
    'communication',
    'best BLEU',
    'test BLEU',
    'mean staleness',
    'virtual words/s',
    f'virtual seconds to {target:.1f} BLEU',
  ]
  lines = [figures.table(header, rows), '']
  pairs = learning.corpus.tests['test']
  width = max(map(len, RUNS))
  for i in range(4):
    lines.append(f'{"source":>{width}}: {pairs.source[i]}')
    lines.append(f'{"reference":>{width}}: {pairs.target[i]}')
    lines += [f'{name:>{width}}: {texts[name][i]}' for name in RUNS] + ['']
  return '\n'.join(lines)


def draw(picture: Path, records: dict) -> None:
  """The three curves over virtual time."""
  rate = records['synchronous']['config']['learning_rate']
  title = (
    f'The same Transformer, data and learning rate ({rate:g}), four workers'
  )
  axis = lambda r, field: [point[field] for point in r['curve']]
  lines = {
    n: (axis(r, 'virtual_seconds'), axis(r, 'bleu')) for n, r in records.items()
  }
  figures.curves(
    picture,
    {title: lines},
    "virtual time (seconds, at the speeds of the paper's Table 3)",
    'validation BLEU',
  )


def main(_):
  learning, records, texts = None, {}, {}
  for name, communication in RUNS.items():
    settings = scales.settings(
      'tiny',
      'transformer',
      communication,
      SEED.value,
      learning_rate=LEARNING_RATE.value,
    )
    if learning is None:
      learning = experiment.task(settings, scales.load('tiny', 'en-de', None))
    out = Path(OUT.value) / name.replace(' + ', '-').replace(' ', '-')
    records[name], translated = experiment.run(
      settings, learning, out, 'demo', 'tiny', name
    )
    texts[name] = translated['test']
  picture = Path(OUT.value) / 'curves.png'
  draw(picture, records)
  print('\n' + report(records, texts, learning))
  print(f'records, parameters and events: {OUT.value}/*/\npicture: {picture}')


if __name__ == '__main__':
  experiment.main(main)
