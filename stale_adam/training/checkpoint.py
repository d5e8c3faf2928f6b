"""Trees of arrays on disk: one file, as it was saved or refused."""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from stale_adam import files
from stale_adam.training import trees

_FORMAT = 2
_HEADER = 'tree.json'
_DIGITS = 64  # Of a SHA-256; the file ends in that of all bytes before.


def save(path: str | os.PathLike, tree: Any, metadata: dict[str, Any]) -> None:
  """Writes a tree and its metadata as a NumPy archive.

  The file replaces an older one only when it is complete. It holds the SHA-256
  of every array, and ends with that of the whole file.

  A tree consists of

  - dicts with keys of type str or int, lists, tuples, NamedTuples of classes
    that can be found by module and name, and None;
  - arrays of NumPy and JAX, of any numeric type: those of ml_dtypes, such as
    bfloat16, and typed PRNG keys, too; NumPy's scalars;
  - bool, int, float and str, which are kept in the header.

  Nothing is converted, merged or left out: everything else is refused. An array
  that occurs several times is written once, and is one array again when it is
  loaded. Of an array of JAX, value, shape and type are kept; its device and
  whether its type is weak are not.

  Args:
    path: file to write; parent directories are made.
    tree: what to save, such as parameters, or a whole `Server`.
    metadata: what is needed to use the tree; another such tree.

  Raises:
    TypeError: naming the place in the tree of what cannot be saved.
  """
  encoder = trees.Encoder()
  header = {
    'format': _FORMAT,
    'tree': encoder.encode(tree, 'tree'),
    'metadata': encoder.encode(metadata, 'metadata'),
    'arrays': [
      {'sha256': _sha256(a), **found}
      for a, found in zip(encoder.arrays, encoder.described, strict=True)
    ],
  }
  with files.replacing(path) as partial:
    with zipfile.ZipFile(partial, 'w') as archive:
      archive.writestr(_HEADER, json.dumps(header))
      for i, array in enumerate(encoder.arrays):
        with archive.open(f'{i}.npy', 'w', force_zip64=True) as member:
          np.lib.format.write_array(member, array, allow_pickle=False)
      archive.comment = b'0' * _DIGITS  # The last bytes of the file.
    with open(partial, 'r+b') as file:
      digest = hashlib.sha256()
      left = partial.stat().st_size - _DIGITS
      while left:
        part = file.read(min(left, 1 << 20))
        digest.update(part)
        left -= len(part)
      file.seek(-_DIGITS, os.SEEK_END)
      file.write(digest.hexdigest().encode())


def load(path: str | os.PathLike) -> tuple[Any, dict[str, Any]]:
  """Reads what `save` wrote.

  Returns:
    (tree, metadata), with arrays of NumPy; typed PRNG keys are JAX's.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file is damaged or is something else; if it was written
      in another format, or needs a class that is not imported.
  """
  try:
    data = Path(path).read_bytes()
  except IsADirectoryError:
    data = b''
  try:
    digest = hashlib.sha256(memoryview(data)[:-_DIGITS]).hexdigest()
    if data[-_DIGITS:] != digest.encode():
      raise ValueError('it does not end with the digest of its bytes')
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      header = json.loads(archive.read(_HEADER))
      same = header['format'] == _FORMAT
      arrays = _read(archive, header['arrays']) if same else []
  # What a damaged archive raises depends on the byte: any of seven types.
  except Exception as error:
    raise ValueError(
      f'{path} is damaged or holds no parameters of this format ({error}); '
      'train again, or name the params.npz of a finished run'
    ) from error
  if not same:
    raise ValueError(
      f'{path} has format {header["format"]}, and this version reads '
      f'{_FORMAT}: use the version of stale_adam that wrote it'
    )
  try:
    return (
      trees.decode(header['tree'], arrays),
      trees.decode(header['metadata'], arrays),
    )
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def _sha256(array: np.ndarray) -> str:
  # In the order of the file, which keeps that of the memory.
  fortran = array.flags.f_contiguous and not array.flags.c_contiguous
  data = np.ascontiguousarray(array.T if fortran else array)
  found = hashlib.sha256(f'{array.shape} {array.dtype.str}'.encode())
  found.update(data.reshape(-1).view(np.uint8).data)
  return found.hexdigest()


def _read(
  archive: zipfile.ZipFile, described: list[dict[str, Any]]
) -> list[Any]:
  """The arrays of an archive, each compared with its digest."""
  arrays = []
  for i, found in enumerate(described):
    with archive.open(f'{i}.npy') as member:
      array = np.lib.format.read_array(member, allow_pickle=False)
    if _sha256(array) != found['sha256']:
      raise ValueError(f'array {i} does not have its digest')
    arrays.append(trees.restored(array, found))
  return arrays
