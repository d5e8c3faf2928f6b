"""Line-aligned files: line i of one translates line i of the other.

UTF-8, plain or gzip, in any two languages. An error names the file and the
line.
"""

import gzip
import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

Files = tuple[str | os.PathLike, str | os.PathLike]


class Pairs(NamedTuple):
  """Sentences and their translations: `target[i]` translates `source[i]`."""

  source: list[str]
  target: list[str]


def languages(pair: str) -> tuple[str, str]:
  """Split 'en-de' into source and target.

  Args:
    pair: two different languages, joined by a hyphen.

  Returns:
    The two names.

  Raises:
    ValueError: if `pair` is not of that form.
  """
  match = re.fullmatch(r'(\w+)-(\w+)', pair)
  if not match or match[1] == match[2]:
    raise ValueError(
      f"pair={pair!r}: use source-target in two languages, such as 'en-de'"
    )
  return match[1], match[2]


def drop_empty(
  source: Iterable[str], target: Iterable[str]
) -> tuple[Pairs, int]:
  """Strip all sentences, and leave out pairs with an empty side.

  Args:
    source: sentences.
    target: their translations, one for each.

  Returns:
    The pairs that remain, and the number of those left out.
  """
  kept, empty = Pairs([], []), 0
  for a, b in zip(source, target, strict=True):
    a, b = a.strip(), b.strip()
    if a and b:
      kept.source.append(a)
      kept.target.append(b)
    else:
      empty += 1
  return kept, empty


def read(files: Files) -> tuple[Pairs, int]:
  """Read a pair of files; a missing one is tried again with `.gz` appended.

  Args:
    files: source and target.

  Returns:
    The pairs, and the number left out because a side was empty.

  Raises:
    FileNotFoundError: if a file is missing under both names.
    ValueError: if a file is empty, not UTF-8 or damaged gzip; if the two differ
      in length; or if every pair has an empty side.
  """
  source, target = (_find(Path(file).expanduser()) for file in files)
  sides = _lines(source), _lines(target)
  if len(sides[0]) != len(sides[1]):
    raise ValueError(
      f'{source} has {len(sides[0])} lines but {target} has {len(sides[1])}; '
      'line i of one must translate line i of the other'
    )
  pairs, empty = drop_empty(*sides)
  if not pairs.source:
    raise ValueError(
      f'{source} and {target}: each of the {empty} lines is empty on one side; '
      'at least one pair of sentences is needed'
    )
  return pairs, empty


def stems(folder: Path, language: str) -> set[str]:
  """Find the files `{test_*,back*}.<language>[.gz]` of a folder.

  Args:
    folder: where to look; it need not exist.
    language: the files' suffix.

  Returns:
    Their names without suffixes, such as 'test_2016_flickr'.
  """
  pattern = re.compile(rf'((?:test_|back).*)\.{language}(\.gz)?')
  names = (p.name for p in folder.iterdir()) if folder.is_dir() else ()
  return {m[1] for m in map(pattern.fullmatch, names) if m}


def listing(folder: Path) -> str:
  """Describe what a folder contains, for errors about a missing file."""
  if folder.exists() and not folder.is_dir():
    return f'{folder} is a file: name its folder'
  if not folder.is_dir():
    return f'there is no folder {folder}'
  names = sorted(path.name for path in folder.iterdir())
  more = f' and {len(names) - 20} more' if len(names) > 20 else ''
  return f'{folder} has {", ".join(names[:20]) or "no files"}{more}'


def _find(path: Path) -> Path:
  names = [path] if path.suffix == '.gz' else [path, Path(f'{path}.gz')]
  for name in names:
    if name.is_file():
      return name
  tried = ' or '.join(str(name) for name in names)
  raise FileNotFoundError(f'no file {tried}; {listing(path.parent)}')


def _lines(path: Path) -> list[str]:
  # Read as bytes: text mode would also split at a lone carriage return, which
  # crawled text has inside sentences, and lose the alignment.
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
      f'{path}, after line {len(lines)}: damaged gzip ({error}); fetch it '
      'again, or drop .gz from its name if it is text'
    ) from error
  if not lines:
    raise ValueError(f'{path} is empty; one sentence a line is needed')
  lines[0] = lines[0].removeprefix('\ufeff')  # Some editors' byte-order mark.
  return lines
