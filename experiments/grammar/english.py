"""Puts phrases and clauses into English."""

from experiments.grammar.clauses import Clause, Nominal
from experiments.grammar.words import LISTS, Pronoun


def decline(phrase: Nominal, is_subject: bool = False) -> str:
  """Return 'she', 'her', 'an old man', 'these keys'."""
  if isinstance(phrase, Pronoun):
    return phrase.english if is_subject else phrase.english_object
  noun = phrase.noun.english_plural if phrase.plural else phrase.noun.english
  parts = (phrase.adjective, noun, phrase.relative.english)
  words = ' '.join(part for part in parts if part)
  determiner = phrase.determiner
  if determiner == 'this' and phrase.plural:
    determiner = 'these'
  if determiner == 'a' and words[0] in 'aeiou':
    determiner = 'an'
  return f'{determiner} {words}' if determiner else words


def _third(base: str) -> str:
  """Return 'goes' for 'go', 'looks for' for 'look for'."""
  verb, space, rest = base.partition(' ')
  if verb == 'have':
    verb = 'has'
  elif verb.endswith(('s', 'sh', 'ch', 'x', 'o')):
    verb += 'es'
  elif verb.endswith('y') and verb[-2] not in 'aeiou':
    verb = verb[:-1] + 'ies'
  else:
    verb += 's'
  return verb + space + rest


def _verb(clause: Clause) -> tuple[str, str, str]:
  """Return auxiliary, main verb, and the one form that can replace both."""
  person, tense, verb = clause.subject.person, clause.tense, clause.verb
  third = person == 'third'
  be = {'first': 'am', 'third': 'is', 'plural': 'are'}[person]
  do = 'does' if third else 'do'
  if verb.base == 'be' and tense == 'present':
    return be, '', ''
  if verb.base == 'be' and tense == 'past':
    return 'were' if person == 'plural' else 'was', '', ''
  if tense == 'progressive':
    return be, verb.progressive, ''
  if tense == 'past':
    return 'did', verb.base, verb.past
  if tense == 'present':
    return do, verb.base, _third(verb.base) if third else verb.base
  if tense == 'want to':
    return do, f'want to {verb.base}', f'want{"s" * third} to {verb.base}'
  auxiliary, space, rest = tense.partition(' ')
  auxiliary = be if auxiliary == 'be' else auxiliary
  return auxiliary, rest + space + verb.base, ''


def say(clause: Clause, is_question: bool = False) -> str:
  """Return the clause in English, without capital and final mark."""
  verb, time, negation = clause.verb, clause.time, ''
  auxiliary, rest, whole = _verb(clause)
  often = time and time.english in LISTS['frequencies'] and time.english
  subject = decline(clause.subject, is_subject=True)
  if clause.negated:
    negation = 'not'
  if clause.negated and auxiliary == 'can':
    auxiliary, negation = 'cannot', ''
  if is_question:
    words = [auxiliary, subject, negation, often, rest]
  elif whole and not clause.negated:
    words = [subject, often, whole]
  else:
    words = [subject, auxiliary, negation, often, rest]
  if clause.recipient:
    words.append(decline(clause.recipient))
  obj = clause.object and decline(clause.object)
  # A separable particle follows a pronoun: 'picks him up'.
  follows = isinstance(clause.object, Pronoun)
  words += [obj, verb.particle] if follows else [verb.particle, obj]
  for part in (clause.goal, clause.manner, clause.purpose, clause.place):
    words.append(part and part.english)
  if time and not often:
    words.append(time.english)
  return ' '.join(word for word in words if word)
