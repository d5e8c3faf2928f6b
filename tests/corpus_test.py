"""Corpora: alignment, what is left out, and errors that name file and line."""

import gzip
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stale_adam.nmt import corpus

tfds = pytest.importorskip('tensorflow_datasets')


def write(path, lines):
  data = ''.join(f'{line}\n' for line in lines).encode()
  path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)
  return path


def files(folder, stem, source, target):
  return (
    write(folder / f'{stem}.en', source),
    write(folder / f'{stem}.de', target),
  )


@pytest.fixture
def good(tmp_path):
  return files(tmp_path, 'good', ['one'], ['eins'])


def test_tiny_parts_are_disjoint_and_depend_on_the_seed_alone():
  a = corpus.tiny(seed=3, train=300, validation=40, test=30)
  parts = [a.train, a.validation, a.tests['test']]
  assert [len(p.source) for p in parts] == [300, 40, 30]
  assert [len(p.target) for p in parts] == [300, 40, 30]
  distinct = {pair for p in parts for pair in zip(*p, strict=True)}
  assert len(distinct) == 370
  assert a == corpus.tiny(seed=3, train=300, validation=40, test=30)
  assert a != corpus.tiny(seed=4, train=300, validation=40, test=30)
  more = corpus.tiny(seed=3, train=500, validation=40, test=30)
  assert (more.validation, more.tests) == (a.validation, a.tests)
  assert more.train.source[:300] == a.train.source


def test_tiny_reversed_swaps_the_sides():
  there = corpus.tiny(train=20, validation=5, test=5)
  back = corpus.tiny(train=20, validation=5, test=5, pair='de-en')
  assert back.train == corpus.Pairs(there.train.target, there.train.source)
  with pytest.raises(ValueError, match="'en-fr'.*'en-de' and 'de-en'"):
    corpus.tiny(pair='en-fr')


def test_text_keeps_lines_aligned_and_counts_what_it_leaves_out(tmp_path):
  train = files(
    tmp_path, 'train', [' a  b ', '', 'c', ' \t', 'd'], ['A', 'B', '', ' ', 'D']
  )
  back = files(tmp_path, 'more', ['e', 'f'], ['E', ''])
  other = files(tmp_path, 'other', ['g', ''], ['G', 'H'])
  read = corpus.text(train, other, {'news': other}, [back, back])
  assert read.train.source == ['a  b', 'd', 'e', 'e']
  assert read.train.target == ['A', 'D', 'E', 'E']
  assert read.validation == read.tests['news'] == corpus.Pairs(['g'], ['G'])
  assert read.skipped == {
    'train: empty on one side': 3,
    'back-translated: empty on one side': 2,
    'validation: empty on one side': 1,
    'news: empty on one side': 1,
  }
  assert read.name == 'train.en-train.de'


@pytest.mark.parametrize('inside', ['\r', '\x0b', '\x0c', '\x85', '\u2028'])
def test_only_a_line_feed_ends_a_line(tmp_path, good, inside):
  train = files(tmp_path, 'train', [f'a{inside}b', 'c'], ['A', 'C\r'])
  read = corpus.text(train, good, {})
  assert read.train == corpus.Pairs([f'a{inside}b', 'c'], ['A', 'C'])


def test_plain_gzip_byte_order_mark_and_missing_last_line_feed(tmp_path, good):
  en, de = tmp_path / 'train.en', tmp_path / 'train.de'
  en.write_bytes('\ufeffä\nb'.encode())
  write(tmp_path / 'train.de.gz', ['ß', 'B'])
  assert corpus.text((en, de), good, {}).train == corpus.Pairs(
    ['ä', 'b'], ['ß', 'B']
  )


def bad_input(kind, folder):
  """Returns a file pair with one fault, and what the error must say."""
  en, de = files(folder, 'bad', ['a', 'b', 'c'], ['A', 'B', 'C'])
  packed = folder / 'bad.de.gz'
  if kind == 'length':
    write(de, ['A', 'B'])
    return (en, de), ValueError, [f'{en} has 3', f'{de} has 2']
  if kind == 'utf-8':
    de.write_bytes(b'A\nB\xe4\nC\n')
    return (en, de), ValueError, [f'{de}, line 2', '0xe4', 'UTF-8']
  if kind == 'empty':
    write(de, [])
    return (en, de), ValueError, [f'{de} is empty']
  if kind == 'blank':
    write(de, ['', ' ', ''])
    return (en, de), ValueError, [str(en), str(de), 'each of the 3 lines']
  if kind == 'missing':
    de.unlink()
    return (en, de), FileNotFoundError, [f'{de} or {de}.gz', 'has bad.en']
  if kind == 'no folder':
    lost = folder / 'lost' / 'x.gz'
    return (
      (lost, de),
      FileNotFoundError,
      [str(lost), f'no folder {lost.parent}'],
    )
  if kind == 'not gzip':
    packed.write_bytes(b'plain text\n')
  elif kind == 'cut gzip':
    write(packed, ['A', 'B', 'C'])
    packed.write_bytes(packed.read_bytes()[:-9])
  else:  # The checksum is 8 bytes from the end; 7 begins no valid block.
    write(packed, ['A', 'B', 'C'])
    data = bytearray(packed.read_bytes())
    position, value = {'wrong sum': (-8, data[-8] ^ 1), 'no block': (10, 7)}[
      kind
    ]
    data[position] = value
    packed.write_bytes(data)
  return (en, packed), ValueError, [str(packed), 'damaged gzip']


@pytest.mark.parametrize('part', ['train', 'validation', 'test', 'back'])
@pytest.mark.parametrize(
  'kind',
  ['length', 'utf-8', 'empty', 'blank', 'missing', 'no folder']
  + ['not gzip', 'cut gzip', 'wrong sum', 'no block'],
)
def test_errors_name_the_file_and_the_fault(tmp_path, kind, part):
  folder = tmp_path / 'bad'
  folder.mkdir()
  bad, error, says = bad_input(kind, folder)
  fine = files(tmp_path, 'fine', ['one'], ['eins'])
  chosen = {p: bad if p == part else fine for p in ('train', 'validation')}
  tests = {'news': bad if part == 'test' else fine}
  back = [bad] if part == 'back' else []
  with pytest.raises(error) as raised:
    corpus.text(chosen['train'], chosen['validation'], tests, back)
  for words in says:
    assert words in str(raised.value)


@pytest.fixture
def folder(tmp_path):
  for language in ('en', 'de'):
    for stem in ('train', 'val', 'test_b', 'test_a', 'back', 'back_2'):
      suffix = '.gz' if stem in ('train', 'test_a', 'back_2') else ''
      name = f'{stem}.{language}{suffix}'
      write(tmp_path / name, [f'{stem} {language} {i}' for i in range(2)])
  write(tmp_path / 'test_c.fr', ['x'])
  write(tmp_path / 'test_d.de.gz', ['x'])
  return tmp_path


def test_directory_finds_the_parts_in_either_direction(folder):
  read = corpus.directory(folder, 'de-en')
  assert list(read.tests) == ['test_a', 'test_b']
  assert read.train.source == [
    f'{stem} de {i}' for stem in ('train', 'back', 'back_2') for i in range(2)
  ]
  assert read.train.target[0] == 'train en 0'
  assert read.validation.source == ['val de 0', 'val de 1']
  assert read.tests['test_b'].target == ['test_b en 0', 'test_b en 1']
  assert read.skipped == {'test_d: no en file': 1}
  assert read.name == f'{folder.name} de-en'


def test_directory_errors_say_what_was_wanted(folder, tmp_path):
  with pytest.raises(ValueError, match="'ende'.*source-target"):
    corpus.directory(folder, 'ende')
  with pytest.raises(ValueError, match="'de-de'.*two languages"):
    corpus.directory(folder, 'de-de')
  with pytest.raises(FileNotFoundError, match=r'test_\*\.cs.*back\.de'):
    corpus.directory(folder, 'en-cs')
  with pytest.raises(FileNotFoundError, match='there is no folder'):
    corpus.directory(tmp_path / 'lost', 'en-de')
  (folder / 'val.de').unlink()
  with pytest.raises(FileNotFoundError, match=r'val\.de or .*val\.de\.gz'):
    corpus.directory(folder, 'en-de')


def test_describe_counts_sentences_and_words():
  pairs = corpus.Pairs(['a b', 'c'], ['A', 'C D E F'])
  big = corpus.Pairs(['w'] * 1234, ['w v'] * 1234)
  skipped = {'train: empty on one side': 1500}
  told = corpus.describe(
    corpus.Corpus('x', big, pairs, {'news': pairs}, skipped)
  )
  assert told.splitlines() == [
    'x',
    '  train: 1,234 sentences, 1,234 source words, 2,468 target words',
    '  validation: 2 sentences, 3 source words, 5 target words',
    '  news: 2 sentences, 3 source words, 5 target words',
    '  left out 1,500: train: empty on one side',
  ]


class Toy(tfds.core.GeneratorBasedBuilder):
  """What a WMT builder has on disk: `Translation`, any splits."""

  VERSION = tfds.core.Version('1.0.0')
  EXAMPLES = [
    {'de': 'Käse &amp; Brot ', 'en': 'cheese &amp; bread'},
    {'de': ' ', 'en': 'nothing'},
    {'de': 'sagt &quot;ja&#39;', 'en': 'at ?a=1&copy=2'},
    {'de': 'zwei&#10;Zeilen', 'en': 'two lines'},
  ]

  def _info(self):
    features = tfds.features.Translation(languages=('de', 'en'))
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    yield from enumerate(self.EXAMPLES)


def toy(folder):
  builder = Toy(data_dir=folder, file_format='array_record')
  builder.download_and_prepare(file_format='array_record')
  return tfds.builder_from_directory(builder.data_path)


def test_read_split_decodes_unescapes_and_chooses_the_direction(tmp_path):
  builder = toy(tmp_path)
  pairs, empty = corpus.read_split(builder, 'train', 'en-de')
  assert empty == 1
  assert set(zip(*pairs, strict=True)) == {
    ('cheese & bread', 'Käse & Brot'),
    ('at ?a=1&copy=2', 'sagt "ja\''),
    ('two lines', 'zwei Zeilen'),
  }
  assert corpus.read_split(builder, 'train', 'de-en') == (pairs[::-1], 1)
  with pytest.raises(ValueError, match=r"'en-fi'.*\['de', 'en'\]"):
    corpus.read_split(builder, 'train', 'en-fi')
  with pytest.raises(ValueError, match='Unknown split'):
    corpus.read_split(builder, 'lost', 'en-de')


def test_read_split_refuses_a_format_that_takes_tensorflow(tmp_path):
  path = Path(toy(tmp_path).data_path)
  info = json.loads((path / 'dataset_info.json').read_text())
  info['fileFormat'] = 'tfrecord'
  (path / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(ValueError, match="tfrecord.*file_format='array_record'"):
    corpus.read_split(tfds.builder_from_directory(path), 'train', 'en-de')


# Sentences by subset that stand in for the downloads; anything else fails.
SUBSETS = {
  'de': ['europarl_v7', 'commoncrawl', 'newscommentary_v12', 'rapid_2016']
  + ['newstest2016', 'newstest2017'],
  'fi': ['europarl_v8_18', 'paracrawl_v1', 'rapid_2016', 'wikiheadlines_fi']
  + ['newstest2015', 'newstest2017', 'newstest2018'],
  'ru': ['commoncrawl', 'newscommentary_v13', 'paracrawl_v1', 'uncorpus_v1']
  + ['wikiheadlines_ru', 'newstest2015', 'newstest2017', 'newstest2018'],
}


def fake_downloads(root, language):
  """Writes each subset as WMT has it; returns the stand-in for downloading."""
  from tensorflow_datasets.translate import wmt

  folders = {}
  for name in SUBSETS[language]:
    subset = wmt.DATASET_MAP[name]
    inner = [root / name / path for path in subset.get_path(language)]
    for path, code in zip(inner, (language, 'en'), strict=False):
      path.parent.mkdir(parents=True, exist_ok=True)
      lines = [f'{name} {code} {i}' for i in range(2)]
      if path.suffix == '.sgm':
        lines = [f'<seg id="{i}">{s}</seg>' for i, s in enumerate(lines, 1)]
      elif len(inner) == 1:  # Wikiheadlines: both languages in one file.
        lines = [f'{name} {language} {i} ||| {name} en {i}' for i in range(2)]
      write(path, lines)
    for url in subset.get_url(language):
      folders.setdefault(url, []).append(root / name)
  # The newstests share one archive: merge their folders.
  for url, several in folders.items():
    for folder in several[1:]:
      for path in folder.rglob('*.*'):
        path.rename(several[0] / path.relative_to(folder))
    folders[url] = str(several[0])

  def download_and_extract(_, wanted):
    if isinstance(wanted, dict):
      return {k: download_and_extract(_, v) for k, v in wanted.items()}
    if isinstance(wanted, list):
      return [download_and_extract(_, v) for v in wanted]
    return folders[wanted]

  return download_and_extract


@pytest.mark.parametrize(
  'language, year, validation, tests',
  [
    ('de', 'wmt17', 'newstest2016', ['newstest2017']),
    ('fi', 'wmt18', 'newstest2015', ['newstest2017', 'newstest2018']),
    ('ru', 'wmt18', 'newstest2015', ['newstest2017', 'newstest2018']),
  ],
)
def test_wmt_prepares_and_reads_what_the_paper_uses(
  tmp_path, monkeypatch, language, year, validation, tests
):
  fake = fake_downloads(tmp_path / 'downloads', language)
  manager = 'tensorflow_datasets.download.DownloadManager'
  monkeypatch.setattr(f'{manager}.download_and_extract', fake)
  with monkeypatch.context() as patch:  # TensorFlow is for real downloads.
    patch.setattr(importlib.util, 'find_spec', lambda name: name)
    corpus.prepare_wmt(f'en-{language}', tmp_path / 'data')
  read = corpus.wmt(f'en-{language}', tmp_path / 'data')

  def pairs(*subsets):
    return {
      (f'{subset} en {i}', f'{subset} {language} {i}')
      for subset in subsets
      for i in range(2)
    }

  assert read.name == f'{year} en-{language}'
  assert set(zip(*read.validation, strict=True)) == pairs(validation)
  assert list(read.tests) == tests
  for name in tests:
    assert set(zip(*read.tests[name], strict=True)) == pairs(name)
  learned = [s for s in SUBSETS[language] if not s.startswith('newstest')]
  assert set(zip(*read.train, strict=True)) == pairs(*learned)
  back = corpus.wmt(f'{language}-en', tmp_path / 'data')
  assert back.train == read.train[::-1]


def test_wmt_says_how_to_prepare_and_what_pairs_there_are(
  tmp_path, monkeypatch
):
  with pytest.raises(FileNotFoundError) as raised:
    corpus.wmt('en-de', tmp_path)
  for words in ('wmt17_translate/de-en', 'prepare_wmt', 'stale_adam[wmt]'):
    assert words in str(raised.value)
  for read in (corpus.wmt, corpus.prepare_wmt):
    with pytest.raises(ValueError, match="'en-fr'.*en-de, en-fi and en-ru"):
      read('en-fr', tmp_path)
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ImportError, match=r'stale_adam\[wmt\]'):
    corpus.prepare_wmt('en-de', tmp_path)


def test_reading_imports_tensorflow_never_and_tfds_only_when_needed(tmp_path):
  path = toy(tmp_path).data_path
  program = f"""
import sys
from stale_adam.nmt import corpus
assert 'tensorflow_datasets' not in sys.modules
import tensorflow_datasets as tfds
pairs, _ = corpus.read_split(
  tfds.builder_from_directory({str(path)!r}), 'train', 'en-de')
assert len(pairs.source) == 3
assert 'tensorflow' not in sys.modules
"""
  root = Path(corpus.__file__).parents[2]
  subprocess.run([sys.executable, '-c', program], check=True, cwd=root)
