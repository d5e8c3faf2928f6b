"""Flags that several commands share; those of settings come from the dataclass.

A command calls what it needs, and the flags are its own in --help.
"""

from typing import Any

from absl import flags

from experiments.ledger import scales
from experiments.ledger import settings as settings_lib
from experiments.ledger.settings import Settings

# So that --help shows a flag under the command that asks for it.
flags.disclaim_key_flags()


def scale() -> flags.FlagHolder:
  """Defines --scale."""
  return flags.DEFINE_enum(
    'scale',
    'tiny',
    list(scales.SCALES),
    'Size of model, text and run; micro only rehearses.',
  )


def data_dir() -> flags.FlagHolder:
  """Defines --data_dir."""
  return flags.DEFINE_string(
    'data_dir',
    None,
    'Directory of the text: files train, val and test_*, each ending in '
    '.<language> or .<language>.gz; for --scale=paper, the directory given to '
    'experiments.prepare_wmt. By default tiny and micro draw sentences from a '
    'grammar; other scales need a directory.',
  )


def pair() -> flags.FlagHolder:
  """Defines --pair alone, for commands without the other settings."""
  return flags.DEFINE_string(
    'pair', 'en-de', 'Source and target language, such as en-de.'
  )


def out(default: str | None, help_text: str) -> flags.FlagHolder:
  """Defines --out."""
  return flags.DEFINE_string('out', default, help_text)


_DEFINE = {
  str: flags.DEFINE_string,
  bool: flags.DEFINE_bool,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
}


def settings() -> dict[str, flags.FlagHolder]:
  """Defines a flag for every setting of a run.

  Returns:
    The flags by name. The value of a flag that is not given is None.
  """
  found = {}
  for option in settings_lib.options():
    text = f'{option.help} {_default(option)}'
    if option.choices:
      found[option.name] = flags.DEFINE_enum(
        option.name, None, list(option.choices), text
      )
    else:
      define = _DEFINE.get(option.kind, flags.DEFINE_list)
      found[option.name] = define(option.name, None, text)
  return found


def _default(option: settings_lib.Option) -> str:
  """The sentence on the default: a value, where all scales have the same."""
  every = [m for scale in scales.SCALES.values() for m in scale.models.values()]
  name = option.part or option.field
  values = {str(settings_lib.leaves(model).get(name)) for model in every}
  if len(values) > 1 or option.field in ('sizes', 'model'):
    return 'Default: transformer.' if name == 'model' else 'Default: by scale.'
  words = {str(value): word for word, value in option.choices.items()}
  (value,) = values
  return f'Default: {words.get(value, value)}.'


def chosen(scale_name: str, values: dict[str, Any]) -> Settings:
  """The settings that flags ask for at a scale.

  Args:
    scale_name: a name in scales.py.
    values: of the flags by name; None where a flag is not given.

  Raises:
    ValueError: if a value is not allowed.
  """
  model = values.get('model') or 'transformer'
  base = scales.SCALES[scale_name].models[model]
  changes = settings_lib.changed(base, values)
  return scales.settings(scale_name, **({'model': model} | changes))
