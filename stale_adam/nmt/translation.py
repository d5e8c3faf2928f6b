"""Translation as a task: models, their training problem and their scores."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import sacrebleu

from stale_adam import checks
from stale_adam.nmt import decoding, identity
from stale_adam.nmt import network as network_lib
from stale_adam.nmt.data import batches as batches_lib
from stale_adam.nmt.data.corpus import Corpus
from stale_adam.nmt.data.text import Pairs
from stale_adam.nmt.data.vocabulary import Vocabulary
from stale_adam.problem import Params, Problem
from stale_adam.training import checkpoint
from stale_adam.training.task import Evaluation

VOCABULARY = 'vocabulary.model'  # File beside the parameters.
EXAMPLES = 10  # Sentences of the first test that are kept as examples.


@dataclasses.dataclass(frozen=True)
class Model:
  """A translation model without its parameters.

  Attributes:
    kind: 'transformer', 'tfixup' or 'rnn'.
    vocabulary: how text becomes ids.
    sizes: the constructor's other arguments; see `Transformer` and `Rnn`.
  """

  kind: str
  vocabulary: Vocabulary
  sizes: Mapping[str, Any]

  @functools.cached_property
  def network(self) -> network_lib.Network:
    """The model without its vocabulary, of which only the size counts."""
    sizes = tuple(sorted(self.sizes.items()))
    return network_lib.Network(self.kind, self.vocabulary.size, sizes)

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters as a pure dict of arrays."""
    return self.network.init(key)

  def metadata(self) -> dict[str, Any]:
    """What `load` needs beside the parameters and the vocabulary's file."""
    return {
      'model': self.kind,
      'sizes': dict(self.sizes),
      'vocabulary_sha256': self.vocabulary.sha256,
    }

  def translate(
    self,
    params: Params,
    sentences: Sequence[str],
    beam: int = 4,
    longest: int | None = None,
  ) -> list[str]:
    """Translates sentences by beam search.

    Sentences of the same length, rounded up, are decoded together, a group on
    each core. A translation has at most one and a half times that length, and
    ten tokens more.

    Args:
      params: as `init` returns.
      sentences: source sentences.
      beam: hypotheses a sentence; 1 is greedy.
      longest: tokens of a source, its end included; the rest of a longer one is
        not translated. None for no limit.
    """
    params = jax.device_put(params)  # Once, not for every group.
    ids = self.vocabulary.encode(sentences)
    if longest is not None:
      ids = [sentence[: longest - 1] for sentence in ids]
    results: list[str] = [''] * len(ids)
    # An empty sentence stays empty; the model is not asked.
    groups = decoding.groups([len(s) + 1 if s else 0 for s in ids])

    def decode(group: decoding.Group) -> list[str]:
      tokens = batches_lib.Tokens.of([ids[i] for i in group.members])
      single = np.arange(len(group.members))[:, None]
      source = batches_lib.lay_out(tokens, single, group.size, group.length)
      found = np.asarray(self._search(params, *source, beam, group.rows))
      return self.vocabulary.decode(found[: len(group.members)].tolist())

    with concurrent.futures.ThreadPoolExecutor(decoding.threads()) as threads:
      found = threads.map(decode, groups)
      for group, texts in zip(groups, found, strict=True):
        for i, text in zip(group.members, texts, strict=True):
          results[i] = text
    return results

  @functools.cached_property
  def _search(self) -> Callable[..., jax.Array]:
    return functools.partial(network_lib.search, self.network)


def load(directory: str | os.PathLike) -> tuple[Model, Params]:
  """Loads the model that a run left in its directory, and its best parameters.

  Raises:
    OSError: if a file is missing.
    ValueError: if a file is damaged or holds parameters of something else; if
      the vocabulary is not the one that the model was trained with.
  """
  path = Path(directory) / 'params.npz'
  params, metadata = checkpoint.load(path)
  known = isinstance(metadata, dict) and isinstance(metadata.get('sizes'), dict)
  texts = ('model', 'vocabulary_sha256')
  if not (known and all(isinstance(metadata.get(name), str) for name in texts)):
    raise ValueError(
      f'{path} does not say which model and vocabulary it is of: name a '
      'directory that a run of this version left'
    )
  file = Path(directory) / VOCABULARY
  wanted = metadata['vocabulary_sha256']
  found = hashlib.sha256(file.read_bytes()).hexdigest()
  if found != wanted:
    raise ValueError(
      f'{file} is not the vocabulary of params.npz beside it: its SHA-256 '
      f'begins with {found[:8]}, not {wanted[:8]}. Copy both files from the '
      'same run'
    )
  model = Model(metadata['model'], Vocabulary.load(file), metadata['sizes'])
  try:
    form = _form(jax.eval_shape(model.init, jax.random.key(0)))
  except Exception as error:  # Of any type, where sizes are no numbers.
    said = checks.cut(f'{type(error).__name__}: {error}')
    raise ValueError(
      f'{path} describes a model that cannot be built ({said}): train again'
    ) from error
  if _form(params) != form:
    raise ValueError(
      f'{path} has other parameters than a {model.kind} of sizes '
      f'{dict(model.sizes)} with {model.vocabulary.size} pieces: it and the '
      'vocabulary must be of one run'
    )
  return model, params


def _form(params: Params) -> Any:
  """Structure, shapes and types."""
  return jax.tree.map(lambda x: (np.shape(x), x.dtype), params)


class Translation:
  """Learning to translate a corpus: a `training.task.Task`.

  Args:
    model: what is trained.
    corpus: what it is trained on.
    shape: of every batch.
    smoothing: of the labels, in training only.
    validation_beam: beam of the validation's translations.
    seed: of the order of sentences.
    beam: of the tests' translations.

  Attributes:
    problem: `loss` is the mean over the target words of a batch.
    batches: the training batches.
    validation: the validation batches.
    longest: tokens of a source that are translated, at most: four times what a
      row holds, so that one endless line does not decide how long scores take.
  """

  metric, unit, rate = 'bleu', 'target_words', 'words_per_second'

  def __init__(
    self,
    model: Model,
    corpus: Corpus,
    shape: batches_lib.Shape,
    smoothing: float = 0.1,
    validation_beam: int = 1,
    seed: int = 0,
    beam: int = 4,
  ):
    self.model, self.corpus = model, corpus
    self.validation_beam, self.beam = validation_beam, beam
    self.longest = 4 * shape.source
    self.batches = self._batches('training', corpus.train, shape, seed)
    self.validation = self._batches('validation', corpus.validation, shape, 0)

    loss = network_lib.Loss(model.network, smoothing)
    self.problem = Problem(model.network.init, loss, self.batches.batch)

  def _batches(
    self, part: str, pairs: Pairs, shape: batches_lib.Shape, seed: int
  ) -> batches_lib.Batches:
    encode = lambda text: batches_lib.Tokens.of(
      self.model.vocabulary.encode(text)
    )
    source, target = encode(pairs.source), encode(pairs.target)
    try:
      return batches_lib.Batches(source, target, shape, seed)
    except ValueError as error:
      raise ValueError(f'{part} text: {error}') from error

  @functools.cached_property
  def shortened(self) -> dict[str, int]:
    """How many sources are not translated to their end; by part of the text."""
    parts = {'validation': self.corpus.validation, **self.corpus.tests}
    found = {}
    for name, pairs in parts.items():
      ids = self.model.vocabulary.encode(pairs.source)
      found[name] = sum(len(sentence) >= self.longest for sentence in ids)
    return {name: count for name, count in found.items() if count}

  @functools.cached_property
  def text(self) -> dict[str, str]:
    """Name and SHA-256 of the corpus, as the record keeps them."""
    return identity.of(self.corpus)

  @property
  def units_per_epoch(self) -> int:
    """Target words of the training set, each sentence's end included."""
    return self.batches.target_words_per_epoch

  def units(self, batch_id: int) -> int:
    """Target words of a batch."""
    return self.batches.target_words(batch_id)

  def validation_loss(self, params: Params) -> float:
    """Mean cross-entropy over the validation target words, not smoothed.

    Several batches at a time: a program for one batch may use one core only.
    They are summed in their order, whichever ends first.
    """
    params = jax.device_put(params)  # Once, not for every batch.

    def losses(batch_id: int) -> np.ndarray:
      batch = self.validation.batch(batch_id)
      found = network_lib.losses(self.model.network, params, batch)
      return np.array([float(x) for x in found])

    with concurrent.futures.ThreadPoolExecutor(decoding.threads()) as threads:
      found = threads.map(losses, range(self.validation.first_epoch))
      sums = sum(found, np.zeros(2))
    return float(sums[0] / sums[1])

  def validation_score(self, params: Params) -> float:
    """sacreBLEU of the validation set."""
    return self.bleu(params, self.corpus.validation, self.validation_beam)[0]

  def test(self, params: Params) -> Evaluation:
    """sacreBLEU of every test set; the first one's first translations."""
    scores, texts, signature = {}, {}, ''
    for name, pairs in self.corpus.tests.items():
      scores[name], signature, texts[name] = self.bleu(params, pairs, self.beam)
    name, pairs = next(iter(self.corpus.tests.items()))
    columns = zip(pairs.source, pairs.target, texts[name], strict=True)
    examples = [
      {'source': source, 'reference': reference, 'translation': text}
      for source, reference, text in itertools.islice(columns, EXAMPLES)
    ]
    how = {'sacrebleu_signature': signature, 'shortened': self.shortened}
    return Evaluation(scores, examples, how)

  def bleu(
    self, params: Params, pairs: Pairs, beam: int
  ) -> tuple[float, str, list[str]]:
    """sacreBLEU of the translations, its signature, and the translations."""
    texts = self.model.translate(params, pairs.source, beam, self.longest)
    metric = sacrebleu.metrics.BLEU()
    score = metric.corpus_score(texts, [pairs.target]).score
    return score, str(metric.get_signature()), texts
