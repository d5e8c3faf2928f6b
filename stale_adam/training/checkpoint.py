"""Parameters on disk: one file, complete or absent."""

import json
import os
from typing import Any

import jax
import numpy as np

from stale_adam import files
from stale_adam.problem import Params


def save(
  path: str | os.PathLike, params: Params, metadata: dict[str, Any]
) -> None:
  """Writes parameters and their metadata as a NumPy archive.

  The file replaces an older one only when it is complete. The archive has a
  checksum of every array.

  Args:
    path: file to write; parent directories are made.
    params: nested dicts of arrays.
    metadata: what is needed to use the parameters, as JSON can hold it.
  """
  leaves = jax.tree_util.tree_flatten_with_path(params)[0]
  arrays: dict[str, Any] = {
    _name(keys): np.asarray(leaf) for keys, leaf in leaves
  }
  with files.replacing(path) as partial, open(partial, 'wb') as file:
    # With the names: a damaged archive may list fewer arrays than it holds.
    text = json.dumps({'metadata': metadata, 'names': list(arrays)})
    np.savez(file, __metadata__=np.array(text), **arrays)


def load(path: str | os.PathLike) -> tuple[Params, dict[str, Any]]:
  """Reads what `save` wrote.

  Returns:
    (params, metadata).

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file is damaged or is something else.
  """
  try:
    with np.load(path, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
    text = json.loads(str(arrays.pop('__metadata__')))
    if text['names'] != list(arrays):
      raise ValueError('arrays are missing')
  except FileNotFoundError:
    raise
  # What a damaged archive raises depends on the byte: any of seven types.
  except Exception as error:
    raise ValueError(
      f'{path} is damaged or holds no parameters ({error}); train again, or '
      'name the params.npz of a finished run'
    ) from error
  params: dict = {}
  for name, array in arrays.items():
    *parents, last = [int(k) if k.isdigit() else k for k in name.split('/')]
    place = params
    for key in parents:
      place = place.setdefault(key, {})
    place[last] = array
  return params, text['metadata']


def _name(keys: tuple[Any, ...]) -> str:
  return '/'.join(str(k.key) for k in keys)
