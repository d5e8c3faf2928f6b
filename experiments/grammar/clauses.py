"""What a sentence says, before it is put into words: phrases and clauses."""

from typing import NamedTuple

from experiments.grammar.words import (
  PRONOUNS,
  THINGS,
  Noun,
  Pair,
  Pronoun,
  Verb,
)


class Phrase(NamedTuple):
  """A noun phrase: determiner and adjective are English words, or empty."""

  determiner: str
  noun: Noun
  adjective: str = ''
  plural: bool = False
  relative: Pair = Pair('', '')

  @property
  def person(self) -> str:
    return 'plural' if self.plural else 'third'

  @property
  def gender(self) -> str:
    return 'plural' if self.plural else self.noun.gender


Nominal = Phrase | Pronoun


class Clause(NamedTuple):
  """A subject, a verb and their complements, without word order.

  `tense` is 'progressive', 'present', 'past' or a modal verb. `manner` is how
  or with whom, `purpose` for whom. `goal` is a complement that the verb needs,
  such as a direction or, with 'be', an adjective.
  """

  subject: Nominal
  verb: Verb
  tense: str = 'present'
  object: Nominal | None = None
  recipient: Nominal | None = None
  goal: Pair | None = None
  manner: Pair | None = None
  purpose: Pair | None = None
  place: Pair | None = None
  time: Pair | None = None
  negated: bool = False


def possessive(owner: Nominal) -> str:
  """Return 'his' for 'the man' and so on, '' where none is clear."""
  if isinstance(owner, Pronoun):
    return owner.possessive
  if not owner.noun.is_person or owner.determiner == 'every':
    return ''
  people = {'der': 'his', 'die': 'her', 'plural': 'their'}
  return people.get(owner.gender, '')


def stand_in(phrase: Nominal) -> Pronoun | None:
  """Return the pronoun that can replace `phrase`, None where none is clear.

  A dog or a coat is 'it' in English whatever its German gender. A single child
  has none: German says 'es', English 'he' or 'she'.
  """
  if isinstance(phrase, Pronoun):
    return phrase
  if not phrase.noun.is_person:
    return THINGS[phrase.gender]
  people = {'der': 'he', 'die': 'she', 'plural': 'they'}
  return PRONOUNS.get(people.get(phrase.gender))
