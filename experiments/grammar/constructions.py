"""Sentences built from phrases and clauses, in both languages."""

from experiments.grammar import english, german
from experiments.grammar.clauses import Clause, Nominal, Phrase
from experiments.grammar.words import (
  ADJECTIVES,
  CASES,
  CONJUNCTIONS,
  PREPOSITIONS,
  QUESTIONS,
  WHO,
  Pair,
  Pronoun,
)


def adverbial(preposition: str, phrase: Nominal) -> Pair:
  """Return a preposition and a phrase, such as 'in the garden'."""
  translation, case = PREPOSITIONS[preposition]
  return Pair(
    f'{preposition} {english.decline(phrase)}',
    german.after_preposition(translation, phrase, case),
  )


def predicate(adjective: str) -> Pair:
  """Return what follows 'to be'; German adjectives do not inflect there."""
  return Pair(adjective, ADJECTIVES[adjective].german)


def comparison(adjective: str, phrase: Phrase) -> Pair:
  """Return 'older than the dog' for 'old'."""
  degree = ADJECTIVES[adjective].comparative
  return Pair(
    f'{degree.english} than {english.decline(phrase)}',
    f'{degree.german} als {german.decline(phrase, "nominative")}',
  )


def statement(clause: Clause, front: str = '') -> Pair:
  """Return a main clause; `front` is '', 'time' or 'place'."""
  if not front:
    return Pair(english.say(clause), german.say(clause))
  part = getattr(clause, front)
  rest = clause._replace(**{front: None})
  return Pair(
    f'{part.english} {english.say(rest)}',
    f'{part.german} {german.say(rest, "first")}',
  )


def question(clause: Clause, word: str = '') -> Pair:
  """Return a question, after a question word such as 'why' if one is given."""
  if clause.subject is WHO:
    return statement(clause)
  pair = Pair(
    english.say(clause, is_question=True), german.say(clause, 'first')
  )
  if not word:
    return pair
  return Pair(f'{word} {pair.english}', f'{QUESTIONS[word]} {pair.german}')


def _dependent(conjunction: str, clause: Clause) -> Pair:
  """Return a subordinate clause; in German its verb is last."""
  return Pair(
    f'{conjunction} {english.say(clause)}',
    f'{CONJUNCTIONS[conjunction]} {german.say(clause, "last")}',
  )


def after(main: Clause, conjunction: str, clause: Clause) -> Pair:
  """Return a main clause followed by a subordinate clause."""
  return trailing(statement(main), _dependent(conjunction, clause))


def before(conjunction: str, clause: Clause, main: Clause) -> Pair:
  """Return a subordinate clause followed by a main clause."""
  first = _dependent(conjunction, clause)
  return Pair(
    f'{first.english}, {english.say(main)}',
    f'{first.german}, {german.say(main, "first")}',
  )


def trailing(main: Pair, rest: Pair) -> Pair:
  """Return `main`, then `rest`; only German puts a comma between them."""
  return Pair(f'{main.english} {rest.english}', f'{main.german}, {rest.german}')


def reporting(main: Clause, clause: Clause, is_question: bool = False) -> Pair:
  """Return 'I know that ...', 'do you know whether ...' and the like."""
  first = question(main) if is_question else statement(main)
  # The English conjunction is part of the verb.
  conjunction = CONJUNCTIONS[main.verb.base.split(' ')[-1]]
  translation = f'{conjunction} {german.say(clause, "last")}'
  return trailing(first, Pair(english.say(clause), translation))


def relative(phrase: Phrase, clause: Clause, role: str) -> Pair:
  """Return `clause` as a relative clause; `phrase` has the `role` in it.

  Args:
    phrase: what the clause is about.
    clause: its subject or object is replaced by the relative pronoun.
    role: 'subject' or 'object'.
  """
  word = 'that'
  if phrase.noun.is_person:
    word = 'who' if role == 'subject' else 'whom'
  table = german.ENDINGS['relative pronouns']
  forms = {case: table[case][phrase.gender] for case in CASES}
  pronoun = Pronoun(word, '', '', forms, phrase.person)
  if role == 'subject':
    whole = clause._replace(subject=pronoun)
    return Pair(english.say(whole), german.say(whole, 'last'))
  verb = clause.verb
  opening = f'{verb.preposition} {forms[verb.case]}'.strip()
  gap = clause._replace(object=None)
  return Pair(
    f'{word} {english.say(gap)}', f'{opening} {german.say(gap, "last")}'
  )


def sentence(pair: Pair, mark: str = '.') -> tuple[str, str]:
  """Return a pair with a capital and `mark`; drops a comma before the mark."""
  first, second = (
    (text[0].upper() + text[1:] + mark).replace(',' + mark, mark)
    for text in pair
  )
  return first, second
