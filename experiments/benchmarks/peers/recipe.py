"""What all sides are given: text, vocabulary, model, optimizer, batches.

The recipe is the Transformer of `small`. An update uses 16 rows of 64 target
positions, as one of that scale does.
"""

import inspect
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import stale_adam as sa
from experiments.ledger import execute, scales, texts
from experiments.ledger.settings import Settings
from stale_adam import files
from stale_adam.nmt.data.text import Pairs
from stale_adam.nmt.data.vocabulary import UNK
from stale_adam.nmt.translation import Translation

BEAM, ALPHA = 4, 0.6  # Of the search; the exponent of the length.
SENTENCES = 1000  # Of the test, at most.
_TOGETHER = 64  # Sentences that a toolkit decodes at a time.
# eole's search, whose settings are not part of its configuration.
SEARCH = {
  'beam_size': BEAM,
  'length_penalty': 'wu',
  'alpha': ALPHA,
  'batch_type': 'sents',
  'batch_size': _TOGETHER,
  'ban_unk_token': True,
  'world_size': 1,
  'gpu_ranks': [],
}
_RESERVED = 4  # Ids of a vocabulary: each toolkit has its own four.


def settings(pair: str) -> Settings:
  """The settings of our side: synchronous workers, as at `small`."""
  return scales.settings('small', 'transformer', pair=pair)


def task(chosen: Settings, data_dir: str | None) -> Translation:
  """The task of these settings.

  Raises:
    ValueError: if there is no `data_dir`.
    OSError: if a file is missing.
  """
  return execute.make_task(chosen, texts.load('small', chosen.pair, data_dir))


def test(pair: str, data_dir: str | None) -> Pairs:
  """The sentences to translate: the first of the first test set."""
  tests = texts.load('small', pair, data_dir).tests
  pairs = next(iter(tests.values()))
  return Pairs(pairs.source[:SENTENCES], pairs.target[:SENTENCES])


def words_per_update(chosen: Settings, made: Translation) -> float:
  """Mean target words of our updates, each sentence's end included."""
  batches = chosen.communication.batches_per_update
  return batches * made.units_per_epoch / made.batches.first_epoch


def write_text(made: Translation, tested: Pairs, folder: Path) -> int:
  """Write the text for toolkits, in which a word is the id of a piece.

  So their vocabularies are ours, and they neither join nor split anything.
  Training sentences that are longer than our rows are left out, as on our side.

  Args:
    made: our task.
    tested: the sentences to translate.
    folder: gets train, val and test, each ending in .source and .target, and
      the vocabulary.

  Returns:
    The number of training pairs.
  """
  pieces = made.model.vocabulary
  shape = made.batches.shape
  fits = lambda source, target: (
    len(source) < shape.source and len(target) < shape.target
  )
  everything = lambda source, target: True
  count = 0
  for part, pairs, wanted in (
    ('test', tested, everything),
    ('val', made.corpus.validation, everything),
    ('train', made.corpus.train, fits),
  ):
    sides = zip(*map(pieces.encode, pairs), strict=True)
    kept = [pair for pair in sides if wanted(*pair)]
    count = len(kept)
    for name, i in (('source', 0), ('target', 1)):
      lines = [' '.join(map(str, pair[i])) for pair in kept]
      _write_lines(folder / f'{part}.{name}', lines)
  ids = map(str, range(_RESERVED, pieces.size))
  _write_lines(folder / 'vocabulary', ids)
  return count


def _write_lines(path: Path, lines: Any) -> None:
  with files.replacing(path) as partial:
    partial.write_text(''.join(f'{line}\n' for line in lines), 'utf-8')


def text_of(made: Translation, sentences: Sequence[str]) -> list[str]:
  """The text of a toolkit's translations, which are ids; its own words too."""
  ids = lambda sentence: [
    int(word) if word.isdecimal() else UNK for word in sentence.split()
  ]
  return made.model.vocabulary.decode([ids(s) for s in sentences])


def configuration(
  side: str,
  chosen: Settings,
  text: Path,
  out: Path,
  batch: int,
  pairs: int,
) -> str:
  """Fill in a toolkit's configuration, the YAML file beside this one.

  Args:
    side: the toolkit.
    chosen: settings of our side.
    text: folder that `write_text` has filled.
    out: folder of the model.
    batch: the toolkit's own setting of the size of batches.
    pairs: the number of training pairs.
  """
  adam = inspect.signature(sa.adam).parameters
  rate, warmup = chosen.learning_rate, chosen.warmup_updates
  values = dict(chosen.sizes) | {
    name: adam[name].default for name in ('b1', 'b2', 'eps')
  }
  template = Path(__file__).with_name(f'{side}.yaml').read_text('utf-8')
  return string.Template(template).substitute(
    values,
    text=text.resolve(),
    out=out.resolve(),
    batch=batch,
    pairs=pairs,
    rate=rate,
    # noam's rate is size^-0.5 min(u^-0.5, u warmup^-1.5).
    noam=rate * float(np.sqrt(chosen.sizes['size'] * warmup)),
    warmup=warmup,
    smoothing=chosen.smoothing,
    vocabulary=chosen.vocabulary,
    beam=BEAM,
    alpha=ALPHA,
    sentences=_TOGETHER,
  )
