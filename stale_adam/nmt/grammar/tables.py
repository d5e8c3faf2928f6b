"""How the tables of words are written, and the names of their dimensions.

An entry ends at ';', its columns at '|', its words at spaces; '_' is a space
inside a word, '-' an empty word. To extend the language add an entry.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

CASES = ('nominative', 'accusative', 'dative')
# The plural has one set of endings, and so counts as the fourth gender.
GENDERS = ('der', 'die', 'das', 'plural')
# Finite verbs have three forms: ich; er, sie, es; wir, sie, Sie.
PERSONS = ('first', 'third', 'plural')


class Pair(NamedTuple):
  """The same thing in two languages."""

  english: str
  german: str


def rows(text: str) -> Iterator[list[list[str]]]:
  """Yields the entries of a table as lists of columns of words."""
  for entry in text.strip(' \n;').split(';'):
    yield [
      ['' if word == '-' else word.replace('_', ' ') for word in column.split()]
      for column in entry.split('|')
    ]


def dictionary(text: str) -> dict[str, str]:
  """Reads entries of an English and a German word."""
  return {english: german for ((english, german),) in rows(text)}


def by_person(forms: Iterable[str]) -> dict[str, str]:
  return dict(zip(PERSONS, forms, strict=True))


def by_case(forms: Iterable[str]) -> dict[str, str]:
  return dict(zip(CASES, forms, strict=True))


def by_case_and_gender(text: str) -> dict[str, dict[str, str]]:
  """Reads three entries, one for each case, of four words, one each gender."""
  table = (dict(zip(GENDERS, row, strict=True)) for (row,) in rows(text))
  return dict(zip(CASES, table, strict=True))
