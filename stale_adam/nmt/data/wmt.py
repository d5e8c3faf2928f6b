"""WMT's text through tensorflow-datasets: prepared once, then read.

Preparing takes TensorFlow, which unpacks the downloads; reading never does.
"""

import html
import importlib.util
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from stale_adam.nmt.data import text as parallel
from stale_adam.nmt.data.text import Pairs


class Recipe(NamedTuple):
  """Where tensorflow-datasets has what the paper uses for a language pair.

  Attributes:
    year: of the shared task, e.g. 'wmt17'.
    dataset: builder/config/version, which is its folder under data_dir.
    subsets: tensorflow-datasets' names by split; none for a ready-made config.
    validation: a split.
    tests: the split by the test set's name.
  """

  year: str
  dataset: str
  subsets: dict[str, list[str]]
  validation: str
  tests: dict[str, str]


def recipe(pair: str) -> Recipe:
  """The training text, validation and test sets of a language pair.

  Args:
    pair: source-target: en-de, en-fi, en-ru or one of these reversed.

  Returns:
    The same for either direction.

  Raises:
    ValueError: if `pair` is none of these.

  Source: sections 4.1 and 5.3; for the years see `corpus.wmt`.
  """
  foreign = set(parallel.languages(pair)) - {'en'}
  if foreign == {'de'}:
    dataset, tests = 'wmt17_translate/de-en/1.0.0', {'newstest2017': 'test'}
    return Recipe('wmt17', dataset, {}, 'validation', tests)
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
  return Recipe(
    year='wmt18',
    dataset=f'wmt_translate/{foreign.pop()}-en.wmt18/1.0.0',
    subsets={'train': train} | {year: [year] for year in years},
    validation=years[0],
    tests={year: year for year in years[1:]},
  )


def prepare(pair: str, data_dir: str | os.PathLike) -> None:
  """Downloads and converts what `corpus.wmt` reads: hours, many gigabytes.

  Args:
    pair: as for `recipe`; a pair and its reverse share their data.
    data_dir: the folder to fill; what is there already is kept.

  Raises:
    ImportError: if TensorFlow is missing.
    ValueError: if `pair` is none of `recipe`'s.
  """
  chosen = recipe(pair)
  if importlib.util.find_spec('tensorflow') is None:
    raise ImportError(
      'TensorFlow is not installed, and tensorflow-datasets unpacks downloads '
      "with it; install the extra: pip install -e '.[wmt]'"
    )
  import tensorflow_datasets as tfds
  from tensorflow_datasets import translate  # Makes the builders known.

  name, config, version = chosen.dataset.split('/')
  if chosen.subsets:
    languages, suffix = config.split('.')
    config = translate.WmtConfig(
      version=version,
      language_pair=tuple(languages.split('-')),
      name=suffix,
      description=f'{languages}: WMT18 training text, newstests as splits.',
      subsets=chosen.subsets,
    )
  folder = Path(data_dir).expanduser()
  tfds.builder(name, config=config, data_dir=folder).download_and_prepare(
    file_format='array_record'  # The default takes TensorFlow to read.
  )


def prepared(pair: str, data_dir: str | os.PathLike) -> Any:
  """Opens what `prepare` left.

  Args:
    pair: as for `recipe`.
    data_dir: the folder given to `prepare`.

  Returns:
    The dataset's builder, for `read_split`.

  Raises:
    FileNotFoundError: if the data are not prepared.
    ValueError: if `pair` is none of `recipe`'s.
  """
  path = Path(data_dir).expanduser() / recipe(pair).dataset
  if not (path / 'dataset_info.json').is_file():
    raise FileNotFoundError(
      f"no prepared data in {path}; pip install -e '.[wmt]' and run once: "
      f'python -m experiments.prepare_wmt --pair={pair} --data_dir={data_dir}'
    )
  import tensorflow_datasets as tfds  # Slow, and only needed here.

  return tfds.builder_from_directory(path)


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
  languages = parallel.languages(pair)
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
  return parallel.drop_empty(*sides)


def _unescape(sentence: str) -> str:
  # WMT's SGML keeps `&amp;`. Entities without a semicolon stay: they are parts
  # of web addresses. A sentence remains one line whatever it contained.
  sentence = re.sub(r'&#?\w+;', lambda m: html.unescape(m[0]), sentence)
  return sentence.replace('\n', ' ')
