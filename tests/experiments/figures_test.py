"""Tables that are Markdown, and figures of the stated size."""

import re
import struct
import warnings

import pytest

from experiments.render import figures

HEADER = ['communication', 'BLEU', 'N']
ROWS = [
  ['synchronous', '31.4', '4'],
  ['asynchronous, 4x global', '3.1', '16'],
  ['größer', 'never', '4'],
]


def cells(line):
  """The cells of a line of Markdown, as GitHub splits it."""
  assert line.startswith('|') and line.endswith('|')
  return [c.strip() for c in re.split(r'(?<!\\)\|', line)[1:-1]]


def test_a_table_is_aligned():
  assert figures.table(HEADER, ROWS).split('\n') == [
    '| communication           |  BLEU |  N |',
    '| ----------------------- | ----: | -: |',
    '| synchronous             |  31.4 |  4 |',
    '| asynchronous, 4x global |   3.1 | 16 |',
    '| größer                  | never |  4 |',
  ]


@pytest.mark.parametrize(
  'header, rows',
  [
    (HEADER, ROWS),
    (HEADER, []),
    (['only'], [['a'], ['b']]),
    (['G', 'N', 'U'], [['1', '2', '3']]),  # One character wide.
    (['', ''], [['', '']]),
    (['a|b', 'c'], [['x | y', '|']]),
  ],
)
def test_a_table_is_markdown(header, rows):
  first, rule, *others = figures.table(header, rows).split('\n')
  # GitHub's rule: each cell of the second line has a hyphen or more, and a
  # colon on the side of alignment; else there is no table.
  assert len(cells(rule)) == len(header)
  left, *right = cells(rule)
  assert re.fullmatch(r':?-+', left), rule
  assert all(re.fullmatch(r'-+:', cell) for cell in right), rule
  plain = [
    [cell.replace(r'\|', '|') for cell in cells(line)]
    for line in [first, *others]
  ]
  assert plain == [header, *rows]


def test_rows_must_be_as_long_as_the_header():
  for row in (['a'], ['a', 'b', 'c']):
    with pytest.raises((ValueError, IndexError)):
      figures.table(['x', 'y'], [row])


def size(path):
  """Width and height of a PNG, from its header."""
  head = path.read_bytes()[:24]
  assert head[:8] == b'\x89PNG\r\n\x1a\n' and head[12:16] == b'IHDR'
  return struct.unpack('>II', head[16:24])


@pytest.mark.slow
@pytest.mark.parametrize(
  'lines',
  [
    {'a': ([1, 2, 3], [0.0, 5.0, 4.0]), 'b': ([2, 4], [1.0, 9.0])},
    {str(i): ([0, 1], [i, i]) for i in range(8)},  # More than colours.
    {},
    {'empty': ([], [])},
    {'single': ([3], [4.0])},
    {'origin': ([0], [0.0])},
    {'null, as a record has it': ([1, 2, 3], [None, 2.0, None])},
    {'nothing but null': ([1, 2], [None, None])},
    {'dollars $ and _underscores_ ^': ([1], [1])},
  ],
)
def test_a_figure_has_the_stated_size(tmp_path, lines):
  path = tmp_path / 'new' / 'figure.png'
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    figures.curves(path, {'A': lines}, 'virtual time (seconds)', 'BLEU')
    assert size(path) == (1125, 720)  # 7.5 x 4.8 inches, 150 dots each.
    two = {'A': lines, 'B': {'b': ([1, 2], [3, 4], [2, 4], [4, 5])}}
    figures.curves(path, two, 'updates', 'BLEU', {'B': 2.0})
    assert size(path) == (1650, 720)


def test_rows_have_the_stated_size_and_a_legend_each(tmp_path, monkeypatch):
  save, made = figures.Figure.savefig, []
  monkeypatch.setattr(
    *(figures.Figure, 'savefig'),
    lambda self, *args, **kwargs: (
      made.append(self),
      save(self, *args, **kwargs),
    ),
  )
  line = ([50, 99], [1.0, 1.1])
  first = {'A': {'a': line}, 'B': {'b': (*line, [0.9, 1.0], [1.1, 1.2])}}
  parts = [(first, 'x', 'y'), ({'A': {'c': line}, 'B': {}}, 'u', 'v')]
  figures.rows(tmp_path / 'x.png', parts)
  assert size(tmp_path / 'x.png') == (1650, 1440)  # A row is 4.8 inches high.
  legends = [part.legends[0].get_texts() for part in made[0].subfigs]
  assert [[t.get_text() for t in of] for of in legends] == [['a', 'b'], ['c']]
  bottom, top = made[0].subfigs[0].axes[0].get_ylim()
  assert 0.8 < bottom < 0.9 and 1.2 < top < 1.3  # Of both panels, not from 0.


@pytest.fixture
def drawn(monkeypatch):
  """Collects figures instead of saving them."""
  figure = []
  monkeypatch.setattr(
    figures.Figure, 'savefig', lambda self, *_, **__: figure.append(self)
  )
  return figure


def test_a_label_looks_the_same_in_every_panel(drawn, tmp_path):
  line = ([1, 2], [3, 4])
  panels = {'A': {'a': line, 'b': line, 'c': line}, 'B': {'c': line, 'd': line}}
  figures.curves(tmp_path / 'x.png', panels, 'x', 'y')
  shown = [drawn[0].legends[0].get_lines(), *(a.lines for a in drawn[0].axes)]
  looks = [
    {line.get_label(): (line.get_color(), line.get_marker()) for line in lines}
    for lines in shown
  ]
  assert [''.join(look) for look in looks] == ['abcd', 'abc', 'cd']
  assert looks[0] == looks[1] | looks[2] and len(set(looks[0].values())) == 4


@pytest.mark.parametrize('log', [False, True])
@pytest.mark.parametrize('heights', [(3, 30), (30, 3), (3, 7, 5)])
def test_no_line_is_cut(heights, log, drawn, tmp_path):
  panels = {str(h): {'a': ([1, 2, 4], [1, h, 2])} for h in heights}
  figures.curves(tmp_path / 'x.png', panels, 'x', 'y', log=log)
  for height, axes in zip(heights, drawn[0].axes, strict=True):
    bottom, top = axes.get_ylim()
    assert bottom == 0 and height < top < 2 * max(heights)


def test_different_lines_give_different_figures(tmp_path):
  images = set()
  for i, y in enumerate([[1, 2], [2, 1], [5, 5]]):
    figures.curves(tmp_path / f'{i}.png', {'': {'a': ([1, 2], y)}}, 'x', 'y')
    images.add((tmp_path / f'{i}.png').read_bytes())
  figures.curves(tmp_path / 'x.png', {'': {'b': ([1, 2], [1, 2])}}, 'x', 'y')
  images.add((tmp_path / 'x.png').read_bytes())
  assert len(images) == 4
