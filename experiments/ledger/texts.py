"""The text of a run: drawn by the grammar, read from files, or WMT."""

import functools

from experiments import grammar
from experiments.ledger import scales
from stale_adam.nmt import identity
from stale_adam.nmt.data import corpus


@functools.lru_cache(maxsize=1)
def load(scale: str, pair: str, data_dir: str | None) -> corpus.Corpus:
  """Read the text of a scale.

  Args:
    scale: a name in scales.py.
    pair: source and target language, as the text has them.
    data_dir: directory of the text; None for the grammar, at scales that have
      one.

  Raises:
    ValueError: if the scale needs a `data_dir` and there is none.
    OSError: if a file is missing.
  """
  embedded = scales.SCALES[scale].embedded
  if data_dir is None and embedded is None:
    raise ValueError(
      f'--scale={scale} reads a text from disk: name its directory by '
      '--data_dir'
    )
  if data_dir is None:
    train, validation, test = embedded
    return grammar.corpus(
      train=train, validation=validation, test=test, pair=pair
    )
  if scale == 'paper':
    return corpus.wmt(pair, data_dir)
  return corpus.directory(data_dir, pair)


@functools.lru_cache(maxsize=16)
def sha256(scale: str, pair: str, data_dir: str | None) -> str:
  """The digest of that text.

  Raises:
    ValueError, OSError: as `load`.
  """
  return identity.sha256(load(scale, pair, data_dir))
