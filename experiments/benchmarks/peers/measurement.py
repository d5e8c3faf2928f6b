"""What is measured: the parts of every side, made or found."""

import dataclasses
import functools
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tqdm

from experiments.benchmarks.peers import environments, parts, recipe, summary
from experiments.benchmarks.peers.inside import child
from stale_adam.nmt.translation import Translation

WINDOW = 25_000  # Target words whose time is taken together.
_FITTED = 40  # Updates of a run that finds the setting of a toolkit's batches.
_ROUNDS = 2  # Of such runs: padding grows with the batch.


@dataclasses.dataclass(frozen=True)
class Measurement:
  """All parts of all sides for one text.

  Attributes:
    out: directory of environments, models and results.
    data_dir: of the text.
    pair: source and target language.
    words: target words to train on, each sentence's end included.
    cores: processor cores of each side.
  """

  out: Path
  data_dir: str
  pair: str
  words: int
  cores: int

  @functools.cached_property
  def settings(self):
    return recipe.settings(self.pair)

  @functools.cached_property
  def task(self) -> Translation:
    return recipe.task(self.settings, self.data_dir)

  @functools.cached_property
  def tested(self):
    return recipe.test(self.pair, self.data_dir)

  @functools.cached_property
  def kept(self) -> parts.Kept:
    return parts.Kept(self.out / 'results.json')

  @functools.cached_property
  def _pairs(self) -> int:
    """Writes the toolkits' text, once; the number of training pairs."""
    return recipe.write_text(self.task, self.tested, self.out / 'text')

  def forget(self, sides: Iterable[str]) -> None:
    """Drops the kept results of some sides, so that they are made again."""
    names = ('training', 'decoding', *map(_fit_name, range(_ROUNDS)))
    self.kept.drop(f'{side} {name}' for side in sides for name in names)

  def trained(self, side: str) -> dict[str, Any]:
    """How a side trained."""
    return self._part(side, 'train', 'training', self.words, self._batch(side))

  def decoded(self, side: str) -> dict[str, Any]:
    """How it translated, with what it had learnt."""
    return self._part(side, 'decode', 'decoding', self.words, self._batch(side))

  def bleu(self, side: str) -> float:
    """sacreBLEU of its translations."""
    texts = self.decoded(side)['translations']
    if side in environments.PACKAGES:
      texts = recipe.text_of(self.task, texts)
    return summary.bleu(texts, self.tested.target)

  def _batch(self, side: str) -> int:
    """The setting with which a side's updates have as many words as ours.

    A toolkit counts padding, too.
    """
    wanted = recipe.words_per_update(self.settings, self.task)
    setting = wanted
    if side in environments.PACKAGES:
      for number in range(_ROUNDS):
        words, batch = round(_FITTED * wanted), round(setting)
        found = self._part(side, 'train', _fit_name(number), words, batch)
        setting = batch * wanted * found['updates'] / found['words']
    return round(setting)

  def _part(
    self, side: str, part: str, name: str, words: int, batch: int
  ) -> dict[str, Any]:
    """A result: the kept one if it was asked for in the same way."""
    asked = {
      'text': self.task.text['sha256'],
      'settings': self.settings.config(),
      'cores': self.cores,
      'words': words,
      'window': min(WINDOW, words),
      'batch': batch,
      'beam': recipe.BEAM,
      'packages': environments.PACKAGES.get(side, ()),
    }
    found = self.kept.get(f'{side} {name}', asked)
    if found is not None:
      return found
    python = Path(sys.executable)
    if side in environments.PACKAGES:
      python = environments.python(side, self.out / 'environments', told)
    total = words if part == 'train' else child.PASSES
    with tqdm.tqdm(
      total=total, desc=f'{side}: {name}', dynamic_ncols=True, unit_scale=True
    ) as bar:
      progress = lambda count: bar.update(min(count, total) - bar.n)
      # Else a short run would replace the model that is to be decoded.
      short = name not in ('training', 'decoding')
      out = self.out / (f'{side}-batches' if short else side)
      job = asked | self._files(side, out, batch)
      result = parts.run(python, side, part, job, progress)
    self.kept.put(f'{side} {name}', asked, result)
    return result

  def _files(self, side: str, out: Path, batch: int) -> Mapping[str, Any]:
    """The rest of a job: files, and what only our side or only eole needs."""
    text, config = self.out / 'text', out / 'config.yaml'
    if side in environments.PACKAGES:
      filled = recipe.configuration(
        side, self.settings, text, out, batch, self._pairs
      )
      out.mkdir(parents=True, exist_ok=True)
      config.write_text(filled, 'utf-8')
    return {
      'out': os.path.abspath(out),
      'config': os.path.abspath(config),
      'source': os.path.abspath(text / 'test.source'),
      'data_dir': os.path.abspath(self.data_dir),
      'pair': self.pair,
      'search': recipe.SEARCH,
    }


def told(line: str) -> None:
  """Show progress."""
  print(line, file=sys.stderr, flush=True)


def _fit_name(number: int) -> str:
  return f'batches {number + 1}'
