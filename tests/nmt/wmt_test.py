"""WMT: what is prepared, and that it is read without TensorFlow."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stale_adam.nmt.data import corpus, wmt

tfds = pytest.importorskip('tensorflow_datasets')

ROOT = Path(wmt.__file__).parents[3]


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
  pairs, empty = wmt.read_split(builder, 'train', 'en-de')
  assert empty == 1
  assert set(zip(*pairs, strict=True)) == {
    ('cheese & bread', 'Käse & Brot'),
    ('at ?a=1&copy=2', 'sagt "ja\''),
    ('two lines', 'zwei Zeilen'),
  }
  assert wmt.read_split(builder, 'train', 'de-en') == (pairs[::-1], 1)
  with pytest.raises(ValueError, match=r"'en-fi'.*\['de', 'en'\]"):
    wmt.read_split(builder, 'train', 'en-fi')
  with pytest.raises(ValueError, match='Unknown split'):
    wmt.read_split(builder, 'lost', 'en-de')


def test_read_split_refuses_a_format_that_takes_tensorflow(tmp_path):
  path = Path(toy(tmp_path).data_path)
  info = json.loads((path / 'dataset_info.json').read_text())
  info['fileFormat'] = 'tfrecord'
  (path / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(ValueError, match="tfrecord.*file_format='array_record'"):
    wmt.read_split(tfds.builder_from_directory(path), 'train', 'en-de')


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
  from tensorflow_datasets.translate import wmt as downloads

  folders = {}
  for name in SUBSETS[language]:
    subset = downloads.DATASET_MAP[name]
    inner = [root / name / path for path in subset.get_path(language)]
    for path, code in zip(inner, (language, 'en'), strict=False):
      path.parent.mkdir(parents=True, exist_ok=True)
      lines = [f'{name} {code} {i}' for i in range(2)]
      if path.suffix == '.sgm':
        lines = [f'<seg id="{i}">{s}</seg>' for i, s in enumerate(lines, 1)]
      elif len(inner) == 1:  # Wikiheadlines: both languages in one file.
        lines = [f'{name} {language} {i} ||| {name} en {i}' for i in range(2)]
      path.write_text(''.join(f'{line}\n' for line in lines))
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
    wmt.prepare(f'en-{language}', tmp_path / 'data')
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
  for words in ('wmt17_translate/de-en', 'prepare_wmt', "-e '.[wmt]'"):
    assert words in str(raised.value)
  for read in (corpus.wmt, wmt.prepare):
    with pytest.raises(ValueError, match="'en-fr'.*en-de, en-fi or en-ru"):
      read('en-fr', tmp_path)
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ImportError, match=r'\[wmt\]'):
    wmt.prepare('en-de', tmp_path)


@pytest.mark.slow
def test_reading_imports_tensorflow_never_and_tfds_only_when_needed(tmp_path):
  path = toy(tmp_path).data_path
  program = f"""
import sys
from stale_adam.nmt.data import corpus
from stale_adam.nmt.data import wmt
assert 'tensorflow_datasets' not in sys.modules
import tensorflow_datasets as tfds
pairs, _ = wmt.read_split(
  tfds.builder_from_directory({str(path)!r}), 'train', 'en-de')
assert len(pairs.source) == 3
assert 'tensorflow' not in sys.modules
"""
  subprocess.run([sys.executable, '-c', program], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_command_says_what_to_install(tmp_path):
  program = f"""
import runpy
import sys
sys.modules['tensorflow'] = None  # As if it were not installed.
sys.argv = ['prepare_wmt', '--pair=en-de', '--data_dir={tmp_path}']
runpy.run_module('experiments.prepare_wmt', run_name='__main__')
"""
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 1
  assert "pip install -e '.[wmt]'" in done.stdout + done.stderr
  assert not list(tmp_path.iterdir())
