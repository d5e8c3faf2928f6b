"""Records to Markdown and pictures, in the form all experiments share."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from experiments import scales
from experiments.records import Records
from experiments.runs import Run
from stale_adam import figures, results

Lines = Mapping[str, Mapping[str, Run]]  # A figure's, by model and label.


def summary(records: Records, lines: Lines) -> str:
  """A table of what a figure's curves came to."""
  header = ['', 'updates', 'mean staleness', 'best BLEU']
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
    parts.append(figures.table([model, *header[1:]], rows))
  return '\n\n'.join(parts)


def draw(
  path: Path,
  records: Records,
  lines: Lines,
  axis: str = 'updates',
  label: str = 'updates',
) -> None:
  """BLEU over a field of the curves, a panel a model.

  By updates, panels end with their shortest run, as far as all can be compared.
  """
  panels, limit = {}, {}
  for model, curves in lines.items():
    panels[model] = {
      name: records.curve(run, axis)
      for name, run in curves.items()
      if records.all(run)
    }
    ends = [max(x) for x, *_ in panels[model].values()]
    limit[model] = min(ends, default=None) if axis == 'updates' else None
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
    parts += [f'## {scale}', module.report(records)]
    if hasattr(module, 'draw'):
      picture = f'{name}-{scale}.png'
      module.draw(directory / picture, records)
      parts.append(f'![{heading}]({picture})')
  if not module.RUNS:
    parts.append(module.report(None))
  text = '\n\n'.join(parts) + '\n'
  with results.whole(directory / f'{name}.md') as partial:
    partial.write_text(text, encoding='utf-8')
  return text
