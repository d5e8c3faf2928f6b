"""Corpora of parallel text, from files or from WMT.

A corpus is plain Python strings: one sentence each, stripped, no side of a pair
empty. Tokens and lengths are the business of vocabulary.py and batches.py.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from stale_adam.nmt.data import text as text_lib
from stale_adam.nmt.data import wmt as wmt_lib
from stale_adam.nmt.data.text import Files, Pairs


@dataclasses.dataclass(frozen=True)
class Corpus:
  """The text of a translation experiment.

  Attributes:
    name: for people, e.g. 'multi30k en-de'.
    train: the training text.
    validation: the validation text.
    tests: test sets by name.
    skipped: number of pairs left out, by '<part>: <reason>'.
  """

  name: str
  train: Pairs
  validation: Pairs
  tests: dict[str, Pairs]
  skipped: dict[str, int]


def describe(corpus: Corpus) -> str:
  """Describe a corpus: sentences and words of its parts, what was left out.

  Args:
    corpus: any corpus. Words are what spaces separate.

  Returns:
    The name, then a line for each part and for each reason to leave pairs out.
  """
  parts = [('train', corpus.train), ('validation', corpus.validation)]
  lines = [corpus.name]
  for name, pairs in [*parts, *corpus.tests.items()]:
    words = [sum(len(s.split()) for s in side) for side in pairs]
    lines.append(
      f'  {name}: {len(pairs.source):,} sentences, {words[0]:,} source words, '
      f'{words[1]:,} target words'
    )
  lines += [f'  left out {n:,}: {why}' for why, n in corpus.skipped.items()]
  return '\n'.join(lines)


def text(
  train: Files,
  validation: Files,
  tests: Mapping[str, Files],
  back_translated: Sequence[Files] = (),
) -> Corpus:
  """Read a corpus from line-aligned UTF-8 files, plain or gzip.

  Pairs with an empty side are left out and counted. A missing file is tried
  again with `.gz` appended.

  Args:
    train: source and target file of the training text.
    validation: source and target file of the validation text.
    tests: source and target file of each test set, by name.
    back_translated: more pairs of files, appended to the training text.

  Returns:
    The corpus, named after its training files.

  Raises:
    FileNotFoundError, ValueError: as `text_lib.read`, for any of the files.

  Source: section 4.1 for back-translated text.
  """
  skipped: dict[str, int] = {}

  def read(part: str, files: Files) -> Pairs:
    try:
      return _count(part, *text_lib.read(files), skipped)
    except (FileNotFoundError, ValueError) as error:
      said = f'test {part}' if part in tests else part
      raise type(error)(f'{said}: {error}') from error

  learned = read('train', train)
  for files in back_translated:
    more = read('back-translated', files)
    learned.source.extend(more.source)
    learned.target.extend(more.target)
  return Corpus(
    name='-'.join(Path(file).name.removesuffix('.gz') for file in train),
    train=learned,
    validation=read('validation', validation),
    tests={name: read(name, files) for name, files in tests.items()},
    skipped=skipped,
  )


def directory(data_dir: str | os.PathLike, pair: str) -> Corpus:
  """Read a folder of `{train,val,test_*}.{en,de,...}[.gz]`, as in Multi30k.

  Files named `back*` are back-translated text and are added to the training
  text. A test set or back-translated text that lacks one of the two languages
  belongs to another pair: it is left out, and `skipped` says so.

  Args:
    data_dir: the folder.
    pair: source and target by the files' suffixes, e.g. 'en-de'.

  Returns:
    The corpus; test sets have the files' names, e.g. 'test_2016_flickr'.

  Raises:
    FileNotFoundError: if train, val or every test set is missing.
    ValueError: if `pair` is not of that form, or as for `text`.
  """
  languages = text_lib.languages(pair)
  folder = Path(data_dir).expanduser()
  found = [text_lib.stems(folder, language) for language in languages]
  source, target = languages

  def files(stem: str) -> Files:
    return folder / f'{stem}.{source}', folder / f'{stem}.{target}'

  both = {stem: files(stem) for stem in sorted(found[0] & found[1])}
  tests = {stem: both[stem] for stem in both if stem.startswith('test_')}
  if not tests:
    wanted = ' with '.join(f'test_*.{language}[.gz]' for language in languages)
    raise FileNotFoundError(
      f'no {wanted} in {folder}, which the pair {pair} needs: name the pair as '
      f'the files end; {text_lib.listing(folder)}'
    )
  corpus = text(
    files('train'),
    files('val'),
    tests,
    [both[stem] for stem in both if stem.startswith('back')],
  )
  one_sided = {
    f'{stem}: no {language} file': 1
    for language, stems in zip(languages, found, strict=True)
    for stem in sorted((found[0] | found[1]) - stems)
  }
  name = f'{folder.resolve().name} {pair}'
  skipped = corpus.skipped | one_sided
  return dataclasses.replace(corpus, name=name, skipped=skipped)


def wmt(pair: str, data_dir: str | os.PathLike) -> Corpus:
  """Read WMT17 English-German, or WMT18 English-Finnish or English-Russian.

  The data must have been prepared by `experiments.prepare_wmt`; reading them
  does not need TensorFlow. They are read into memory: about 3 GB for German,
  several times that for Russian (mostly the UN corpus). The paper's
  back-translated text is not in tensorflow-datasets.

  German is validated on newstest2016 and tested on newstest2017. The other two
  are tested on newstest2018; about their validation the paper contradicts
  itself:

                           Finnish        Russian
    section 5.3, text      newstest2015   newstest2017
    Table 4, heading       newstest2017   newstest2015

  Here both are validated on newstest2015, and newstest2017 is a second test
  set, so that every reading of the paper's columns is reported.

  Args:
    pair: source-target: en-de, en-fi, en-ru or one of these reversed.
    data_dir: the folder given to `experiments.prepare_wmt`.

  Returns:
    The corpus; test sets have the names of WMT, e.g. 'newstest2017'.

  Raises:
    FileNotFoundError: if the data are not prepared.
    ValueError: if `pair` is none of these.

  Source: sections 4.1 and 5.3, Table 4.
  """
  recipe = wmt_lib.recipe(pair)
  builder = wmt_lib.prepared(pair, data_dir)
  skipped: dict[str, int] = {}

  def read(part: str, split: str) -> Pairs:
    return _count(part, *wmt_lib.read_split(builder, split, pair), skipped)

  return Corpus(
    name=f'{recipe.year} {pair}',
    train=read('train', 'train'),
    validation=read('validation', recipe.validation),
    tests={name: read(name, split) for name, split in recipe.tests.items()},
    skipped=skipped,
  )


def _count(
  part: str, pairs: Pairs, empty: int, skipped: dict[str, int]
) -> Pairs:
  if empty:
    reason = f'{part}: empty on one side'
    skipped[reason] = skipped.get(reason, 0) + empty
  return pairs
