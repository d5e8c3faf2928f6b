"""Parallel text behind one interface: files or WMT.

Whatever its origin, a corpus is plain Python strings: one sentence each,
stripped, neither side empty. Tokens and lengths are other files' business.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from stale_adam.nmt.data import text as parallel
from stale_adam.nmt.data import wmt as wmt_lib
from stale_adam.nmt.data.text import Files, Pairs


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Everything a translation experiment reads.

  Attributes:
    name: for people, e.g. 'multi30k en-de'.
    train: sentences to learn from.
    validation: sentences to choose by.
    tests: sentences to report on, by the test set's name.
    skipped: how many were left out, by '<part>: <reason>'; empty if none were.
  """

  name: str
  train: Pairs
  validation: Pairs
  tests: dict[str, Pairs]
  skipped: dict[str, int]


def describe(corpus: Corpus) -> str:
  """Sizes in sentences and words (between spaces), and what was left out.

  Args:
    corpus: any corpus.

  Returns:
    The name, then one line for each part and each reason for leaving out.
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
  """Reads line-aligned UTF-8 text, plain or gzip, in any two languages.

  Pairs with an empty side are left out and counted. A file that is missing is
  looked for once more with `.gz` appended.

  Args:
    train: source and target file to learn from.
    validation: source and target file to choose by.
    tests: source and target file by the test set's name.
    back_translated: more file pairs to learn from, appended to `train`.

  Returns:
    The corpus, named after its training files.

  Raises:
    FileNotFoundError, ValueError: as `parallel.read`, for any of the files.

  Source: section 4.1 for back-translated text.
  """
  skipped: dict[str, int] = {}

  def read(part: str, files: Files) -> Pairs:
    return _count(part, *parallel.read(files), skipped)

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
  """Reads a folder of `{train,val,test_*}.{en,de,...}[.gz]`, as in Multi30k.

  Files called `back*` are back-translated text and join the training text. A
  test set or back-translated text without one of the two languages belongs to
  another pair: it is left out, and `skipped` says so.

  Args:
    data_dir: the folder.
    pair: source and target as the files are called, e.g. 'en-de'.

  Returns:
    The corpus; test sets are called as their files, e.g. 'test_2016_flickr'.

  Raises:
    FileNotFoundError: if train, val or every test set is missing.
    ValueError: if `pair` is not of that form, or as for `text`.
  """
  languages = parallel.languages(pair)
  folder = Path(data_dir).expanduser()
  found = [parallel.stems(folder, language) for language in languages]
  both = {
    stem: tuple(folder / f'{stem}.{language}' for language in languages)
    for stem in sorted(found[0] & found[1])
  }
  tests = {stem: both[stem] for stem in both if stem.startswith('test_')}
  if not tests:
    wanted = ' with '.join(f'test_*.{language}[.gz]' for language in languages)
    raise FileNotFoundError(
      f'no {wanted} in {folder}; {parallel.listing(folder)}'
    )
  corpus = text(
    tuple(folder / f'train.{language}' for language in languages),
    tuple(folder / f'val.{language}' for language in languages),
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
  """Reads WMT17 English-German, or WMT18 English-Finnish or English-Russian.

  Reads what `experiments.prepare_wmt` left, without TensorFlow, into memory:
  about 3 GB for German, several times that for Russian (mostly the UN corpus).
  The paper's back-translated text is not in tensorflow-datasets.

  German is validated on newstest2016 and tested on newstest2017. For the other
  two, tested on newstest2018, the paper contradicts itself about validation:

                           Finnish        Russian
    section 5.3, text      newstest2015   newstest2017
    Table 4, heading       newstest2017   newstest2015

  Here both are validated on newstest2015, and newstest2017 is a second test
  set: so all columns that the paper may mean are reported.

  Args:
    pair: source-target: en-de, en-fi, en-ru or one of these reversed.
    data_dir: the folder given to `experiments.prepare_wmt`.

  Returns:
    The corpus; test sets are called by year, e.g. 'newstest2017'.

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


def _count(part: str, pairs: Pairs, empty: int, skipped: dict) -> Pairs:
  if empty:
    reason = f'{part}: empty on one side'
    skipped[reason] = skipped.get(reason, 0) + empty
  return pairs
