"""Renders records as Markdown and pictures, alike for all experiments."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from experiments.ledger.records import Record, Records
from experiments.ledger.runs import base
from experiments.ledger.settings import Settings
from experiments.ledger.store import DIGITS, Stored
from experiments.render import charts, figures
from stale_adam import files
from stale_adam.training import record as record_lib

Lines = Mapping[str, Mapping[str, Settings]]  # A figure's, by model and label.
_CAPTION = (
  'Lines are means over the seeds. Bands reach from the lowest to the highest '
  'seed.'
)
_AXES = {  # Fields of a curve that can be the axis, with their labels.
  'updates': 'updates',
  'target_words': 'target words',
  'virtual_seconds': 'virtual seconds',
  'seconds': 'seconds of this machine',
}
_METRICS = {'bleu': 'BLEU'}  # As people write them.
_UNITS = {'words_per_second': 'words/s'}


def label(metric: str) -> str:
  """A metric's name as people write it."""
  return _METRICS.get(metric, metric)


def _metric(records: Records, lines: Lines) -> str:
  """The metric of a figure's records, as people write it."""
  drawn = [run for curves in lines.values() for run in curves.values()]
  found = [record for run in drawn for record in records.all(run)]
  return label(record_lib.metric(found[0])) if found else 'score'


def compare(
  records: Mapping[str, Record], target: float, digits: int = 1
) -> str:
  """A table with one line per record.

  Args:
    records: by label.
    target: the score whose time the last column gives.
    digits: of scores.
  """
  first = next(iter(records.values()))
  name = label(record_lib.metric(first))
  speed = record_lib.rate(first)
  header = [
    'communication',
    f'best {name}',
    *(f'{test} {name}' for test in record_lib.tests(first)),
    'mean staleness',
    f'virtual {_UNITS.get(speed, speed)}',
    f'virtual seconds to {target:.{digits}f} {name}',
  ]
  rows = []
  for title, record in records.items():
    seconds = record_lib.seconds_to(record, target)
    scores = [record_lib.best(record), *record_lib.tests(record).values()]
    rows.append(
      [
        title,
        *(f'{score:.{digits}f}' for score in scores),
        f'{record["mean_staleness"]:.2f}',
        f'{record_lib.virtual_speed(record):,.0f}',
        'never' if seconds is None else f'{seconds:.1f}',
      ]
    )
  return figures.table(header, rows)


def summary(records: Records, lines: Lines) -> str:
  """A table of a figure's curves: updates, staleness and best score."""
  columns = ['updates', 'mean staleness', f'best {_metric(records, lines)}']
  parts = []
  for model, curves in lines.items():
    rows = [
      [
        title,
        records.cell(run, lambda r: r['curve'][-1]['updates'], 0),
        records.cell(run, lambda r: r['mean_staleness'], 2),
        records.cell(run),
      ]
      for title, run in curves.items()
    ]
    parts.append(figures.table([model, *columns], rows))
  return '\n\n'.join(parts)


def by_rate(
  records: Records, table: Mapping[float, Mapping], columns: Sequence[tuple]
) -> str:
  """A table with a line per learning rate, ours beside the paper's.

  Args:
    records: of a scale.
    table: the paper's score, by rate and column.
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
  axis_label: str = 'updates',
  until: str | None = None,
) -> None:
  """Draw the score over a field of the curves, one panel for each model.

  Args:
    path: of the PNG; of charts, their readers may choose the field.
    records: of a scale.
    lines: what is drawn; models without any record are left out.
    axis: the field.
    axis_label: text below the axis.
    until: label of the line at whose end panels end; by default the longest.
  """
  score = f'validation {_metric(records, lines)}'
  if charts.wanted(path):
    axes = {axis: axis_label, **{k: v for k, v in _AXES.items() if k != axis}}
    charts.write(path, _charts(records, lines, axes, score))
    return
  panels, limit = {}, {}
  for model, curves in lines.items():
    panels[model] = {
      title: records.curve(run, axis)
      for title, run in curves.items()
      if records.all(run)
    }
    if until in panels[model]:
      limit[model] = max(panels[model][until][0])
  panels = {
    model: curves for model, curves in panels.items() if curves
  } or panels
  figures.curves(path, panels, axis_label, score, limit)


def _charts(
  records: Records, lines: Lines, axes: Mapping[str, str], score: str
) -> list[charts.Chart]:
  """A chart for each model, whose readers choose the axis."""
  panels = {}
  for model, curves in lines.items():
    panels[model] = {}
    for title, run in curves.items():
      if records.all(run):
        x = {axis: records.curve(run, axis)[0] for axis in axes}
        band = records.curve(run, next(iter(axes)))[1:]
        panels[model][title] = (x, *band)
  panels = {model: of for model, of in panels.items() if of}
  return charts.lines(panels, '', score, axes=axes)


def corpora(records: Stored, runs: Iterable[Settings]) -> str:
  """The line that names the texts of the runs."""
  found = records.corpora(dict.fromkeys(run.pair for run in runs))
  named = (f'{name} (`{digest[:DIGITS]}`)' for digest, name in found.items())
  return f'Text, with the first digits of its SHA-256: {", ".join(named)}.'


def render(
  module: ModuleType, directory: Path, all_records: Sequence[Stored]
) -> str:
  """Write an experiment's Markdown and figures; returns the Markdown.

  The claim is the module's docstring, `CAPTION` what it says below its picture
  instead of the usual. A section follows for each scale with at least one
  record, or a single one for an experiment that trains nothing.

  Raises:
    ValueError: if a scale has records of several texts and none is named.
  """
  name = Path(module.__file__).stem
  heading, *claim = module.__doc__.strip().split('\n\n')
  heading = heading.rstrip('.')
  parts = [f'# {heading}', *(f'  {p}' if p[:2] == '  ' else p for p in claim)]
  for records in all_records:
    if not any(map(records.all, module.RUNS)):
      continue
    parts += [f'## {records.scale}', corpora(records, module.RUNS)]
    if hasattr(module, 'draw'):
      picture = f'{name}-{records.scale}.png'
      module.draw(directory / picture, records)
      parts.append(f'![{heading}]({picture})')
      parts.append(getattr(module, 'CAPTION', _CAPTION))
    parts.append(module.report(records))
  if not module.RUNS:
    parts.append(module.report(None))
  text = '\n\n'.join(parts) + '\n'
  with files.replacing(directory / f'{name}.md') as partial:
    partial.write_text(text, encoding='utf-8')
  return text
