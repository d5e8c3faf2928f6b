"""Parallel text behind one interface: the tiny grammar, files, or WMT.

Whatever its origin, a corpus is plain Python strings: one sentence each,
stripped, neither side empty. Tokens and lengths are other files' business.
"""

import dataclasses
import gzip
import html
import importlib.util
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stale_adam.nmt import grammar

Files = tuple[str | os.PathLike, str | os.PathLike]


class Pairs(NamedTuple):
  """Parallel sentences: `target[i]` translates `source[i]`."""

  source: list[str]
  target: list[str]


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


def tiny(
  seed: int = 0,
  train: int = 8000,
  validation: int = 200,
  test: int = 200,
  pair: str = 'en-de',
) -> Corpus:
  """English and German sentences from the embedded grammar; needs no files.

  Args:
    seed: chooses the sentences.
    train: pairs to learn from.
    validation: pairs to choose by.
    test: pairs to report on; no pair is in two parts.
    pair: 'en-de' or 'de-en'.

  Returns:
    The corpus; its one test set is called 'test'.

  Raises:
    ValueError: if `pair` is neither of the two.
  """
  if pair not in ('en-de', 'de-en'):
    raise ValueError(f"pair is {pair!r}; the grammar has 'en-de' and 'de-en'")
  # One call, then slices: that is what keeps the three parts disjoint. Training
  # text comes last, so that more of it leaves validation and test as they are.
  drawn = grammar.pairs(validation + test + train, seed)
  english, german = [a for a, _ in drawn], [b for _, b in drawn]
  sides = (english, german) if pair == 'en-de' else (german, english)

  def part(start: int, count: int) -> Pairs:
    return Pairs(*(side[start : start + count] for side in sides))

  return Corpus(
    name=f'tiny {pair}',
    train=part(validation + test, train),
    validation=part(0, validation),
    tests={'test': part(validation, test)},
    skipped={},
  )


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
    FileNotFoundError: if a file is missing under both names.
    ValueError: if a file is empty, not UTF-8 or damaged gzip, or if the two
      files of a pair differ in length.

  Source: section 4.1 for back-translated text.
  """
  skipped: dict[str, int] = {}
  learned = _read_files('train', train, skipped)
  for files in back_translated:
    more = _read_files('back-translated', files, skipped)
    learned.source.extend(more.source)
    learned.target.extend(more.target)
  return Corpus(
    name='-'.join(Path(file).name.removesuffix('.gz') for file in train),
    train=learned,
    validation=_read_files('validation', validation, skipped),
    tests={n: _read_files(n, files, skipped) for n, files in tests.items()},
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
  languages = _languages(pair)
  folder = Path(data_dir).expanduser()
  found = [_stems(folder, language) for language in languages]
  both = {
    stem: tuple(folder / f'{stem}.{language}' for language in languages)
    for stem in sorted(found[0] & found[1])
  }
  tests = {stem: both[stem] for stem in both if stem.startswith('test_')}
  if not tests:
    wanted = ' with '.join(f'test_*.{language}[.gz]' for language in languages)
    raise FileNotFoundError(f'no {wanted} in {folder}; {_listing(folder)}')
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

  Reads what `prepare_wmt` left, without TensorFlow, into memory: about 3 GB
  for German, several times that for Russian (mostly the UN corpus). The
  paper's back-translated text is not in tensorflow-datasets.

  Validation is newstest2016 for German, newstest2015 for the others. There the
  paper contradicts itself: section 5.3 has newstest2015 for Finnish and
  newstest2017 for Russian, the heading of Table 4 the other way round. Both
  therefore have newstest2017 as a second test set.

  Args:
    pair: source-target: en-de, en-fi, en-ru or one of these reversed.
    data_dir: the folder given to `prepare_wmt`.

  Returns:
    The corpus; test sets are called by year, e.g. 'newstest2017'.

  Raises:
    FileNotFoundError: if the data are not prepared.
    ValueError: if `pair` is none of these.

  Source: sections 4.1 and 5.3, Table 4.
  """
  recipe = _recipe(pair)
  path = Path(data_dir).expanduser() / recipe.dataset
  if not (path / 'dataset_info.json').is_file():
    raise FileNotFoundError(
      f"no prepared data in {path}; install 'stale_adam[wmt]' and run "
      f'stale_adam.nmt.corpus.prepare_wmt({pair!r}, {str(data_dir)!r}) once; '
      "it calls tfds' download_and_prepare(file_format='array_record')"
    )
  import tensorflow_datasets as tfds  # Slow, and only needed here.

  builder = tfds.builder_from_directory(path)
  skipped: dict[str, int] = {}

  def read(name: str, split: str) -> Pairs:
    pairs, empty = read_split(builder, split, pair)
    return _count(name, pairs, empty, skipped)

  return Corpus(
    name=f'{recipe.year} {pair}',
    train=read('train', 'train'),
    validation=read('validation', recipe.validation),
    tests={name: read(name, split) for name, split in recipe.tests.items()},
    skipped=skipped,
  )


def read_split(builder: Any, split: str, pair: str) -> tuple[Pairs, int]:
  """Reads one split of any prepared translation dataset, either direction.

  Args:
    builder: from `tfds.builder` or `tfds.builder_from_directory`, with
      `tfds.features.Translation`, prepared as array_record.
    split: its name or a slice of it, e.g. 'train[:10%]'.
    pair: source-target; a config called de-en serves 'en-de' as well.

  Returns:
    The pairs, and how many were left out as empty on one side.

  Raises:
    ValueError: if the dataset lacks a language or has another file format.
  """
  languages = _languages(pair)
  if not set(languages) <= set(builder.info.features):
    raise ValueError(
      f'pair is {pair!r}; {builder.info.full_name} has the languages '
      f'{sorted(builder.info.features)}'
    )
  stored = builder.info.file_format.value
  if stored != 'array_record':
    raise ValueError(
      f'{builder.data_path} is stored as {stored}, which needs TensorFlow to '
      "read; prepare it with file_format='array_record' in another data_dir"
    )
  examples = builder.as_data_source(split)
  sides: tuple[list[str], list[str]] = [], []
  for start in range(0, len(examples), 10_000):  # Twice as fast as one by one.
    chosen = range(start, min(start + 10_000, len(examples)))
    for example in examples.__getitems__(chosen):
      for side, language in zip(sides, languages, strict=True):
        side.append(_unescape(example[language].decode('utf-8')))
  return _drop_empty(*sides)


def prepare_wmt(pair: str, data_dir: str | os.PathLike) -> None:
  """Downloads and converts what `wmt` reads: hours, many gigabytes.

  Args:
    pair: as for `wmt`; a pair and its reverse share their data.
    data_dir: the folder to fill; what is there already is kept.

  Raises:
    ImportError: if TensorFlow, which unpacks the downloads, is missing.
    ValueError: if `pair` is none of `wmt`'s.
  """
  recipe = _recipe(pair)
  if importlib.util.find_spec('tensorflow') is None:
    raise ImportError(
      'TensorFlow is not installed, and tensorflow-datasets unpacks downloads '
      "with it; install the extra: pip install 'stale_adam[wmt]'"
    )
  import tensorflow_datasets as tfds
  from tensorflow_datasets import translate  # Makes the builders known.

  name, config, version = recipe.dataset.split('/')
  if recipe.subsets:
    languages, suffix = config.split('.')
    config = translate.WmtConfig(
      version=version,
      language_pair=tuple(languages.split('-')),
      name=suffix,
      description=f'{languages}: WMT18 training text, newstests as splits.',
      subsets=recipe.subsets,
    )
  folder = Path(data_dir).expanduser()
  tfds.builder(name, config=config, data_dir=folder).download_and_prepare(
    file_format='array_record'  # The default takes TensorFlow to read.
  )


class _Recipe(NamedTuple):
  """Where tensorflow-datasets has what the paper uses for a language pair."""

  year: str
  dataset: str  # builder/config/version, which is its folder under data_dir
  subsets: dict[str, list[str]]  # by split; none for a ready-made config
  validation: str  # a split
  tests: dict[str, str]  # the split by the test set's name


def _recipe(pair: str) -> _Recipe:
  foreign = set(_languages(pair)) - {'en'}
  if foreign == {'de'}:
    dataset, tests = 'wmt17_translate/de-en/1.0.0', {'newstest2017': 'test'}
    return _Recipe('wmt17', dataset, {}, 'validation', tests)
  if foreign == {'fi'}:
    train = ['europarl_v8_18', 'paracrawl_v1', 'rapid_2016', 'wikiheadlines_fi']
  elif foreign == {'ru'}:
    train = ['commoncrawl', 'newscommentary_v13', 'paracrawl_v1']
    train += ['uncorpus_v1', 'wikiheadlines_ru']
  else:
    raise ValueError(
      f'pair is {pair!r}; the paper has en-de, en-fi and en-ru (or reversed)'
    )
  # WMT18's ready-made fi-en validates on every source twice (newstest2017 and
  # its second reference), and ru-en insists on Yandex's corpus, which has to be
  # fetched by hand: hence configs of our own, and without the latter.
  years = ['newstest2015', 'newstest2017', 'newstest2018']
  return _Recipe(
    year='wmt18',
    dataset=f'wmt_translate/{foreign.pop()}-en.wmt18/1.0.0',
    subsets={'train': train} | {year: [year] for year in years},
    validation=years[0],
    tests={year: year for year in years[1:]},
  )


def _unescape(sentence: str) -> str:
  # WMT's SGML keeps `&amp;`. Entities without a semicolon stay: they are parts
  # of web addresses. A sentence remains one line whatever it contained.
  sentence = re.sub(r'&#?\w+;', lambda m: html.unescape(m[0]), sentence)
  return sentence.replace('\n', ' ')


def _languages(pair: str) -> tuple[str, str]:
  match = re.fullmatch(r'(\w+)-(\w+)', pair)
  if not match or match[1] == match[2]:
    raise ValueError(
      f"pair is {pair!r}; must be source-target in two languages, as 'en-de'"
    )
  return match[1], match[2]


def _drop_empty(
  source: Iterable[str], target: Iterable[str]
) -> tuple[Pairs, int]:
  kept, empty = Pairs([], []), 0
  for a, b in zip(source, target, strict=True):
    a, b = a.strip(), b.strip()
    if a and b:
      kept.source.append(a)
      kept.target.append(b)
    else:
      empty += 1
  return kept, empty


def _count(name: str, pairs: Pairs, empty: int, skipped: dict) -> Pairs:
  if empty:
    reason = f'{name}: empty on one side'
    skipped[reason] = skipped.get(reason, 0) + empty
  return pairs


def _read_files(name: str, files: Files, skipped: dict[str, int]) -> Pairs:
  source, target = (_find(Path(file).expanduser()) for file in files)
  sides = _lines(source), _lines(target)
  if len(sides[0]) != len(sides[1]):
    raise ValueError(
      f'{source} has {len(sides[0])} lines but {target} has {len(sides[1])}; '
      'line i of one must translate line i of the other'
    )
  pairs, empty = _drop_empty(*sides)
  if not pairs.source:
    raise ValueError(
      f'{source} and {target}: each of the {empty} lines is empty on one side; '
      'at least one pair of sentences is needed'
    )
  return _count(name, pairs, empty, skipped)


def _lines(path: Path) -> list[str]:
  # Bytes, because text mode would also split at a lone carriage return, and
  # lose the alignment: crawled text has those inside sentences.
  lines: list[str] = []
  opener = gzip.open if path.suffix == '.gz' else open
  try:
    with opener(path, 'rb') as file:
      for line in file:
        lines.append(line.decode('utf-8'))
  except UnicodeDecodeError as error:
    byte = error.object[error.start]
    raise ValueError(
      f'{path}, line {len(lines) + 1}: byte {byte:#04x} is not UTF-8; convert '
      'the file, or name it .gz if it is compressed'
    ) from error
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise ValueError(
      f'{path}, after line {len(lines)}: damaged gzip ({error}); fetch it again'
    ) from error
  if not lines:
    raise ValueError(f'{path} is empty; one sentence a line is needed')
  lines[0] = lines[0].removeprefix('\ufeff')  # Some editors' byte-order mark.
  return lines


def _find(path: Path) -> Path:
  names = [path] if path.suffix == '.gz' else [path, Path(f'{path}.gz')]
  for name in names:
    if name.is_file():
      return name
  tried = ' or '.join(str(name) for name in names)
  raise FileNotFoundError(f'no file {tried}; {_listing(path.parent)}')


def _listing(folder: Path) -> str:
  if not folder.is_dir():
    return f'there is no folder {folder}'
  names = sorted(path.name for path in folder.iterdir())
  more = f' and {len(names) - 20} more' if len(names) > 20 else ''
  return f'{folder} has {", ".join(names[:20]) or "no files"}{more}'


def _stems(folder: Path, language: str) -> set[str]:
  pattern = re.compile(rf'((?:test_|back).*)\.{language}(\.gz)?')
  names = (p.name for p in folder.iterdir()) if folder.is_dir() else ()
  return {m[1] for m in map(pattern.fullmatch, names) if m}
