"""Batches of one static shape: sentences packed into rows.

A batch has a fixed number of rows. A row has a fixed number of source positions
and of target positions, and holds as many whole sentences as fit. So a budget
of target words is one shape, one compilation serves a run, and there is little
padding.
"""

import bisect
import dataclasses
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from stale_adam import checks
from stale_adam.nmt.data.vocabulary import EOS, PAD

_WINDOW = 2048  # Rows are filled from this many sentences at a time.


class Shape(NamedTuple):
  """Rows of a batch; source and target positions of a row."""

  rows: int
  source: int
  target: int


@dataclasses.dataclass(frozen=True)
class Tokens:
  """Sentences as token ids, one after another, each ended by EOS.

  Attributes:
    ids: [tokens] of int32.
    ends: [sentences + 1] of int64; sentence i is ids[ends[i] : ends[i + 1]].
  """

  ids: np.ndarray
  ends: np.ndarray

  @classmethod
  def of(cls, sentences: Sequence[Sequence[int]]) -> 'Tokens':
    """Joins lists of token ids without EOS."""
    lengths = [len(s) + 1 for s in sentences]
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    parts = [[*s, EOS] for s in sentences]
    flat = np.concatenate(parts) if parts else np.zeros(0)
    return cls(flat.astype(np.int32), ends)

  def __getitem__(self, i: int) -> np.ndarray:
    return self.ids[self.ends[i] : self.ends[i + 1]]

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    """Tokens of each sentence, EOS counted."""
    return np.diff(self.ends)


class Batches:
  """All batches of a training set; a batch is a pure function of its id.

  Every sentence that fits into a row appears exactly once an epoch. The last
  batch of an epoch may have empty rows; the next epoch begins with the next
  batch.

  Args:
    source: source sentences.
    target: their translations.
    shape: of every batch.
    seed: of the order of sentences, which differs from epoch to epoch.

  Attributes:
    skipped: number of sentences that are longer than a row and were left out.

  Raises:
    ValueError: if the two sides differ in length, no sentence fits, or the
      seed is not from 0 to 2**32 - 1.
  """

  def __init__(
    self, source: Tokens, target: Tokens, shape: Shape, seed: int = 0
  ) -> None:
    checks.seed(seed)
    if len(source.lengths) != len(target.lengths):
      raise ValueError(
        f'{len(source.lengths)} source sentences, {len(target.lengths)} target '
        'sentences: give one translation for each'
      )
    fits = (source.lengths <= shape.source) & (target.lengths <= shape.target)
    self.shape, self.skipped = shape, int((~fits).sum())
    self._source, self._target, self._seed = source, target, seed
    self._sentences = np.flatnonzero(fits)
    if not self._sentences.size:
      raise ValueError(
        f'none of {fits.size} sentences fits into a row: '
        f'source={shape.source}, target={shape.target}; use longer rows'
      )
    self._packing = threading.Lock()  # Workers may ask at the same time.
    self._epochs: list[list[list[np.ndarray]]] = []  # Batches of rows.
    self._first: list[int] = [0]  # Batch id that each epoch begins with.

  def __reduce__(self) -> tuple[Any, ...]:
    """Pickles the text and its order; whoever loads it packs rows again."""
    return Batches, (self._source, self._target, self.shape, self._seed)

  def batch(self, batch_id: int) -> dict[str, np.ndarray]:
    """Lays out a batch; ids count from 0 and never end.

    Returns:
      'source', 'source_segments': [rows, source] of int32; 'target',
      'target_segments': [rows, target] of int32. Segments count the sentences
      of a row from 1; 0 is padding.
    """
    rows, (count, *lengths) = self._rows_of(batch_id), self.shape
    sides = zip((self._source, self._target), lengths, strict=True)
    made = [lay_out(tokens, rows, count, length) for tokens, length in sides]
    names = 'source', 'source_segments', 'target', 'target_segments'
    return dict(zip(names, [*made[0], *made[1]], strict=True))

  def target_words(self, batch_id: int) -> int:
    """Target tokens of a batch, EOS counted."""
    rows = self._rows_of(batch_id)
    return int(sum(self._target.lengths[row].sum() for row in rows))

  @property
  def target_words_per_epoch(self) -> int:
    """Target tokens of all sentences that fit, EOS counted."""
    return int(self._target.lengths[self._sentences].sum())

  @property
  def first_epoch(self) -> int:
    """Number of batches of epoch 0; later epochs may differ by a few."""
    self.epoch(0)
    return self._first[1]

  def epoch(self, batch_id: int) -> int:
    """The epoch, from 0, that a batch belongs to."""
    with self._packing:
      while batch_id >= self._first[-1]:
        batches = self._pack(len(self._epochs))
        self._epochs.append(batches)
        self._first.append(self._first[-1] + len(batches))
    return bisect.bisect_right(self._first, batch_id) - 1

  def _rows_of(self, batch_id: int) -> list[np.ndarray]:
    epoch = self.epoch(batch_id)
    return self._epochs[epoch][batch_id - self._first[epoch]]

  def _pack(self, epoch: int) -> list[list[np.ndarray]]:
    draw = np.random.default_rng((self._seed, epoch))
    order = draw.permutation(self._sentences)
    windows = np.split(order, range(_WINDOW, order.size, _WINDOW))
    rows = [row for window in windows for row in self._rows(window)]
    rows = [rows[i] for i in draw.permutation(len(rows))]
    count = self.shape.rows
    return [rows[i : i + count] for i in range(0, len(rows), count)]

  def _rows(self, window: np.ndarray) -> Iterator[np.ndarray]:
    return pack(
      window,
      self._source.lengths[window],
      self._target.lengths[window],
      self.shape,
    )


def pack(
  sentences: np.ndarray, source: np.ndarray, target: np.ndarray, shape: Shape
) -> Iterator[np.ndarray]:
  """Fills rows, longest sentences first, each into the row with the least room.

  Args:
    sentences: [n] indices of sentences.
    source: [n] their source lengths.
    target: [n] their target lengths; neither exceeds a row's.
    shape: a row's lengths.

  Yields:
    The indices of the sentences of each row.
  """
  size = np.array([shape.source, shape.target])
  need = np.stack([source, target], axis=1)
  room = np.zeros((len(sentences), 2), np.int64)
  rows: list[list[int]] = []
  # The fuller side of a sentence decides how hard it is to place.
  for i in np.argsort(-(need / size).max(axis=1), kind='stable'):
    left = room[: len(rows)] - need[i]
    slack = np.where((left >= 0).all(axis=1), (left / size).sum(axis=1), np.inf)
    best = int(slack.argmin()) if len(rows) else 0
    if not len(rows) or slack[best] == np.inf:
      best = len(rows)
      rows.append([])
      room[best] = size
    rows[best].append(int(sentences[i]))
    room[best] -= need[i]
  yield from (np.array(row) for row in rows)


def lay_out(
  tokens: Tokens,
  rows: Sequence[np.ndarray] | np.ndarray,
  count: int,
  length: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Lays out the sentences of each row one after another.

  Args:
    tokens: the sentences.
    rows: indices of the sentences of each row; at most `count` rows.
    count: rows of the result; those after the last of `rows` are empty.
    length: positions of a row.

  Returns:
    (ids, segments), both [count, length] of int32. Segments count a row's
    sentences from 1; 0 is padding.
  """
  ids = np.full((count, length), PAD, np.int32)
  segments = np.zeros((count, length), np.int32)
  for r, row in enumerate(rows):
    at = 0
    for segment, i in enumerate(row, start=1):
      sentence = tokens[i]
      ids[r, at : at + sentence.size] = sentence
      segments[r, at : at + sentence.size] = segment
      at += sentence.size
  return ids, segments


def padding(batches: Batches, count: int) -> float:
  """The share of empty positions in the first `count` batches."""
  full = total = 0
  for batch_id in range(count):
    batch = batches.batch(batch_id)
    for name in ('source_segments', 'target_segments'):
      full += int(np.count_nonzero(batch[name]))
      total += batch[name].size
  return 1 - full / total
