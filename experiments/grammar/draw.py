"""Draws phrases and clauses that make sense."""

import random
from collections.abc import Sequence
from typing import TypeVar

from experiments.grammar.clauses import Clause, Nominal, Phrase, possessive
from experiments.grammar.constructions import adverbial
from experiments.grammar.words import (
  ATTRIBUTES,
  LISTS,
  MANNERS,
  MODALS,
  ORDINARY,
  OTHERS,
  PREPOSITIONS,
  PRONOUNS,
  TENSES,
  TIMES,
  Noun,
  Pair,
  Pronoun,
  Verb,
  nouns,
)

T = TypeVar('T')
_PEOPLE = nouns(['people'])
_ANYBODY = tuple(PRONOUNS.values())


class Draw:
  """A random source, and the phrases and clauses drawn from it.

  It uses only `Random.random`, the one method whose values Python keeps the
  same in every version. A change in the order of the choices, or one more entry
  in a table, changes the sentences of every seed.
  """

  def __init__(self, seed: int):
    self._uniform = random.Random(seed).random

  def pick(self, options: Sequence[T]) -> T:
    return options[int(self._uniform() * len(options))]

  def chance(self, probability: float) -> bool:
    return self._uniform() < probability

  # Phrases.

  def subject(self, verb: Verb) -> Nominal:
    return self.pronoun() if self.chance(0.2) else self.somebody(verb)

  def known_subject(self, verb: Verb) -> Nominal:
    return self.pronoun() if self.chance(0.4) else self.somebody(verb, True)

  def pronoun(self) -> Pronoun:
    return self.pick(_ANYBODY)

  def somebody(self, verb: Verb, known: bool = False) -> Phrase:
    """Draw a subject; a known one is definite and has no adjective."""
    noun = self.pick(verb.subjects)
    plural = self._plural(noun, 0.3)
    if noun.kind == 'kin':
      determiner = self.pronoun().possessive
    elif known:
      determiner = self.pick(('the', 'the', 'this'))
    elif plural:
      determiner = self.pick(('the', 'the', 'the', 'this', 'two', 'three'))
    elif verb.aspect in ('once', 'rare', 'point'):
      # 'Every teacher is building the house' would be odd.
      determiner = self.pick(('the', 'the', 'a', 'this'))
    else:
      determiner = self.pick(('the', 'the', 'the', 'a', 'this', 'every'))
    adjective = '' if known else self._adjective(noun)
    return Phrase(determiner, noun, adjective, plural)

  def _plural(self, noun: Noun, probability: float) -> bool:
    return self.chance(probability) and noun.english_plural != ''

  def _adjective(self, noun: Noun) -> str:
    return self.pick(ATTRIBUTES[noun.kind]) if self.chance(0.4) else ''

  def _person(self, subject: Nominal, noun: Noun) -> Nominal:
    """Draw a person other than the subject, perhaps as a pronoun."""
    if self.chance(0.25):
      key = subject.english if isinstance(subject, Pronoun) else 'he'
      return PRONOUNS[self.pick(OTHERS.get(key, OTHERS['he']))]
    while isinstance(subject, Phrase) and subject.noun is noun:
      noun = self.pick(_PEOPLE)
    determiner = self.pick(('the', 'the', 'a'))
    if noun.kind == 'kin':
      determiner = possessive(subject) or self.pick(('my', 'our', 'your'))
    plural = self._plural(noun, 0.2)
    if plural and determiner == 'a':
      determiner = self.pick(('two', 'three'))
    return Phrase(determiner, noun, self._adjective(noun), plural)

  def _thing(self, subject: Nominal, noun: Noun, verb: Verb) -> Phrase:
    """Draw an object that is not a person."""
    plural = self._plural(noun, 0.3)
    owner = noun.kind in LISTS['owned'] and possessive(subject) or 'the'
    if noun.kind == 'clothing' and verb.base in ('put', 'wear'):
      # One person wears one coat.
      plural = subject.person == 'plural'
      determiner = self.pick((owner, '' if plural else 'a'))
    elif noun.kind == 'drink':
      determiner = self.pick(('the', '', ''))
    elif plural:
      determiner = self.pick(('the', 'this', owner, '', '', 'two', 'three'))
    else:
      determiner = self.pick(('the', 'the', 'this', owner, 'a', 'a', 'a'))
    return Phrase(determiner, noun, self._adjective(noun), plural)

  def _object(self, verb: Verb, subject: Nominal, tense: str) -> Nominal:
    noun = self.pick(verb.objects)
    if noun.is_person:
      return self._person(subject, noun)
    phrase = self._thing(subject, noun, verb)
    if verb.base in LISTS['making'] and phrase.adjective in LISTS['unmade']:
      phrase = phrase._replace(adjective='')
    if tense == 'present' and verb.aspect == 'once':
      many = phrase.plural or noun.kind == 'drink'
      phrase = phrase._replace(determiner='' if many else 'a')
    if verb.base == 'have':
      phrase = phrase._replace(determiner='two' if phrase.plural else 'a')
    return phrase

  def _somewhere(self, noun: Noun) -> Phrase:
    adjective = self._adjective(noun)
    determiner = self.pick(('the', 'the', 'a')) if adjective else 'the'
    return Phrase(determiner, noun, adjective)

  # Clauses.

  def clause(self, verb: Verb, subject: Nominal, tense: str = '') -> Clause:
    """Draw only what the verb needs: its tense, objects and goal."""
    if not tense:
      tense = self.pick(TENSES[verb.aspect])
    if tense == 'modal':
      human = isinstance(subject, Pronoun) or subject.noun.kind != 'animal'
      tense = self.pick(tuple(MODALS) if human else ('can', 'will'))
    obj = goal = recipient = None
    if verb.objects:
      obj = self._object(verb, subject, tense)
    if verb.recipient:
      recipient = self._person(subject, self.pick(_PEOPLE))
    if verb.goals:
      preposition, noun = self.pick(verb.goals)
      goal = adverbial(preposition, self._somewhere(noun))
    return Clause(subject, verb, tense, obj, recipient, goal)

  def any_clause(self) -> Clause:
    verb = self.pick(ORDINARY)
    return self.fill(self.clause(verb, self.subject(verb)))

  def fill(self, clause: Clause) -> Clause:
    """Add time, place, manner or a negation to a clause."""
    verb, tense = clause.verb, clause.tense
    timeless = verb.aspect == 'state' or tense == 'can'
    timeless = timeless or (verb.aspect == 'sense' and tense == 'present')
    habit = tense == 'present' and not timeless
    if habit or (not timeless and self.chance(0.6)):
      times = TIMES.get(tense, TIMES['modal'])
      clause = clause._replace(time=self.pick(times))
    if not habit and self.chance(0.15) and _can_negate(clause):
      return clause._replace(negated=True)
    if verb.manners and self.chance(0.35):
      clause = self._with_manner(clause)
    if verb.places and self.chance(0.45):
      noun = self.pick(verb.places)
      prepositions = ('in',)
      if noun.kind == 'building':
        prepositions = ('in', 'in', 'in front of', 'behind', 'next to')
      place = adverbial(self.pick(prepositions), self._somewhere(noun))
      clause = clause._replace(place=place)
    return clause

  def _with_manner(self, clause: Clause) -> Clause:
    manner = self.pick(clause.verb.manners)
    if manner not in PREPOSITIONS:
      return clause._replace(manner=Pair(manner, MANNERS[manner]))
    pair = adverbial(manner, self._person(clause.subject, self.pick(_PEOPLE)))
    if manner == 'for':
      return clause._replace(purpose=pair)
    return clause._replace(manner=pair)


def _can_negate(clause: Clause) -> bool:
  """Tell whether 'not' would be clear and natural in this clause."""
  vague = {'every', 'a', 'two', 'three'}
  # 'not a' becomes 'kein', except after a preposition.
  vague_object = vague if clause.verb.preposition else vague - {'a'}
  return clause.tense != 'must' and not any(
    isinstance(phrase, Phrase) and phrase.determiner in unclear
    for phrase, unclear in (
      (clause.subject, vague),
      (clause.recipient, vague),
      (clause.object, vague_object),
    )
  )
