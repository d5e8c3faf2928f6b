"""Puts phrases and clauses into German, with the right endings."""

from experiments.grammar.clauses import Clause, Nominal, Phrase
from experiments.grammar.words import (
  ADJECTIVES,
  AUXILIARIES,
  CASES,
  CONTRACTIONS,
  MODALS,
  Noun,
  Pronoun,
  Row,
  table,
)

# The plural has one set of endings, so it counts as the fourth gender.
GENDERS = ('der', 'die', 'das', 'plural')


def _by_case_and_gender(rows: list[Row]) -> dict[str, dict[str, str]]:
  """Read one row for each case, with one word for each gender."""
  forms = (dict(zip(GENDERS, row, strict=True)) for (row,) in rows)
  return dict(zip(CASES, forms, strict=True))


_endings = table('endings')
# The stem and the class of each determiner, by its English.
DETERMINERS = {
  english: (stem, kind)
  for ((english, stem, kind),) in _endings.pop('determiners')
}
ENDINGS = {kind: _by_case_and_gender(rows) for kind, rows in _endings.items()}
# An object with one of these is new information, and stands late.
_INDEFINITE = ('a', 'no', '', 'two', 'three')


def decline(phrase: Nominal, case: str) -> str:
  """Return 'ihr', 'dem alten Mann': determiner, adjective and noun agree."""
  if isinstance(phrase, Pronoun):
    return phrase.german[case]
  gender, first = phrase.gender, phrase.determiner
  words = [_determiner(first, case, gender)]
  if phrase.adjective:
    words.append(_adjective(phrase.adjective, first, case, gender))
  words.append(_noun(phrase.noun, case, phrase.plural))
  text = ' '.join(word for word in words if word)
  relative = phrase.relative.german
  return f'{text}, {relative},' if relative else text


def _determiner(english: str, case: str, gender: str) -> str:
  """Return 'keinen' for 'no'; '' for ''."""
  stem, kind = DETERMINERS[english]
  return stem + ENDINGS[kind][case][gender]


def _adjective(english: str, before: str, case: str, gender: str) -> str:
  """Return 'alten' for 'old' after the English determiner `before`."""
  _, kind = DETERMINERS[before]
  return ADJECTIVES[english].stem + ENDINGS[f'after {kind}'][case][gender]


def _noun(noun: Noun, case: str, plural: bool) -> str:
  """Return 'Kindern' for 'child', 'Jungen' for 'boy'."""
  if plural:
    ends = case == 'dative' and noun.german_plural[-1] not in 'ns'
    return noun.german_plural + 'n' if ends else noun.german_plural
  # Outside the nominative all weak nouns here look like their plural.
  weak = noun.weak and case != 'nominative'
  return noun.german_plural if weak else noun.german


def after_preposition(preposition: str, phrase: Nominal, case: str) -> str:
  """Return 'auf den Mann', 'im Garten'."""
  words = f'{preposition} {decline(phrase, case)}'
  first, second, *rest = words.split(' ')
  short = CONTRACTIONS.get(f'{first} {second}')
  return ' '.join([short, *rest]) if short else words


def _verb(clause: Clause) -> tuple[str, str, str]:
  """Return the finite verb, its separable prefix, and the infinite verb."""
  verb, tense, person = clause.verb, clause.tense, clause.subject.person
  if tense in MODALS:
    return MODALS[tense][person], '', verb.prefix + verb.infinitive
  if tense != 'past':
    return verb.finite[person], verb.prefix, ''
  # 'to be' alone has a simple past here; other verbs have the perfect.
  if verb.infinitive == 'sein':
    return 'waren' if person == 'plural' else 'war', '', ''
  return AUXILIARIES[verb.auxiliary][person], '', verb.participle


def _middle(clause: Clause) -> list[str]:
  """Return the parts between the finite verb and the end, in German order.

  The order is pronouns, time, definite objects, negation, manner, place,
  indefinite objects, complement. In a negated clause definite objects precede
  the time, and 'nicht' before an indefinite object becomes 'kein'.
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
  """Return the clause in German; its finite verb is first, second or last."""
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
