"""What identifies a text: a digest of every sentence as it was read."""

import hashlib

from stale_adam.nmt.data.corpus import Corpus


def sha256(corpus: Corpus) -> str:
  """SHA-256 of all sentences of training, validation and tests.

  Every part is framed by its name and its number of sentences, and every
  sentence by its length in bytes: to move a sentence to another part, or a word
  to another sentence, changes the digest. The name of the corpus is left out.

  Args:
    corpus: any corpus.

  Returns:
    64 hexadecimal digits.
  """
  digest = hashlib.sha256()
  parts = [('train', corpus.train), ('validation', corpus.validation)]
  parts += [(f'test {name}', pairs) for name, pairs in corpus.tests.items()]
  for name, pairs in parts:
    for side, sentences in zip(pairs._fields, pairs, strict=True):
      _add(digest, f'{name} {side} {len(sentences)}')
      for sentence in sentences:
        _add(digest, sentence)
  return digest.hexdigest()


def _add(digest: 'hashlib._Hash', text: str) -> None:
  data = text.encode()
  digest.update(len(data).to_bytes(8, 'little'))
  digest.update(data)


def of(corpus: Corpus) -> dict[str, str]:
  """The text as a record names it: {'name': ..., 'sha256': ...}."""
  return {'name': corpus.name, 'sha256': sha256(corpus)}
