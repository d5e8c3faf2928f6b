"""Records to Markdown and pictures, in the form all experiments share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from experiments.ledger import scales
from experiments.ledger.records import Records
from experiments.ledger.runs import Run, base
from experiments.render import figures
from stale_adam import files

Lines = Mapping[str, Mapping[str, Run]]  # A figure's, by model and label.


def summary(records: Records, lines: Lines) -> str:
  """A table of what a figure's curves came to."""
  columns = ['updates', 'mean staleness', 'best BLEU']
  parts = []
  for model, curves in lines.items():
    rows = [
      [
        label,
        records.cell(run, lambda r: r['curve'][-1]['updates'], 0),
        records.cell(run, lambda r: r['mean_staleness'], 2),
        records.cell(run),
      ]
      for label, run in curves.items()
    ]
    parts.append(figures.table([model, *columns], rows))
  return '\n\n'.join(parts)


def by_rate(
  records: Records, table: Mapping[float, Mapping], columns: Sequence[tuple]
) -> str:
  """A line a learning rate, ours beside the paper's.

  Args:
    records: of a scale.
    table: the paper's BLEU, by rate and column.
    columns: model and communication of each.
  """
  header = ['learning rate, paper', 'ours']
  for model, communication in columns:
    header += [f'{model}, {communication}, paper', 'ours']
  rows = []
  for rate, printed in table.items():
    row = [f'{rate:g}', f'{rate * records.rate_factor:.3g}']
    for model, communication in columns:
      run = base(model, communication, learning_rate=rate)
      row += [f'{printed[model, communication]:.2f}', records.cell(run)]
    rows.append(row)
  return figures.table(header, rows)


def draw(
  path: Path,
  records: Records,
  lines: Lines,
  axis: str = 'updates',
  label: str = 'updates',
  until: str | None = None,
) -> None:
  """BLEU over a field of the curves, a panel a model that has any.

  Args:
    path: of the PNG.
    records: of a scale.
    lines: what is drawn.
    axis: the field.
    label: how it is called.
    until: the line that panels end with, by its label; by default, the longest.
  """
  panels, limit = {}, {}
  for model, curves in lines.items():
    panels[model] = {
      name: records.curve(run, axis)
      for name, run in curves.items()
      if records.all(run)
    }
    if until in panels[model]:
      limit[model] = max(panels[model][until][0])
  panels = {
    model: curves for model, curves in panels.items() if curves
  } or panels
  figures.curves(path, panels, label, 'validation BLEU', limit)


def render(module: ModuleType, directory: Path) -> str:
  """Writes an experiment's Markdown and figures; returns the Markdown.

  The claim is the module's docstring; then comes a section for each scale that
  has any of the records, or the one of an experiment that trains nothing.
  """
  name = Path(module.__file__).stem
  heading, *claim = module.__doc__.strip().split('\n\n')
  heading = heading.rstrip('.')
  parts = [f'# {heading}', *(f'  {p}' if p[:2] == '  ' else p for p in claim)]
  for scale in scales.SCALES:
    records = Records(scale, directory)
    if not any(map(records.all, module.RUNS)):
      continue
    parts.append(f'## {scale}')
    if hasattr(module, 'draw'):
      picture = f'{name}-{scale}.png'
      module.draw(directory / picture, records)
      parts.append(f'![{heading}]({picture})')
      parts.append(
        'Lines are means over the seeds; a band, where there is one, reaches '
        'from the lowest to the highest.'
      )
    parts.append(module.report(records))
  if not module.RUNS:
    parts.append(module.report(None))
  text = '\n\n'.join(parts) + '\n'
  with files.replacing(directory / f'{name}.md') as partial:
    partial.write_text(text, encoding='utf-8')
  return text
