"""Figures as data, for a page on which readers explore them.

A chart is what JSON holds: a title, labels of the axes, and what is drawn.
`figures` writes charts instead of a picture if its path ends in .json.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stale_adam import files

Chart = dict[str, Any]
SUFFIX = '.json'


def wanted(path: str | os.PathLike) -> bool:
  """Whether a figure at this path is to be written as charts."""
  return Path(path).suffix == SUFFIX


def write(path: str | os.PathLike, charts: Sequence[Chart]) -> None:
  """Write charts as one JSON list."""
  Path(path).parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as partial:
    partial.write_text(json.dumps(rounded(charts)), encoding='utf-8')


def lines(
  panels: Mapping[str, Mapping[str, Sequence[Any]]],
  x_label: str,
  y_label: str,
  log: bool = False,
  axes: Mapping[str, str] | None = None,
) -> list[Chart]:
  """A chart for each panel.

  Args:
    panels: as of `figures.curves`. With `axes`, x is one sequence for each.
    x_label: of the only axis.
    y_label: of all panels.
    log: whether x is logarithmic at first.
    axes: labels of the axes that a reader may choose, by name.
  """
  made = []
  for title, of in panels.items():
    drawn = []
    for label, (x, y, *band) in of.items():
      line: Chart = {'label': label, 'x': x if axes else {'x': x}, 'y': y}
      if band:
        line |= {'low': band[0], 'high': band[1]}
      drawn.append(line)
    made.append(
      {
        'kind': 'lines',
        'title': title,
        'axes': dict(axes) if axes else {'x': x_label},
        'y_label': y_label,
        'log': log,
        'lines': drawn,
      }
    )
  return made


def points(
  title: str,
  groups: Mapping[str, Mapping[str, Sequence[float]]],
  x_label: str,
  y_label: str = '',
) -> Chart:
  """Named points in groups.

  Args:
    title: of the chart.
    groups: by label and name, (x, y); or (x, lowest, highest) without y_label:
      then names are the other axis.
    x_label: of the horizontal axis.
    y_label: of the other one, if it is a number.
  """
  drawn = []
  for label, of in groups.items():
    group: Chart = {'label': label, 'names': list(of)}
    group['x'] = [values[0] for values in of.values()]
    if y_label:
      group['y'] = [values[1] for values in of.values()]
    else:
      group['low'] = [values[1] for values in of.values()]
      group['high'] = [values[2] for values in of.values()]
    drawn.append(group)
  labels = {'x_label': x_label, 'y_label': y_label}
  return {'kind': 'points', 'title': title, **labels, 'groups': drawn}


def rounded(value: Any) -> Any:
  """Numbers with four digits, in what JSON holds; NaN becomes null."""
  if hasattr(value, 'tolist'):
    value = value.tolist()
  if isinstance(value, float):
    return float(f'{value:.4g}') if math.isfinite(value) else None
  if isinstance(value, Mapping):
    return {str(key): rounded(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [rounded(item) for item in value]
  return value
