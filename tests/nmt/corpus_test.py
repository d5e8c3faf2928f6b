"""Corpora: their parts, what is left out, and what people are told."""

import gzip

import pytest

from stale_adam.nmt.data import corpus


def write(path, lines):
  data = ''.join(f'{line}\n' for line in lines).encode()
  path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)
  return path


def files(folder, stem, source, target):
  return (
    write(folder / f'{stem}.en', source),
    write(folder / f'{stem}.de', target),
  )


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


@pytest.mark.parametrize('part', ['train', 'validation', 'test', 'back'])
def test_text_refuses_a_bad_file_in_any_part(tmp_path, part):
  good = files(tmp_path, 'good', ['one'], ['eins'])
  bad = files(tmp_path, 'bad', ['one', 'two'], ['eins'])
  chosen = dict.fromkeys(['train', 'validation', 'test', 'back'], good)
  chosen[part] = bad
  tests = {'news': chosen['test']}
  said = {'test': 'test news', 'back': 'back-translated'}.get(part, part)
  with pytest.raises(ValueError, match=rf'^{said}: .*bad\.en has 2 lines'):
    corpus.text(chosen['train'], chosen['validation'], tests, [chosen['back']])


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
