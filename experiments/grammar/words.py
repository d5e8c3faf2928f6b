"""Words and their forms, read from the tables in lexicon/.

A table has one entry per line; indented lines continue the entry above them.
'|' separates columns and a space separates words; '_' is a space inside a word
and '-' an empty word. '[name]' opens a section; a line with '#' is a comment.
The order of entries matters: sentences are drawn by position in a table.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

CASES = ('nominative', 'accusative', 'dative')
# Finite verbs have three forms: ich; er, sie, es; wir, sie, Sie.
PERSONS = ('first', 'third', 'plural')
PEOPLE = ('child', 'adult', 'kin')
# Names for several classes of nouns.
_GROUPS = {
  'people': PEOPLE,
  'thing': ('portable', 'device', 'furniture', 'vehicle'),
}

Row = list[list[str]]  # Columns of words.


class Pair(NamedTuple):
  """The same text in both languages."""

  english: str
  german: str


class Noun(NamedTuple):
  """A noun; 'weak' as in der Junge, den Jungen; '' for a missing plural."""

  kind: str
  english: str
  english_plural: str
  gender: str
  german: str
  german_plural: str
  weak: bool

  @property
  def is_person(self) -> bool:
    return self.kind in PEOPLE


class Adjective(NamedTuple):
  """An adjective; endings follow the stem: teuer, ein teures Buch, 'teur'."""

  german: str
  stem: str
  comparative: Pair | None


class Pronoun(NamedTuple):
  """A personal or relative pronoun or 'who', with its German forms by case."""

  english: str
  english_object: str
  possessive: str
  german: Mapping[str, str]
  person: str


class Verb(NamedTuple):
  """A verb: its forms, what it governs and what makes sense with it.

  A part that the verb does not have is an empty string.
  """

  base: str  # buy
  past: str  # bought
  progressive: str  # buying
  particle: str  # away, of 'throw away'
  finite: Mapping[str, str]  # kaufe, kauft, kaufen, by person
  infinitive: str
  participle: str
  prefix: str  # weg, of 'wegwerfen'
  auxiliary: str  # haben or sein
  preposition: str  # auf, of 'warten auf'
  case: str  # That of the object.
  recipient: bool  # Whether it has a second object, in the dative.
  subjects: tuple[Noun, ...]
  objects: tuple[Noun, ...]
  goals: tuple[tuple[str, Noun], ...]  # Complements: ('to', station).
  places: tuple[Noun, ...]
  manners: tuple[str, ...]
  aspect: str  # A key of `TENSES`.


def table(name: str) -> dict[str, list[Row]]:
  """Read lexicon/<name>.txt: its rows by section, '' before the first."""
  path = Path(__file__).parent / 'lexicon' / f'{name}.txt'
  lines = path.read_text('utf-8').splitlines()
  text = '\n'.join(line for line in lines if not line.startswith('#'))
  sections = {'': (rows := [])}
  for line in filter(None, text.replace('\n  ', ' ').splitlines()):
    if line.startswith('['):
      sections[line.strip('[]')] = rows = []
    else:
      rows.append([_words(column) for column in line.split('|')])
  return {section: rows for section, rows in sections.items() if rows}


def nouns(names: Iterable[str]) -> tuple[Noun, ...]:
  """Return all nouns of the given groups, classes and single nouns."""
  found = []
  for name in names:
    kinds = _GROUPS.get(name, (name,))
    members = tuple(noun for noun in NOUNS.values() if noun.kind in kinds)
    found.extend(members or (NOUNS[name],))
  return tuple(found)


def _words(column: str) -> list[str]:
  return [
    '' if word == '-' else word.replace('_', ' ') for word in column.split()
  ]


def _dictionary(rows: list[Row]) -> dict[str, str]:
  return {word: other for ((word, other),) in rows}


def _by_person(forms: Iterable[str]) -> dict[str, str]:
  return dict(zip(PERSONS, forms, strict=True))


def _finite(rows: list[Row]) -> dict[str, dict[str, str]]:
  return {verb: _by_person(forms) for (verb,), forms in rows}


def _choices(rows: list[Row]) -> dict[str, tuple[str, ...]]:
  return {key: tuple(words) for (key,), words in rows}


def _noun(kind: str, row: Row) -> Noun:
  ((english, gender, german, plural, *weak),) = row
  english, _, irregular = english.partition('/')
  many = plural and (irregular or english + 's')
  return Noun(kind, english, many, gender, german, plural, bool(weak))


def _adjective(english: list[str], german: list[str]) -> Adjective:
  _, *comparatives = english
  positive, comparative, stem = (*german, '', '')[:3]
  compared = Pair(*comparatives, comparative) if comparatives else None
  return Adjective(positive, stem or positive, compared)


def _pronouns(rows: list[Row]) -> dict[str, Pronoun]:
  return {
    key: Pronoun(*english, dict(zip(CASES, german, strict=True)), person)
    for (key,), english, german, (person,) in rows
  }


def _goals(words: list[str]) -> tuple[tuple[str, Noun], ...]:
  """Read 'into garden house to station' as (preposition, noun) pairs."""
  found, preposition = [], ''
  for word in words:
    if word in PREPOSITIONS:
      preposition = word
    else:
      found.extend((preposition, noun) for noun in nouns([word]))
  return tuple(found)


def _verb(frame: str, row: Row) -> Verb:
  (base, past, progressive), german, *columns, (aspect,) = row
  subjects, objects, places, manners = columns
  base, _, particle = base.partition('+')
  prefix, _, infinitive = german[0].rpartition('+')
  auxiliary, _, participle = german[2].rpartition(' ')
  first = infinitive[:-1] + ('e' if infinitive.endswith('ern') else '')
  first, plural = german[3:] or (first, infinitive)
  before, _, case = frame.rpartition(' ')
  return Verb(
    base=base,
    past=past,
    progressive=progressive,
    particle=particle,
    finite=_by_person((first, german[1], plural)),
    infinitive=infinitive,
    participle=participle,
    prefix=prefix,
    auxiliary='sein' if auxiliary else 'haben',
    preposition='' if before in CASES else before,
    case=case if case in CASES else '',
    recipient=before in CASES,
    subjects=nouns(subjects),
    objects=() if frame == 'goal' else nouns(objects),
    goals=_goals(objects) if frame == 'goal' else (),
    places=nouns(places),
    manners=tuple(manners),
    aspect=aspect,
  )


_nouns = [
  _noun(kind, row) for kind, rows in table('nouns').items() for row in rows
]
NOUNS = {noun.english: noun for noun in _nouns}
ADJECTIVES = {row[0][0]: _adjective(*row) for row in table('adjectives')['']}

_small = table('words')
PRONOUNS = _pronouns(_small['pronouns'])
WHO = _pronouns(_small['who'])['who']
THINGS = _pronouns(_small['things'])
PREPOSITIONS = {
  english: (german, case)
  for ((english, german, case),) in _small['prepositions']
}
CONTRACTIONS = _dictionary(_small['contractions'])
CONJUNCTIONS = _dictionary(_small['conjunctions'])
QUESTIONS = _dictionary(_small['questions'])
TIMES = {
  tense: tuple(Pair(*words) for words in times)
  for (tense,), *times in _small['times']
}
MANNERS = _dictionary(_small['manners'])
MODALS = _finite(_small['modals'])
AUXILIARIES = _finite(_small['auxiliaries'])

VERBS = {
  row[0][0].replace('+', ' '): _verb(frame, row)
  for frame, rows in table('verbs').items()
  for row in rows
}
# Verbs whose object is a clause.
REPORTING = tuple(
  verb for verb in VERBS.values() if verb.base.endswith((' that', ' whether'))
)
ORDINARY = tuple(
  verb for verb in VERBS.values() if verb.subjects and verb not in REPORTING
)

_sense = table('sense')
TENSES = _choices(_sense['tenses'])
ATTRIBUTES = _choices(_sense['attributes'])
COMPARISONS = _choices(_sense['comparisons'])
OTHERS = _choices(_sense['others'])
OBJECT_REASONS = _choices(_sense['object reasons'])
SUBJECT_REASONS = _choices(_sense['subject reasons'])
LISTS = _choices(_sense['lists'])
