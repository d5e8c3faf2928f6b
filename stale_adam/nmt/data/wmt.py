"""WMT's text through tensorflow-datasets: prepared once, then read.

Preparing needs TensorFlow, which unpacks the downloads; reading does not.
"""

import html
import importlib.util
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from stale_adam.nmt.data import text
from stale_adam.nmt.data.text import Pairs


class Recipe(NamedTuple):
  """Names in tensorflow-datasets of what the paper uses for a language pair.

  Attributes:
    year: of the shared task, e.g. 'wmt17'.
    dataset: builder/config/version, which is also its folder under data_dir.
    subsets: names of corpora by split; empty for a predefined config.
    validation: the split to validate on.
    tests: splits by the test set's name.
  """

  year: str
  dataset: str
  subsets: dict[str, list[str]]
  validation: str
  tests: dict[str, str]


def recipe(pair: str) -> Recipe:
  """Name the training text, validation and test sets of a language pair.

  Args:
    pair: source-target: en-de, en-fi, en-ru or one of these reversed.

  Returns:
    The same for either direction.

  Raises:
    ValueError: if `pair` is none of these.

  Source: sections 4.1 and 5.3; for the years see `corpus.wmt`.
  """
  foreign = set(text.languages(pair)) - {'en'}
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
      f'pair={pair!r}: use one of the paper, en-de, en-fi or en-ru, or its '
      'reverse'
    )
  # The predefined fi-en of WMT18 has every source of its validation set twice
  # (newstest2017 and its second reference), and ru-en requires Yandex's corpus,
  # which has to be downloaded by hand. So we define configs of our own, without
  # that corpus.
  years = ['newstest2015', 'newstest2017', 'newstest2018']
  return Recipe(
    year='wmt18',
    dataset=f'wmt_translate/{foreign.pop()}-en.wmt18/1.0.0',
    subsets={'train': train} | {year: [year] for year in years},
    validation=years[0],
    tests={year: year for year in years[1:]},
  )


def prepare(pair: str, data_dir: str | os.PathLike) -> None:
  """Download and convert what `corpus.wmt` reads: hours, many gigabytes.

  Args:
    pair: as for `recipe`; a pair and its reverse share their data.
    data_dir: the folder to write to; data that are there are kept.

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
  from tensorflow_datasets import translate  # Registers the builders.

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
    file_format='array_record'  # Reading the default needs TensorFlow.
  )


def prepared(pair: str, data_dir: str | os.PathLike) -> Any:
  """Open what `prepare` wrote.

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
  """Read one split of a prepared translation dataset, in either direction.

  Args:
    builder: from `tfds.builder` or `tfds.builder_from_directory`, with
      `tfds.features.Translation`, prepared as array_record.
    split: its name, or a slice of it, e.g. 'train[:10%]'.
    pair: source-target; a config named de-en serves 'en-de' as well.

  Returns:
    The pairs, and the number left out because a side was empty.

  Raises:
    ValueError: if the dataset lacks a language or has another file format.
  """
  languages = text.languages(pair)
  if not set(languages) <= set(builder.info.features):
    raise ValueError(
      f'pair={pair!r}: {builder.info.full_name} has the languages '
      f'{sorted(builder.info.features)}; use these'
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
  return text.drop_empty(*sides)


def _unescape(sentence: str) -> str:
  # WMT's SGML keeps `&amp;`. Entities without a semicolon are left alone: they
  # are parts of web addresses. A sentence remains one line.
  sentence = re.sub(r'&#?\w+;', lambda m: html.unescape(m[0]), sentence)
  return sentence.replace('\n', ' ')
