"""Checks of numbers that users give: what kind, and in which range."""

import math
import numbers
from typing import Any

INT32 = 2**31 - 1  # The most that a counter on a device holds.
_SEED = 2**32 - 1  # To JAX 2**32 is the seed 0, and -1 is 2**32 - 1.
_SHOWN = 80  # Characters of a value in an error.


def whole(
  name: str, value: Any, least: int = 1, most: int | None = None
) -> int:
  """The value as an int, if it is a whole number in this range.

  Args:
    name: of the setting, for the error.
    value: any.
    least: the smallest number allowed.
    most: the largest one; None if there is none.

  Raises:
    ValueError: naming the setting, the value and what is allowed.
  """
  is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not (is_whole and least <= value and (most is None or value <= most)):
    span = f', {least} or more' if most is None else f' from {least} to {most}'
    raise ValueError(f'{name}={shown(value)}: use a whole number{span}')
  return int(value)  # NumPy's would widen counters.


def real(
  name: str,
  value: Any,
  least: float = 0.0,
  most: float = math.inf,
  above: bool = False,
) -> float:
  """The value, if it is a finite number in this range; `above`, not `least`.

  Raises:
    ValueError: naming the setting, the value and what is allowed.
  """
  is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  inside = is_real and least <= value <= most and value != math.inf
  if not inside or (above and value == least):
    low = f'above {least:g}' if above else f'from {least:g} up'
    high = '' if most == math.inf else f', at most {most:g}'
    raise ValueError(f'{name}={shown(value)}: use a finite number {low}{high}')
  return value


def seed(value: Any, name: str = 'seed') -> None:
  """Checks a seed: JAX would take others for one of these.

  Raises:
    ValueError: if it is not a whole number from 0 to 2**32 - 1.
  """
  whole(name, value, 0, _SEED)


def shown(value: Any) -> str:
  """A value as an error shows it: on one line, not too long."""
  try:
    return cut(repr(value) if isinstance(value, str) else str(value))
  except ValueError:  # Python writes no integer of 5,000 digits.
    return f'a number of {value.bit_length()} bits'


def cut(text: str) -> str:
  """A text on one line, not too long."""
  text = ' '.join(text.split())
  return text if len(text) <= _SHOWN else f'{text[: _SHOWN - 3]}...'
