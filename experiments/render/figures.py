"""Tables in Markdown, figures in PNG, or as charts for a page."""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from experiments.render import charts

# Lines by title of a panel and label; see `curves`.
Panels = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]

# Okabe and Ito's colours, which colour-blind readers can tell apart, without
# their yellow, too pale for a line. Markers are for prints in black and white.
_COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9']
_COLOURS += ['#000000', '#882255', '#999999']
_MARKERS = ['o', 's', '^', 'D', 'v', 'P', 'X', '*', 'p']


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table, padded so that it is readable as plain text.

  The first column is aligned to the left, all others to the right.
  """
  escape = lambda line: [cell.replace('|', r'\|') for cell in line]
  lines = [escape(line) for line in (header, *rows)]
  columns = range(len(header))
  width = [max(2, *(len(line[i]) for line in lines)) for i in columns]

  def text(line):
    first, *others = zip(line, width, strict=True)
    cells = [first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)]
    return '| ' + ' | '.join(cells) + ' |'

  rule = ['-' * width[0], *('-' * (w - 1) + ':' for w in width[1:])]
  return '\n'.join([text(lines[0]), text(rule), *map(text, lines[1:])])


def curves(
  path: str | os.PathLike,
  panels: Panels,
  x_label: str,
  y_label: str,
  x_limit: Mapping[str, float] | None = None,
  log: bool = False,
) -> None:
  """Draw lines in panels side by side that share the scale of y.

  Args:
    path: of the PNG.
    panels: by title; each has, by label, x and y, or x, y, and the lowest and
      the highest y, which become a band around the line.
    x_label: with its unit.
    y_label: with its unit.
    x_limit: by title, where a panel ends; by default it ends with its lines.
    log: whether the x axis is logarithmic, to base 2; then y is not shared.
  """
  if charts.wanted(path):
    charts.write(path, charts.lines(panels, x_label, y_label, log))
    return
  width = 7.5 if len(panels) == 1 else 5.5 * len(panels)
  figure = Figure(figsize=(width, 4.8), layout='constrained')
  all_axes = _lines(figure, panels, x_label, y_label, shared=not log)
  for axes, title in zip(all_axes, panels, strict=True):
    if log:
      axes.set_xscale('log', base=2)
      axes.xaxis.set_major_formatter('{x:g}')
    else:
      axes.set_xlim(0, (x_limit or {}).get(title))
  # After all panels are drawn: this fixes the top of the shared scale.
  for axes in all_axes:
    axes.set_ylim(bottom=0)
  _save(figure, path)


def rows(
  path: str | os.PathLike, parts: Sequence[tuple[Panels, str, str]]
) -> None:
  """Draw rows of panels, each with labels and a legend of its own.

  All axes end with their lines; the panels of a row share the scale of y.

  Args:
    path: of the PNG.
    parts: for each row, its panels as of `curves`, and the labels of x and y.
  """
  if charts.wanted(path):
    made = itertools.starmap(charts.lines, parts)
    charts.write(path, [*itertools.chain(*made)])
    return
  width = 5.5 * max(len(panels) for panels, *_ in parts)
  figure = Figure(figsize=(width, 4.8 * len(parts)), layout='constrained')
  below = figure.subfigures(len(parts), 1, squeeze=False)[:, 0]
  for part, (panels, x_label, y_label) in zip(below, parts, strict=True):
    _lines(part, panels, x_label, y_label)
  _save(figure, path)


def wait_or_not(
  path: str | os.PathLike,
  lines: Mapping[str, Sequence[Sequence[float]]],
  dots: Mapping[str, Mapping[str, tuple[float, float, float]]],
  usual: float,
  x_label: str,
  ratio_label: str,
) -> None:
  """Draw where a ratio of times is above 1: over a number, and by name.

  Args:
    path: of the PNG.
    lines: x, y, and the lowest and highest y, by label.
    dots: y, and its bounds, by label and by the name on the axis.
    usual: the x of the paper's cluster.
    x_label: of the lines.
    ratio_label: of both panels; above 1 the other is faster.
  """
  if charts.wanted(path):
    title = 'above 1: do not wait; below: wait'
    left = charts.lines({title: lines}, x_label, ratio_label)
    right = charts.points('four workers', dots, ratio_label)
    charts.write(path, [*left, right])
    return
  figure = Figure(figsize=(12, 4.8), layout='constrained')
  left, right = figure.subplots(1, 2, width_ratios=(3, 2))
  for i, (label, (x, y, low, high)) in enumerate(lines.items()):
    left.fill_between(x, low, high, alpha=0.2, lw=0, color=_COLOURS[i])
    left.plot(x, y, color=_COLOURS[i], label=label)
  names = list(dict.fromkeys(itertools.chain(*dots.values())))
  for i, (label, of) in enumerate(dots.items()):
    y = [names.index(name) + 0.15 * (i - 1) for name in of]
    values = [value for value, *_ in of.values()]
    errors = [[v - low, high - v] for v, low, high in of.values()]
    right.errorbar(
      values,
      y,
      xerr=[*zip(*errors, strict=True)],
      fmt=_MARKERS[i],
      color=_COLOURS[i + len(lines)],
      label=f'four workers, {label}',
      markersize=5,
      lw=1,
    )
  right.set_yticks(range(len(names)), names)
  left.set(xlabel=x_label, ylabel=ratio_label)
  right.set(xlabel=ratio_label)
  left.axhline(1, color='black', lw=1)
  right.axvline(1, color='black', lw=1)
  place = {'color': '#555555', 'fontsize': 9, 'transform': left.transAxes}
  left.text(0.17, 0.96, 'above 1: do not wait', va='top', **place)
  left.text(0.98, 0.03, 'below 1: wait', ha='right', **place)
  left.axvline(usual, color='#555555', lw=1, ls=':')
  top = {'va': 'top', 'fontsize': 9, 'color': '#555555'}
  top |= {'transform': left.get_xaxis_transform()}
  left.text(usual + 0.01, 0.86, "the paper's cluster", **top)
  for axes in (left, right):
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
  if lines or dots:
    figure.legend(loc='outside lower center', ncols=3, frameon=False)
  _save(figure, path)


def _frontier(
  found: Sequence[tuple[float, float]],
) -> list[tuple[float, float]]:
  """The (x, y) that none of the others beats in both, from the smallest x."""
  best, edge = -math.inf, []
  for x, y in sorted(found, reverse=True):
    if y > best:
      best = y
      edge.append((x, y))
  return edge[::-1]


def points(
  path: str | os.PathLike,
  groups: Mapping[str, Mapping[str, tuple[float, float]]],
  x_label: str,
  y_label: str,
) -> None:
  """Draw named points, and their frontier: stairs around all of them.

  Names stand in a column on the right, with y, in the order of their points. A
  few points far below the others would hide how these differ: those more than
  1.5 times the distance of the quartiles below the lower one lie on the edge,
  and the label says so.

  Args:
    path: of the PNG.
    groups: (x, y) by name, by the group that a colour stands for.
    x_label: with its unit; more is better.
    y_label: likewise.
  """
  if charts.wanted(path):
    charts.write(path, [charts.points('', groups, x_label, y_label)])
    return
  every = [
    (x, y, name, i)
    for i, group in enumerate(groups.values())
    for name, (x, y) in group.items()
  ]
  low, high = np.percentile([y for _, y, *_ in every] or [0.0], [25, 75])
  floor = low - 1.5 * (high - low)
  shown = lambda y: max(y, floor)
  height = max(4.8, 0.17 * len(every) + 1)
  figure = Figure(figsize=(9, height), layout='constrained')
  axes = figure.subplots()
  for i, (label, group) in enumerate(groups.items()):
    xs = [x for x, _ in group.values()]
    ys = [shown(y) for _, y in group.values()]
    look = {'color': _COLOURS[i], 'marker': _MARKERS[i], 'label': label}
    axes.scatter(xs, ys, s=24, clip_on=False, **look)
  ranked = sorted(every, key=lambda point: point[1])
  for place, (x, y, name, i) in enumerate(ranked):
    axes.annotate(
      f'{name}  {y:.1f}',
      (x, shown(y)),
      xytext=(1.03, (place + 0.5) / len(ranked)),
      textcoords='axes fraction',
      fontsize=7,
      va='center',
      color=_COLOURS[i],
      arrowprops={
        'arrowstyle': '-',
        'lw': 0.4,
        'color': '#bbbbbb',
        'relpos': (0, 0.5),
      },
      annotation_clip=False,
    )
  axes.set(xlabel=x_label, ylabel=y_label)
  axes.grid(alpha=0.3)
  axes.spines[['top', 'right']].set_visible(False)
  if any(y < floor for _, y, *_ in every):
    axes.set_ylim(bottom=floor)
    axes.set_ylabel(f'{y_label}; points on the edge lie below it')
  if every:
    xs, ys = zip(*_frontier([point[:2] for point in every]), strict=True)
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    axes.autoscale(False)
    axes.plot(
      [left, *np.repeat(xs, 2)],
      [*np.repeat([*map(shown, ys)], 2), bottom],
      color='#999999',
      lw=1,
      zorder=0,
    )
    figure.legend(
      loc='outside lower center', ncols=len(groups), frameon=False, fontsize=8
    )
  _save(figure, path)


def _lines(
  figure: FigureBase,
  panels: Panels,
  x_label: str,
  y_label: str,
  shared: bool = True,
) -> list[Axes]:
  """Draw the lines of panels side by side, and a legend below them."""
  subplots = figure.subplots(1, len(panels), sharey=shared, squeeze=False)
  all_axes = list(subplots[0])
  # A label looks the same in every panel, whichever lines a panel lacks.
  labels = list(dict.fromkeys(itertools.chain(*panels.values())))
  for axes, (title, lines) in zip(all_axes, panels.items(), strict=True):
    for label, (x, y, *band) in lines.items():
      i = labels.index(label)
      look = {'color': _COLOURS[i % len(_COLOURS)]}
      if band:
        axes.fill_between(x, *band, alpha=0.2, lw=0, **look)
      look |= {'marker': _MARKERS[i % len(_MARKERS)], 'label': label}
      every = max(1, len(x) // 20)  # Markers would hide a line of many points.
      axes.plot(x, y, markersize=4, markevery=every, **look)
    axes.set(xlabel=x_label, title=title)
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
  all_axes[0].set_ylabel(y_label)
  handles = {}  # One legend below all panels hides no line.
  for axes in all_axes:
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  if handles:
    count = math.ceil(len(handles) / max(3, 2 * len(panels)))
    figure.legend(
      handles.values(),
      handles.keys(),
      loc='outside lower center',
      ncols=math.ceil(len(handles) / count),
      frameon=False,
    )
  return all_axes


def _save(figure: Figure, path: str | os.PathLike) -> None:
  Path(path).parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=150, metadata={'Software': None})
