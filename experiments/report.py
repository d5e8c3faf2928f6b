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


def draw(path: Path, records: Records, lines: Lines) -> None:
  """BLEU by updates, a panel a model, as far as its shortest run goes."""
  panels, limit = {}, {}
  for model, curves in lines.items():
    drawn = {
      label: records.curve(run, 'updates')
      for label, run in curves.items()
      if records.all(run)
    }
    panels[model.capitalize()] = drawn
    ends = [max(x) for x, *_ in drawn.values()]
    limit[model.capitalize()] = min(ends, default=None)
  figures.curves(path, panels, 'updates', 'validation BLEU', limit)


def render(module: ModuleType, directory: Path) -> str:
  """Writes an experiment's Markdown and figures; returns the Markdown.

  The claim is the module's docstring; then comes a section for each scale that
  has any of the records.
  """
  name = Path(module.__file__).stem
  heading, *claim = module.__doc__.strip().split('\n\n')
  parts = [f'# {heading}', *('    ' + p if p[:2] == '  ' else p for p in claim)]
  for scale in scales.SCALES:
    records = Records(scale, directory)
    if not any(records.all(run) for run in module.RUNS):
      continue
    parts += [f'## {scale}', module.report(records)]
    if hasattr(module, 'LINES'):
      picture = f'{name}-{scale}.png'
      draw(directory / picture, records, module.LINES)
      parts.append(f'![{heading}]({picture})')
  text = '\n\n'.join(parts) + '\n'
  with results.whole(directory / f'{name}.md') as partial:
    partial.write_text(text, encoding='utf-8')
  return text
