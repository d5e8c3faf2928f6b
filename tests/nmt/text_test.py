"""Parallel files: alignment, and errors that name file and line."""

import gzip

import pytest

from stale_adam.nmt.data import text
from stale_adam.nmt.data.text import Pairs


def write(path, lines):
  data = ''.join(f'{line}\n' for line in lines).encode()
  path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)
  return path


def files(folder, stem, source, target):
  return (
    write(folder / f'{stem}.en', source),
    write(folder / f'{stem}.de', target),
  )


def test_stripped_and_counted_where_a_side_is_empty(tmp_path):
  source, target = [' a  b ', '', 'c', ' \t', 'd'], ['A', 'B', '', ' ', 'D']
  read = text.read(files(tmp_path, 'x', source, target))
  assert read == (Pairs(['a  b', 'd'], ['A', 'D']), 3)
  assert text.drop_empty(iter(source), iter(target)) == read


@pytest.mark.parametrize('inside', ['\r', '\x0b', '\x0c', '\x85', '\u2028'])
def test_only_a_line_feed_ends_a_line(tmp_path, inside):
  both = files(tmp_path, 'x', [f'a{inside}b', 'c'], ['A', 'C\r'])
  assert text.read(both) == (Pairs([f'a{inside}b', 'c'], ['A', 'C']), 0)


def test_plain_gzip_byte_order_mark_and_missing_last_line_feed(tmp_path):
  en, de = tmp_path / 'x.en', tmp_path / 'x.de'
  en.write_bytes('\ufeffä\nb'.encode())
  write(tmp_path / 'x.de.gz', ['ß', 'B'])
  assert text.read((en, de)) == (Pairs(['ä', 'b'], ['ß', 'B']), 0)


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


@pytest.mark.parametrize(
  'kind',
  ['length', 'utf-8', 'empty', 'blank', 'missing', 'no folder']
  + ['not gzip', 'cut gzip', 'wrong sum', 'no block'],
)
def test_errors_name_the_file_and_the_fault(tmp_path, kind):
  bad, error, says = bad_input(kind, tmp_path)
  with pytest.raises(error) as raised:
    text.read(bad)
  for words in says:
    assert words in str(raised.value)


def test_a_pair_is_two_languages():
  assert text.languages('en-de') == ('en', 'de')
  for pair in ('ende', 'de-de', 'en-de-fi', 'en-', ''):
    with pytest.raises(ValueError, match=f"'{pair}'.*source-target"):
      text.languages(pair)


def test_stems_are_those_of_tests_and_back_translation(tmp_path):
  for name in ('test_a.de', 'test_b.de.gz', 'back.de', 'train.de', 'test_c.en'):
    write(tmp_path / name, ['x'])
  assert text.stems(tmp_path, 'de') == {'test_a', 'test_b', 'back'}
  assert text.stems(tmp_path / 'lost', 'de') == set()


def test_listing_is_short(tmp_path):
  assert text.listing(tmp_path) == f'{tmp_path} has no files'
  for i in range(23):
    write(tmp_path / f'{i:02}', ['x'])
  told = text.listing(tmp_path)
  assert told.endswith(', 18, 19 and 3 more')
  assert 'no folder' in text.listing(tmp_path / 'lost')
