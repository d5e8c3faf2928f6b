"""Table 3: five ways to communicate, their speed, quality and time to BLEU.

  python -m experiments.table3 --scale=tiny

Claim (section 5.1): summing four pushes before each update restores the quality
that asynchrony lost and reaches a BLEU near convergence sooner than waiting
for all workers; summing on the workers is faster still and restores nothing.
Targets are the shares of the synchronous best, of the lowest of three seeds,
that the paper's are of its own; the time to one is interpolated between two
validations. Thirty runs, about 25 minutes on two processor cores.
"""

from pathlib import Path

from experiments import command, paper, runs
from experiments.records import Records, spread, virtual_speed
from experiments.report import draw as draw_curves
from stale_adam import figures

RUNS = runs.seeds(runs.base(m, c) for m, c in paper.TABLE3)


def targets(records: Records, model: str) -> dict[int, float]:
  """Our BLEU for each that the paper times."""
  printed = paper.TABLE3[model, paper.SYNC]
  found = records.all(runs.base(model, paper.SYNC))
  # Of the lowest, so that every synchronous seed reaches its targets.
  ours = min((r['best_bleu'] for r in found), default=float('nan'))
  return {bleu: ours * bleu / printed.best_bleu for bleu in printed.hours}


def report(records: Records) -> str:
  """One table a model, ours under the paper's."""
  parts = []
  for model in paper.LEARNING_RATE:
    goals = targets(records, model)
    header = [
      model,
      'mean staleness',
      'words/s',
      'best BLEU',
      *(f'{ours:.1f} BLEU, seconds' for ours in goals.values()),
    ]
    rows = []
    for communication in runs.COMMUNICATIONS:
      printed = paper.TABLE3[model, communication]
      hours = [f'{h} h' if h else 'never' for h in printed.hours.values()]
      rows.append(
        [
          f'{communication}, paper',
          f'{printed.mean_staleness:g}',
          f'{printed.words_per_second:,}',
          f'{printed.best_bleu:.2f}',
          *(f'{h} ({b})' for b, h in zip(printed.hours, hours, strict=True)),
        ]
      )
      run = runs.base(model, communication)
      rows.append(
        [
          f'{communication}, ours',
          records.cell(run, lambda r: r['mean_staleness'], 2),
          records.cell(run, virtual_speed, 0),
          records.cell(run),
          *(spread(records.seconds(run, goal)) for goal in goals.values()),
        ]
      )
    parts.append(figures.table(header, rows))
  return '\n\n'.join(parts)


def draw(path: Path, records: Records) -> None:
  """BLEU by virtual time: what the table's last columns are read from."""
  lines = {
    model: {name: runs.base(model, name) for name in runs.COMMUNICATIONS}
    for model in paper.LEARNING_RATE
  }
  label = "virtual seconds, at the speeds of the paper's GPUs"
  draw_curves(path, records, lines, 'virtual_seconds', label)


if __name__ == '__main__':
  command.main(__name__)
