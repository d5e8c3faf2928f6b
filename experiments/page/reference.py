"""The public names of the library, with their docstrings."""

import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import stale_adam as sa

_FOLDERS = (sa.pools, sa.methods)


class Name(NamedTuple):
  """A public name.

  Attributes:
    path: as users write it, such as 'sa.delay'.
    signature: of a call; '' if it is not called.
    first: the first line of its docstring.
    rest: the other lines.
  """

  path: str
  signature: str
  first: str
  rest: str


def names() -> Mapping[str, list[Name]]:
  """All public names, by the module that they are taken from."""
  own = {name: getattr(sa, name) for name in sa.__all__}
  found = {'sa': [*_described('sa', own)]}
  for module in _FOLDERS:
    path = 'sa.' + module.__name__.rpartition('.')[2]
    found[path] = [*_described(path, _public(module))]
  return found


def _public(module: types.ModuleType) -> dict[str, Any]:
  """What a module takes from its files for its users."""
  return {
    name: value
    for name, value in sorted(vars(module).items())
    if not name.startswith('_') and not inspect.ismodule(value)
  }


def _described(path: str, values: Mapping[str, Any]) -> Iterator[Name]:
  for name, value in values.items():
    if inspect.ismodule(value):
      continue
    first, _, rest = (inspect.getdoc(value) or '').partition('\n')
    yield Name(f'{path}.{name}', _signature(value), first, rest.strip('\n'))


def _signature(value: Any) -> str:
  """How a name is called, without its types."""
  try:
    found = inspect.signature(value)
  except (TypeError, ValueError):
    return ''
  empty = inspect.Parameter.empty
  plain = [p.replace(annotation=empty) for p in found.parameters.values()]
  signature = found.replace(
    parameters=plain, return_annotation=inspect.Signature.empty
  )
  return str(signature)
