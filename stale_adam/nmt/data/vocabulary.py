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
from stale_adam.nmt.data.text import Pairs

PAD, BOS, EOS, UNK = 0, 1, 2, 3
_RESERVED = {'pad_id': PAD, 'bos_id': BOS, 'eos_id': EOS, 'unk_id': UNK}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Token ids of sentences, and back: `decode(encode(x)) == x` but for spaces.

  Text is not normalised: no NFKC, no case folding. Leading, trailing and
  repeated spaces collapse, and U+2581 (SentencePiece's own space) becomes a
  space; every other character of the training text is kept. Other characters
  are kept if the vocabulary has byte pieces, and become U+2047 otherwise (see
  `train`).

  Attributes:
    model: a serialized SentencePiece model.

  Raises:
    ValueError: if `model` is not one, or reserves other ids.
  """

  model: bytes = dataclasses.field(repr=False)

  def __post_init__(self) -> None:
    found = {name: getattr(self._processor, name)() for name in _RESERVED}
    if found != _RESERVED:
      raise ValueError(
        f'the vocabulary reserves {found}, not {_RESERVED}: train it with '
        'stale_adam.nmt.data.vocabulary.train'
      )

  @functools.cached_property
  def _processor(self) -> sentencepiece.SentencePieceProcessor:
    try:
      if not self.model:  # To SentencePiece this means "load later".
        raise RuntimeError('no bytes')
      return sentencepiece.SentencePieceProcessor(model_proto=self.model)
    except RuntimeError as error:
      raise ValueError(
        f'these {len(self.model)} bytes are not a SentencePiece model '
        f'({error}): train the vocabulary again'
      ) from error

  @property
  def size(self) -> int:
    """Number of ids, the four reserved ones included."""
    return self._processor.get_piece_size()

  @property
  def sha256(self) -> str:
    """The SHA-256 of the file that `save` writes."""
    return hashlib.sha256(self.model).hexdigest()

  def encode(self, sentences: Sequence[str]) -> list[list[int]]:
    """Token ids of each sentence, without BOS and EOS."""
    return self._processor.encode(list(sentences))

  def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
    """Sentences up to their first EOS, without PAD and BOS.

    Args:
      ids: token ids of each sentence, of any integer type and length.

    Returns:
      One sentence for each.

    Raises:
      ValueError: if an id is outside 0..size-1.
    """
    sentences = []
    for several in ids:
      sentence = [int(i) for i in several]
      if EOS in sentence:
        sentence = sentence[: sentence.index(EOS)]
      outside = [i for i in sentence if not 0 <= i < self.size]
      if outside:
        raise ValueError(
          f'token id {outside[0]}: use one in 0..{self.size - 1}, as encode '
          'returns'
        )
      sentences.append(sentence)  # SentencePiece drops PAD and BOS.
    # To SentencePiece an empty list is one empty sentence, not none.
    return self._processor.decode(sentences) if sentences else []

  def save(self, path: str | os.PathLike) -> None:
    """Write a SentencePiece model file, atomically."""
    with files.replacing(path) as partial:
      partial.write_bytes(self.model)

  @classmethod
  def load(cls, path: str | os.PathLike) -> 'Vocabulary':
    """Read what `save` wrote; if it is damaged, ValueError names the file."""
    try:
      return cls(Path(path).read_bytes())
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error


def train(
  corpus_pairs: Pairs,
  size: int,
  cache_dir: str | os.PathLike | None = None,
) -> Vocabulary:
  """Train one vocabulary for both languages, or read it from the cache.

  Equal text and size give equal ids, on any machine. A vocabulary of 4,096 ids
  or more has 256 byte pieces, which spell whatever has no piece, and no pieces
  for the rarest 0.01% of characters. A smaller one has a piece for each
  character of the text, and no byte pieces. Of more than a million pairs,
  evenly spaced ones are used.

  Args:
    corpus_pairs: the training text.
    size: number of ids, the four reserved ones included.
    cache_dir: where to keep it; by default `$XDG_CACHE_HOME/stale_adam`, or
      `~/.cache/stale_adam`. The file's name is a hash of the text, the settings
      and SentencePiece's version; a damaged file is replaced.

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
  except OSError as error:  # A read-only home does not end the run.
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
    'hard_vocab_limit': False,  # So that we can say how many pieces there are.
    'unk_surface': '\u2047',  # Without the spaces of the default.
    'num_threads': 1,  # The result must not depend on the machine.
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
        f'size={size}: the characters of the text alone need {needed[1]}; use '
        'at least that many'
      ) from error
    raise ValueError(
      f'size={size}: no vocabulary from {len(sentences)} sentences; use at '
      f'least 4 ids, and sentences of at most 4,192 bytes ({error})'
    ) from error
  vocabulary = Vocabulary(model.getvalue())
  if vocabulary.size < size:
    raise ValueError(
      f'size={size}: the text has only {vocabulary.size} different pieces; use '
      'at most that many, or more text'
    )
  return vocabulary


def _key(sentences: Sequence[str], settings: dict[str, Any]) -> str:
  head = {'version': sentencepiece.__version__, **settings}
  digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
  for sentence in sentences:
    data = sentence.encode()
    digest.update(b'%d:' % len(data))  # 'a','bc' must differ from 'ab','c'.
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
