"""Parallel text in files: line i of one translates line i of the other.

Read as line-aligned UTF-8, plain or gzip, in any two languages. What may go
wrong with such files is found here, and the error names file and line.
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
  """Parallel sentences: `target[i]` translates `source[i]`."""

  source: list[str]
  target: list[str]


def languages(pair: str) -> tuple[str, str]:
  """Splits 'en-de' into source and target.

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
      f"pair is {pair!r}; must be source-target in two languages, as 'en-de'"
    )
  return match[1], match[2]


def drop_empty(
  source: Iterable[str], target: Iterable[str]
) -> tuple[Pairs, int]:
  """Strips all sentences and leaves out pairs with an empty side.

  Args:
    source: sentences.
    target: their translations, as many.

  Returns:
    The pairs that remain, and how many were left out.
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
  """Reads a pair of files; a missing one is tried again with `.gz` appended.

  Args:
    files: source and target.

  Returns:
    The pairs, and how many were left out as empty on one side.

  Raises:
    FileNotFoundError: if a file is missing under both names.
    ValueError: if a file is empty, not UTF-8 or damaged gzip, if the two
      differ in length, or if no pair has two sides.
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
  """The files `{test_*,back*}.<language>[.gz]` in a folder, without suffixes.

  Args:
    folder: where to look; there are none where it does not exist.
    language: as the files' suffix has it.

  Returns:
    Names such as 'test_2016_flickr'.
  """
  pattern = re.compile(rf'((?:test_|back).*)\.{language}(\.gz)?')
  names = (p.name for p in folder.iterdir()) if folder.is_dir() else ()
  return {m[1] for m in map(pattern.fullmatch, names) if m}


def listing(folder: Path) -> str:
  """What a folder has, for errors about what it lacks."""
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
