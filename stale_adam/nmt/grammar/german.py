"""Puts phrases and clauses into German."""

from stale_adam.nmt.grammar import endings
from stale_adam.nmt.grammar.clauses import Clause, Nominal, Phrase
from stale_adam.nmt.grammar.words import (
  AUXILIARIES,
  CONTRACTIONS,
  MODALS,
  Pronoun,
)

# An object with one of these is news, and stands late; the others are known.
_INDEFINITE = ('a', 'no', '', 'two', 'three')


def decline(phrase: Nominal, case: str) -> str:
  """Returns 'ihr', 'dem alten Mann': determiner, adjective and noun agree."""
  if isinstance(phrase, Pronoun):
    return phrase.german[case]
  gender, first = phrase.gender, phrase.determiner
  words = [endings.determiner(first, case, gender)]
  if phrase.adjective:
    words.append(endings.adjective(phrase.adjective, first, case, gender))
  words.append(endings.noun(phrase.noun, case, phrase.plural))
  text = ' '.join(word for word in words if word)
  relative = phrase.relative.german
  return f'{text}, {relative},' if relative else text


def after_preposition(preposition: str, phrase: Nominal, case: str) -> str:
  """Returns 'auf den Mann', 'im Garten'."""
  words = f'{preposition} {decline(phrase, case)}'
  first, second, *rest = words.split(' ')
  short = CONTRACTIONS.get(f'{first} {second}')
  return ' '.join([short, *rest]) if short else words


def _verb(clause: Clause) -> tuple[str, str, str]:
  """Returns the finite verb, its separable prefix, and the infinite verb."""
  verb, tense, person = clause.verb, clause.tense, clause.subject.person
  if tense in MODALS:
    return MODALS[tense][person], '', verb.prefix + verb.infinitive
  if tense != 'past':
    return verb.finite[person], verb.prefix, ''
  # 'was' is the one past that German does not build with a participle.
  if verb.infinitive == 'sein':
    return 'waren' if person == 'plural' else 'war', '', ''
  return AUXILIARIES[verb.auxiliary][person], '', verb.participle


def _middle(clause: Clause) -> list[str]:
  """Returns what German puts between the finite verb and the end.

  Pronouns, time, definite objects, negation, manner, place, indefinite
  objects, complement. Negation pulls definite objects before the time, and
  becomes kein where an indefinite object follows it.
  """
  verb, obj, negation = clause.verb, clause.object, ''
  light, known, new, complement = [], [], [], []
  if clause.negated:
    negation = 'nicht'
    is_phrase = isinstance(obj, Phrase) and not verb.preposition
    if is_phrase and obj.determiner in _INDEFINITE:
      obj, negation = obj._replace(determiner='no'), ''
  for phrase, case in ((clause.recipient, 'dative'), (obj, verb.case)):
    if not phrase:
      continue
    if verb.preposition:
      complement.append(after_preposition(verb.preposition, phrase, case))
    elif isinstance(phrase, Pronoun):
      light.append(decline(phrase, case))
    elif phrase is obj and phrase.determiner in _INDEFINITE:
      new.append(decline(phrase, case))
    else:
      known.append(decline(phrase, case))
  parts = ('time', 'manner', 'place', 'purpose', 'goal')
  time, manner, place, purpose, goal = (
    [part.german] if (part := getattr(clause, name)) else [] for name in parts
  )
  first = known + time if clause.negated else time + known
  rest = manner + place + new + purpose + goal + complement
  return [*light, *first, negation, *rest]


def say(clause: Clause, verb: str = 'second') -> str:
  """Returns the clause in German; its finite verb is first, second or last."""
  subject = decline(clause.subject, 'nominative')
  finite, prefix, infinite = _verb(clause)
  middle = _middle(clause)
  if verb == 'last':
    words = [subject, *middle, infinite, prefix + finite]
  elif verb == 'first':
    words = [finite, subject, *middle, infinite, prefix]
  else:
    words = [subject, finite, *middle, infinite, prefix]
  return ' '.join(word for word in words if word)
