"""From results to the table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sacrebleu

NAMES = {'ours': 'ours', 'joeynmt': 'JoeyNMT 2.3.0', 'eole': 'eole 0.6.4'}
WARM = 2  # Windows that are not counted: compilation, first use of memory.


def training_speed(result: Mapping[str, Any]) -> float:
  """Target words a second: the median over windows after the warm-up."""
  rates = [words / seconds for words, seconds in result['windows'][WARM:]]
  return float(np.median(rates))


def decoding_speed(result: Mapping[str, Any]) -> float:
  """Sentences a second: the median over passes after the first."""
  return len(result['translations']) / float(np.median(result['seconds'][1:]))


def bleu(texts: Sequence[str], references: Sequence[str]) -> float:
  """sacreBLEU with its default settings, as of `translation.bleu`."""
  return sacrebleu.metrics.BLEU().corpus_score(texts, [references]).score


def row(
  what: str, values: Mapping[str, float], shown: str, compared: bool = True
) -> list[str]:
  """A line of the table: every side, and ours over the better of the others.

  Args:
    what: is measured.
    values: by side; those that are missing were not measured.
    shown: format of a value.
    compared: whether a ratio makes sense.
  """
  cells = [format(values[s], shown) if s in values else '-' for s in NAMES]
  others = [value for side, value in values.items() if side != 'ours']
  ratio = '-'
  if compared and others and 'ours' in values:
    ratio = f'{values["ours"] / max(others):.2f}'
  return [what, *cells, ratio]


def table(rows: Sequence[Sequence[str]]) -> str:
  """Lines of Markdown."""
  head = ['', *NAMES.values(), 'ours / better of the two']
  lines = [head, ['---', *['--:'] * (len(head) - 1)], *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def report(
  trained: Mapping[str, Mapping[str, Any]],
  decoded: Mapping[str, Mapping[str, Any]],
  scores: Mapping[str, float],
) -> str:
  """The table of all results so far.

  Args:
    trained: results of the part 'train' by side.
    decoded: of the part 'decode'.
    scores: BLEU by side.
  """
  pick = lambda results, of: {side: of(r) for side, r in results.items()}
  return table(
    [
      row('training, target words/s', pick(trained, training_speed), ',.0f'),
      row(
        'target words in an update',
        pick(trained, lambda r: r['words'] / r['updates']),
        ',.0f',
        compared=False,
      ),
      row('busy cores', pick(trained, lambda r: r['cpu']), '.2f', False),
      row('load', pick(trained, lambda r: r['load']), '.1f', False),
      row('BLEU', scores, '.1f'),
      row('beam 4, sentences/s', pick(decoded, decoding_speed), ',.1f'),
      row('load', pick(decoded, lambda r: r['load']), '.1f', False),
    ]
  )
