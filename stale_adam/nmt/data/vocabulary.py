"""A joint byte-pair vocabulary of both languages, trained once and cached.

Source: section 4.1 (byte-pair encoding, Sennrich et al., 2016b).
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from stale_adam import files
from stale_adam.nmt.data.corpus import Pairs

PAD, BOS, EOS, UNK = 0, 1, 2, 3
_RESERVED = {'pad_id': PAD, 'bos_id': BOS, 'eos_id': EOS, 'unk_id': UNK}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Sentences to ids and back; `decode(encode(x)) == x`, but for spaces.

  Text is not normalised: no NFKC, no case folding. Leading, trailing and
  repeated spaces collapse, and U+2581 (SentencePiece's own space) becomes a
  space; every other character of the training text comes back. Characters
  never seen come back too if the vocabulary has byte pieces, and as U+2047
  otherwise (see `train`).

  Attributes:
    model: a serialized SentencePiece model.

  Raises:
    ValueError: if `model` is no such thing or reserves other ids.
  """

  model: bytes = dataclasses.field(repr=False)

  def __post_init__(self):
    found = {name: getattr(self._processor, name)() for name in _RESERVED}
    if found != _RESERVED:
      raise ValueError(
        f'the vocabulary reserves {found}; must be {_RESERVED}: train it with '
        'stale_adam.nmt.data.vocabulary.train'
      )

  @functools.cached_property
  def _processor(self) -> sentencepiece.SentencePieceProcessor:
    try:
      if not self.model:  # SentencePiece takes this for "load later".
        raise RuntimeError('no bytes')
      return sentencepiece.SentencePieceProcessor(model_proto=self.model)
    except RuntimeError as error:
      raise ValueError(
        f'these {len(self.model)} bytes are no SentencePiece model: {error}; '
        'train the vocabulary again'
      ) from error

  @property
  def size(self) -> int:
    """Number of ids, the four reserved ones included."""
    return self._processor.get_piece_size()

  def encode(self, sentences: Sequence[str]) -> list[list[int]]:
    """Ids of each sentence, without BOS and EOS."""
    return self._processor.encode(list(sentences))

  def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
    """Sentences up to their first EOS; PAD and BOS vanish.

    Args:
      ids: rows of ids, of any integer type, not necessarily of equal length.

    Returns:
      One sentence for each row.

    Raises:
      ValueError: if an id is outside 0..size-1.
    """
    rows = []
    for row in ids:
      row = [int(i) for i in row]
      row = row[: row.index(EOS)] if EOS in row else row
      outside = [i for i in row if not 0 <= i < self.size]
      if outside:
        raise ValueError(f'id {outside[0]}; must be in 0..{self.size - 1}')
      rows.append(row)  # SentencePiece turns PAD and BOS into nothing.
    # It takes an empty list for one sentence rather than for none.
    return self._processor.decode(rows) if rows else []

  def save(self, path: str | os.PathLike) -> None:
    """Writes a SentencePiece model file, whole or not at all."""
    with files.replacing(path) as partial:
      partial.write_bytes(self.model)

  @classmethod
  def load(cls, path: str | os.PathLike) -> 'Vocabulary':
    """Reads what `save` wrote; ValueError names the file if it is damaged."""
    try:
      return cls(Path(path).read_bytes())
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error


def train(
  corpus_pairs: Pairs,
  size: int,
  cache_dir: str | os.PathLike | None = None,
) -> Vocabulary:
  """Trains one vocabulary for both languages, or finds it in the cache.

  Equal text and size give equal ids, on any machine. From 4,096 ids on, 256
  pieces are the bytes, which spell whatever has no piece, and the rarest 0.01%
  of characters have none; a smaller vocabulary cannot spare these places, so
  it has each character of the text and no bytes. Of more than a million pairs,
  evenly spaced ones are used.

  Args:
    corpus_pairs: the training text.
    size: number of ids, the four reserved ones included.
    cache_dir: where to keep it; `$XDG_CACHE_HOME/stale_adam`, or
      `~/.cache/stale_adam`, by default. The name of the file is a hash of text,
      settings and SentencePiece's version; a damaged file is trained again.

  Returns:
    A vocabulary of exactly `size` ids.

  Raises:
    ValueError: if the text has too many characters, or too few different
      words, for `size`.
  """
  stride = max(1, -(-len(corpus_pairs.source) // 1_000_000))
  sentences = [s for side in corpus_pairs for s in side[::stride]]
  settings = _settings(size)
  path = _cache_dir(cache_dir) / f'{_key(sentences, settings)}.vocabulary'
  cached = _read_cache(path)
  if cached is not None:
    return cached
  vocabulary = _train(sentences, settings)
  try:
    checksum = hashlib.sha256(vocabulary.model).digest()
    with files.replacing(path) as partial:
      partial.write_bytes(checksum + vocabulary.model)
  except OSError as error:  # A read-only home must not cost the run.
    warnings.warn(
      f'vocabulary not cached: {error}; choose another cache_dir', stacklevel=2
    )
  return vocabulary


def _settings(size: int) -> dict[str, Any]:
  large = size >= 4096
  return {
    'vocab_size': size,
    'model_type': 'bpe',
    'normalization_rule_name': 'identity',
    'byte_fallback': large,
    'character_coverage': 0.9999 if large else 1.0,
    'hard_vocab_limit': False,  # Tells how many pieces the text has instead.
    'unk_surface': '\u2047',  # Without the spaces of the default.
    'num_threads': 1,  # So that it cannot depend on the machine.
    **_RESERVED,
  }


def _train(sentences: Sequence[str], settings: dict[str, Any]) -> Vocabulary:
  size = settings['vocab_size']
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(sentences),
      model_writer=model,
      minloglevel=2,
      **settings,
    )
  except RuntimeError as error:
    needed = re.search(r'required_chars\. \d+ vs (\d+)', str(error))
    if needed:
      raise ValueError(
        f'vocabulary size is {size}; the characters of the text alone need '
        f'{needed[1]}: ask for at least that'
      ) from error
    raise ValueError(
      f'no vocabulary of size {size} from {len(sentences)} sentences; must be '
      f'at least 4 ids, and sentences of at most 4,192 bytes ({error})'
    ) from error
  vocabulary = Vocabulary(model.getvalue())
  if vocabulary.size < size:
    raise ValueError(
      f'vocabulary size is {size}; the text has only {vocabulary.size} '
      'different pieces: ask for at most that, or give more text'
    )
  return vocabulary


def _key(sentences: Sequence[str], settings: dict[str, Any]) -> str:
  head = {'version': sentencepiece.__version__, **settings}
  digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
  for sentence in sentences:
    data = sentence.encode()
    digest.update(b'%d:' % len(data))  # Else 'a','bc' would equal 'ab','c'.
    digest.update(data)
  return digest.hexdigest()


def _cache_dir(chosen: str | os.PathLike | None) -> Path:
  if chosen is not None:
    return Path(chosen).expanduser()
  base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
  return Path(base) / 'stale_adam'


def _read_cache(path: Path) -> Vocabulary | None:
  try:
    data = path.read_bytes()
  except OSError:
    return None
  checksum, model = data[:32], data[32:]
  if hashlib.sha256(model).digest() != checksum:
    return None
  return Vocabulary(model)
