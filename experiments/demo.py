"""Shows in three minutes on two processor cores why the paper was written.

  python -m experiments.demo

Trains the `tiny` Transformer three times from the same parameters, on the same
sentences, at the same learning rate: synchronously, asynchronously, and
asynchronously with 4x global accumulation, each with four workers. Then prints
the results of each and draws the three curves over virtual time. To take three
minutes, each passes over the text three times instead of eight.

Claim: staleness ruins asynchronous training. Summing four gradients before each
update repairs it, and takes less time than waiting for every worker (Aji &
Heafield 2019, Tables 3 and 5). The rate is a third above the base rate of
`tiny`, so that staleness leaves little. In so short a run the first two parts
of the claim are visible, the third is not.
"""

import dataclasses
import sys
from pathlib import Path

from experiments import launch, options
from experiments.ledger import compiled, directory, execute, scales, work
from experiments.ledger.settings import Settings
from experiments.render import figures
from experiments.render.report import compare
from stale_adam import files
from stale_adam.policy import Communication
from stale_adam.training.record import best

OUT = options.out('runs/demo', 'Directory for the results.')
OVERWRITE = options.overwrite()
SAVE_SECONDS = options.save_seconds()
SEED = options.number(
  'seed', 0, 'Seed of parameters, dropout, order of sentences and clock.', int
)
LEARNING_RATE = options.number(
  'learning_rate', 0.006, 'Peak learning rate of all three runs.', float
)

RUNS = {
  'synchronous': Communication(4, synchronous=True),
  'asynchronous': Communication(4),
  'asynchronous + 4x global': Communication(4, global_accumulation=4),
}


def report(records: dict) -> str:
  """The table of the three runs, and some translations side by side."""
  lines = [compare(records, 0.9 * best(records['synchronous'])), '']
  width = max(map(len, RUNS))
  examples = zip(*(r['examples'][:4] for r in records.values()), strict=True)
  for said in examples:
    lines.append(f'{"source":>{width}}: {said[0]["source"]}')
    lines.append(f'{"reference":>{width}}: {said[0]["reference"]}')
    for name, own in zip(records, said, strict=True):
      lines.append(f'{name:>{width}}: {own["translation"]}')
    lines.append('')
  return '\n'.join(lines)


def draw(picture: Path, records: dict) -> None:
  """Draw the three curves over virtual time."""
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
  compiled.use()
  try:
    chosen = {name: settings(name) for name in RUNS}
    files.check_writable(OUT.value)
    records = {name: make(name, made) for name, made in chosen.items()}
    picture = Path(OUT.value) / 'curves.png'
    draw(picture, records)
  except (ValueError, OSError) as error:
    sys.exit(str(error))
  print('\n' + report(records))
  print(f'records, parameters and events: {OUT.value}/*/\npicture: {picture}')


def settings(name: str) -> Settings:
  """The settings of one of the runs."""
  usual = scales.settings('tiny', 'transformer')
  with options.named():
    return scales.settings(
      'tiny',
      'transformer',
      communication=RUNS[name],
      seed=SEED.value,
      learning_rate=LEARNING_RATE.value,
      warmup_updates=600,
      decay_after=600,
      budget=dataclasses.replace(usual.budget, epochs=3),
    )


def make(name: str, settings: Settings) -> dict:
  """Train one of the runs, unless it is there; returns its record."""
  task = work.task_of('tiny', settings, None)
  out = Path(OUT.value) / name.replace(' + ', '-').replace(' ', '-')
  with directory.hold(out):
    found = execute.finished(settings, task, out, 'tiny', name)
    if found and not OVERWRITE.value:
      print(f'{out} has this run already; --overwrite trains it again')
      return found
    return execute.execute(
      *(settings, task, out, 'demo', 'tiny', name),
      overwrite=OVERWRITE.value,
      save_seconds=SAVE_SECONDS.value,
    )


if __name__ == '__main__':
  launch.main(main, resumes=True)
