"""Flags that several commands share, with one for every field of the settings.

A command calls what it needs; --help lists these flags as its own.
"""

import contextlib
import dataclasses
import functools
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from absl import flags

from experiments.ledger import scales
from experiments.ledger.settings import Settings, leaves
from stale_adam import checks

# So that --help shows a flag under the command that asks for it.
flags.disclaim_key_flags()


def scale(default: str = 'tiny') -> flags.FlagHolder:
  """Define --scale."""
  return flags.DEFINE_enum(
    'scale',
    default,
    list(scales.SCALES),
    'Size of model, text and run; micro is for smoke tests.',
  )


def data_dir() -> flags.FlagHolder:
  """Define --data_dir."""
  return flags.DEFINE_string(
    'data_dir',
    None,
    'Directory of the text: files train, val and test_*, each ending in '
    '.<language> or .<language>.gz; for --scale=paper, the directory given to '
    'experiments.prepare_wmt. By default tiny and micro draw sentences from a '
    'grammar; other scales need a directory.',
  )


def pair() -> flags.FlagHolder:
  """Define --pair alone, for commands without the other settings."""
  return flags.DEFINE_string(
    'pair', 'en-de', 'Source and target language, such as en-de.'
  )


def out(default: str | None, help_text: str) -> flags.FlagHolder:
  """Define --out."""
  return flags.DEFINE_string('out', default, help_text)


def overwrite() -> flags.FlagHolder:
  """Define --overwrite."""
  return flags.DEFINE_bool(
    'overwrite',
    False,
    'Replace a run that the directory holds. Only files that a run makes are '
    'removed. An unfinished run resumes nevertheless, if settings, text and '
    'program are the same.',
  )


def save_seconds() -> flags.FlagHolder:
  """Define --save_seconds."""
  holder = flags.DEFINE_float(
    'save_seconds',
    60.0,
    'Least time between two saved states of a run, besides those at every '
    'validation; 0 saves as often as possible. An unfinished run resumes from '
    'the last one when the command is repeated.',
  )
  flags.register_validator(
    holder,
    lambda seconds: 0 <= seconds < math.inf,
    'use a finite number of seconds, 0 or more',
  )
  return holder


class Option(NamedTuple):
  """The definition of a flag.

  Attributes:
    name: of the flag.
    field: of the settings.
    part: of that field; None if the flag sets the whole field.
    kind: type of the value.
    help: text for --help.
    choices: value by the word that the flag takes; empty if any is allowed.
  """

  name: str
  field: str
  part: str | None
  kind: Any
  help: str
  choices: Mapping[str, Any]


# Given as a word: --communication=asynchronous.
_WORDS = {
  'synchronous': ('communication', {'synchronous': True, 'asynchronous': False})
}


def options() -> Iterator[Option]:
  """One option for each setting, and for each part of a nested one."""
  types = typing.get_type_hints(Settings)
  for field in dataclasses.fields(Settings):
    text, kind = field.metadata['help'], types[field.name]
    choices = {word: word for word in field.metadata.get('choices', ())}
    if isinstance(text, str):
      yield Option(field.name, field.name, None, kind, text, choices)
      continue
    parts = typing.get_type_hints(kind)
    for part, help_text in text.items():
      name, words = _WORDS.get(part, (part, {}))
      yield Option(name, field.name, part, parts[part], help_text, words)


def changed(base: Settings, values: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of the settings that options change, for `dataclasses.replace`.

  Args:
    base: the settings to change.
    values: by name of option; None leaves the setting unchanged.

  Raises:
    ValueError: if a list of sizes or speeds cannot be read.
  """
  fields: dict[str, Any] = {}
  parts: dict[str, dict[str, Any]] = {}
  for option in options():
    value = values.get(option.name)
    if value is None:
      continue
    value = option.choices[value] if option.choices else value
    if option.part is None:
      old = getattr(base, option.field)
      fields[option.field] = _READ.get(option.field, _same)(value, old)
    else:
      parts.setdefault(option.field, {})[option.part] = value
  # All parts of a field at once, because what is allowed depends on the others.
  for name, of in parts.items():
    old = getattr(base, name)
    nested = dataclasses.is_dataclass(old)
    fields[name] = (
      dataclasses.replace(old, **of) if nested else old._replace(**of)
    )
  return fields


def _same(value: Any, old: Any) -> Any:
  del old
  return value


def _sizes(items: list[str], old: Mapping[str, float]) -> dict[str, float]:
  """Read ['depth=2', 'dropout=0.1']."""
  found = dict(old)
  for item in items:
    name, _, text = item.partition('=')
    shown = f'sizes={checks.cut(item)}'
    if name not in old:
      raise ValueError(f'{shown}: use name=number, of {", ".join(old)}')
    number = _number(text, shown)
    if isinstance(old[name], int) and not number.is_integer():
      raise ValueError(f'{shown}: use a whole number')
    found[name] = type(old[name])(number)
  return found


def _speeds(items: list[str], old: tuple[float, ...]) -> tuple[float, ...]:
  shown = f'words_per_second={checks.cut(",".join(items))}'
  if len(items) != len(old):
    raise ValueError(f'{shown}: use {len(old)} numbers, joined by commas')
  return tuple(_number(text, shown) for text in items)


def _number(text: str, shown: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise ValueError(f'{shown}: {checks.shown(text)} is not a number') from None


# Fields whose flags are lists of text.
_READ: Mapping[str, Callable[[Any, Any], Any]] = {
  'sizes': _sizes,
  'words_per_second': _speeds,
}


class _Number(flags.ArgumentParser):
  """Reads a number. Which numbers are allowed, the settings decide."""

  def __init__(self, kind: type):
    self._kind = kind
    self.syntactic_help = 'a whole number' if kind is int else 'a number'

  def flag_type(self) -> str:
    return self._kind.__name__

  def parse(self, argument: Any) -> Any:
    try:
      return self._kind(argument)
    except (ValueError, OverflowError):
      raise ValueError(f'use {self.syntactic_help}') from None


def number(
  name: str,
  default: Any,
  help_text: str,
  kind: type,
  flag_values: flags.FlagValues = flags.FLAGS,
) -> flags.FlagHolder:
  """Define a flag for a number, of kind int or float."""
  serializer = flags.ArgumentSerializer()
  return flags.DEFINE(
    _Number(kind), name, default, help_text, flag_values, serializer
  )


_DEFINE = {
  str: flags.DEFINE_string,
  bool: flags.DEFINE_bool,
  int: functools.partial(number, kind=int),
  float: functools.partial(number, kind=float),
}


def settings(
  flag_values: flags.FlagValues = flags.FLAGS,
) -> dict[str, flags.FlagHolder]:
  """Define a flag for every setting of a run.

  Args:
    flag_values: where to define them; those of the command line by default.

  Returns:
    The flags by name. The value of a flag that is not given is None.
  """
  found = {}
  for option in options():
    text = f'{option.help} {_default(option)}'
    if option.choices:
      found[option.name] = flags.DEFINE_enum(
        option.name, None, list(option.choices), text, flag_values
      )
    else:
      define = _DEFINE.get(option.kind, flags.DEFINE_list)
      found[option.name] = define(
        option.name, None, text, flag_values=flag_values
      )
  return found


def _default(option: Option) -> str:
  """The sentence on the default: one value, or those of all scales."""
  name = option.part or option.field
  if name == 'model':
    return 'Default: transformer.'
  words = {str(value): word for word, value in option.choices.items()}
  of = {}  # By model, with a value for each scale.
  for model in ('transformer', 'rnn'):
    every = [scale.models[model] for scale in scales.SCALES.values()]
    if option.field == 'sizes':
      found = [made.sizes for made in every]
    else:
      found = [leaves(made).get(name) for made in every]
    of[model] = [_shown(value) for value in found]
  if len({*of['transformer'], *of['rnn']}) == 1:
    value = of['transformer'][0]
    return f'Default: {words.get(value, value)}.'
  usual, rnn = (
    ' / '.join(found if len(set(found)) > 1 else found[:1])
    for found in of.values()
  )
  order = f', {" / ".join(scales.SCALES)}' if ' / ' in usual + rnn else ''
  other = f'; of an RNN {rnn}' if rnn != usual else ''
  return f'Default{order}: {usual}{other}.'


def _shown(value: Any) -> str:
  """A value as its flag takes it."""
  if isinstance(value, Mapping):
    return ','.join(f'{part}={number}' for part, number in value.items())
  return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)


def chosen(scale_name: str, values: dict[str, Any]) -> Settings:
  """The settings of a scale, changed by flags.

  Args:
    scale_name: a name in scales.py.
    values: of the flags by name; None where a flag is not given.

  Raises:
    ValueError: if a value is not allowed; naming the flag.
  """
  model = values.get('model') or 'transformer'
  base = scales.SCALES[scale_name].models[model]
  with named():
    changes = changed(base, values)
    return scales.settings(scale_name, **({'model': model} | changes))


@contextlib.contextmanager
def named() -> Iterator[None]:
  """Write the name of a setting as its flag, in errors that begin with it."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f'--{error}') from None
