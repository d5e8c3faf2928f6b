"""Records made visible: a table in Markdown, a figure in PNG."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers, and a marker each
# for those who print in black and white.
_COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9']
_MARKERS = ['o', 's', '^', 'D', 'v', 'P']


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table, padded so that it reads well as plain text too.

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
  lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
  x_label: str,
  y_label: str,
  title: str,
) -> None:
  """Draws lines over one pair of axes.

  Args:
    path: of the PNG.
    lines: (x, y) by label.
    x_label: with its unit.
    y_label: with its unit.
    title: what the figure shows.
  """
  figure = Figure(figsize=(7.5, 4.5), layout='constrained')
  axes = figure.subplots()
  for i, (label, (x, y)) in enumerate(lines.items()):
    colour, marker = _COLOURS[i % 6], _MARKERS[i % 6]
    axes.plot(x, y, color=colour, marker=marker, markersize=4, label=label)
  axes.set(xlabel=x_label, ylabel=y_label, title=title)
  axes.set_xlim(left=0)
  axes.set_ylim(bottom=0)
  axes.grid(alpha=0.3)
  axes.spines[['top', 'right']].set_visible(False)
  if lines:
    axes.legend(loc='best', frameon=False)
  Path(path).parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=150)
