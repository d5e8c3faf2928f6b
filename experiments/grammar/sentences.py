"""One function for each kind of sentence; its docstring is an example."""

from experiments.grammar.clauses import Clause, Nominal, Phrase, stand_in
from experiments.grammar.constructions import (
  after,
  before,
  comparison,
  predicate,
  question,
  relative,
  reporting,
  sentence,
  statement,
  trailing,
)
from experiments.grammar.draw import Draw
from experiments.grammar.words import (
  COMPARISONS,
  LISTS,
  OBJECT_REASONS,
  ORDINARY,
  PRONOUNS,
  REPORTING,
  SUBJECT_REASONS,
  THINGS,
  VERBS,
  WHO,
  Verb,
  nouns,
)

_REAL = ('progressive', 'past')
_REASONS = OBJECT_REASONS | SUBJECT_REASONS
_DEEDS = tuple(
  verb for verb in ORDINARY if verb.aspect not in ('state', 'sense')
)
# What was done to a thing or a person, for relative clauses that identify it.
_DONE_TO_THINGS = tuple(VERBS[key] for key in LISTS['done'])
_DONE_TO_PEOPLE = tuple(
  verb
  for verb in ORDINARY
  if not verb.recipient
  and set(nouns(['people'])) <= set(verb.objects)
  and verb.aspect != 'sense'
)


def simple(draw: Draw) -> tuple[str, str]:
  """On Monday the farmer bought a cow in the village."""
  clause = draw.any_clause()
  front = ''
  if clause.time and clause.time.english not in LISTS['frequencies']:
    front = draw.pick(('', '', 'time'))
  if clause.place and not front:
    front = draw.pick(('', '', '', '', 'place'))
  return sentence(statement(clause, front))


def asking(draw: Draw) -> tuple[str, str]:
  """Why is the boy waiting for his mother?"""
  clause = draw.any_clause()
  verb, subject = clause.verb, clause.subject
  word = draw.pick(('', '', '', 'who', 'why', 'when', 'where', 'what'))
  if isinstance(subject, Phrase):
    subject = draw.somebody(verb, known=True)
  else:
    subject = PRONOUNS['you']
  if word == 'who':
    subject = WHO
  clause = draw.fill(draw.clause(verb, subject, clause.tense))
  clause = clause._replace(negated=False)
  if word == 'when' and clause.tense in ('past', 'will'):
    clause = clause._replace(time=None)
  elif word == 'where' and verb.places:
    clause = clause._replace(place=None, manner=None)
  elif word == 'what' and _asks_what(verb):
    clause = clause._replace(object=None)
  elif word != 'why':
    word = ''
  return sentence(question(clause, word), '?')


def _asks_what(verb: Verb) -> bool:
  return verb.case == 'accusative' and not (
    any(noun.is_person for noun in verb.objects)
    or verb.preposition
    or verb.recipient
  )


def reported(draw: Draw) -> tuple[str, str]:
  """The guest says that the soup is cold. / Do you know whether it is cold?"""
  verb = draw.pick(REPORTING)
  main = Clause(draw.known_subject(verb), verb)
  inner = draw.any_clause()
  if inner.subject in (PRONOUNS['I'], PRONOUNS['we']):
    inner = inner._replace(subject=PRONOUNS['he'])
  if verb.base.endswith('whether'):
    inner = inner._replace(negated=False)
  if verb.base != 'know whether':
    return sentence(reporting(main, inner))
  if draw.chance(0.5):
    return sentence(reporting(main._replace(negated=True), inner))
  main = main._replace(subject=PRONOUNS['you'])
  return sentence(reporting(main, inner, is_question=True), '?')


def _weather(draw: Draw, tense: str) -> Clause:
  """Draw 'it rains', 'it is raining', 'it was cold', 'it is dark'."""
  word = draw.pick(('rain', 'snow', 'cold', 'dark'))
  if word in VERBS:
    return Clause(THINGS['das'], VERBS[word], tense)
  tense = 'past' if tense == 'past' else 'present'
  return Clause(THINGS['das'], VERBS['be'], tense, goal=predicate(word))


def conditional(draw: Draw) -> tuple[str, str]:
  """When it rains, the boy reads a book."""
  verb = VERBS[draw.pick(LISTS['sheltered'])]
  main = draw.clause(verb, draw.subject(verb), 'present')
  weather = _weather(draw, 'present')
  if draw.chance(0.5):
    return sentence(before('when', weather, main))
  return sentence(after(main, 'when', weather))


def contrasted(draw: Draw) -> tuple[str, str]:
  """Although it is raining, the children are playing in the garden."""
  verb = VERBS[draw.pick(LISTS['weatherproof'])]
  subject = draw.known_subject(verb)
  tense = draw.pick((*_REAL, 'want to'))
  main = draw.clause(verb, subject, tense)
  weather = _weather(draw, 'past' if tense == 'past' else 'progressive')
  if draw.chance(0.5):
    return sentence(before('although', weather, main))
  return sentence(after(main, 'although', weather))


def _real_tense(draw: Draw, verb: Verb) -> str:
  return 'past' if verb.aspect == 'point' else draw.pick(_REAL)


def moved(draw: Draw) -> tuple[str, str]:
  """The mother is happy because her son is tidying up the kitchen."""
  verb = draw.pick(_DEEDS)
  tense = _real_tense(draw, verb)
  inner = draw.clause(verb, draw.somebody(verb, known=True), tense)
  inner = draw.fill(inner)._replace(manner=None)
  bad = inner.negated or verb.base in LISTS['sad']
  feeling = draw.pick(('sad', 'angry') if bad else ('happy', 'surprised'))
  subject = draw.known_subject(verb)
  if isinstance(subject, Phrase):
    animal = subject.noun.kind == 'animal'
    if animal or subject.noun is inner.subject.noun:
      subject = draw.pronoun()
  main = Clause(subject, VERBS['be'], goal=predicate(feeling))
  if draw.chance(0.3):
    return sentence(before('because', inner, main))
  return sentence(after(main, 'because', inner))


def reasoned(draw: Draw) -> tuple[str, str]:
  """She washes the coat because it is dirty."""
  key = draw.pick(tuple(_REASONS))
  verb = VERBS[key]
  subject = draw.known_subject(verb)
  if not (pronoun := stand_in(subject)):
    return reasoned(draw)
  main = draw.clause(verb, subject, draw.pick(_REAL))
  in_object = key in OBJECT_REASONS
  if in_object:
    thing = main.object._replace(determiner='the', adjective='')
    main = main._replace(object=thing)
    pronoun = stand_in(thing)
  tense = 'past' if main.tense == 'past' else 'present'
  goal = predicate(draw.pick(_REASONS[key]))
  reason = Clause(pronoun, VERBS['be'], tense, goal=goal)
  # The noun comes first, its pronoun later.
  if not in_object and draw.chance(0.3):
    first = reason._replace(subject=subject)
    return sentence(before('because', first, main._replace(subject=pronoun)))
  return sentence(after(main, 'because', reason))


def _related(draw: Draw, phrase: Phrase, verb: Verb, busy: Nominal) -> Phrase:
  """Add what somebody, other than `busy`, does or did with `phrase`."""
  tense = 'present' if verb.aspect == 'state' else 'past'
  subject = draw.somebody(verb, known=True)
  while subject.noun in (phrase.noun, getattr(busy, 'noun', None)):
    subject = draw.somebody(verb, known=True)
  clause = Clause(subject, verb, tense)
  return phrase._replace(relative=relative(phrase, clause, 'object'))


def with_thing(draw: Draw) -> tuple[str, str]:
  """The woman is looking for the key that the man lost."""
  verb = draw.pick(_DEEDS)
  main = draw.clause(verb, draw.subject(verb))
  noun = getattr(main.object, 'noun', None)
  others = [
    other
    for other in _DONE_TO_THINGS
    if other is not verb and noun in other.objects
  ]
  if not others or main.tense == 'present' or verb.base in LISTS['making']:
    return with_thing(draw)
  other = draw.pick(others)
  tail = _related(draw, main.object, other, main.subject).relative
  bare = main._replace(object=main.object._replace(determiner='the'))
  # German puts the relative clause after the end of the main clause.
  return sentence(trailing(statement(bare), tail))


def with_person(draw: Draw) -> tuple[str, str]:
  """The woman who lives in the village needs a new coat."""
  verb = draw.pick(_DEEDS)
  phrase = draw.somebody(verb, known=True)._replace(determiner='the')
  if phrase.noun.kind not in ('child', 'adult'):
    return with_person(draw)
  if draw.chance(0.5):
    phrase = _related(draw, phrase, draw.pick(_DONE_TO_PEOPLE), phrase)
  else:
    inside = VERBS[draw.pick(('live', 'live', 'trust', 'buy'))]
    tense = 'past' if inside.aspect == 'rare' else 'present'
    inner = draw.clause(inside, phrase, tense)
    phrase = phrase._replace(relative=relative(phrase, inner, 'subject'))
  tense = _real_tense(draw, verb)
  return sentence(statement(draw.clause(verb, phrase, tense)))


def described(draw: Draw) -> tuple[str, str]:
  """The horse is older than the dog. / The book that she read is long."""
  kind = draw.pick(tuple(COMPARISONS))
  one, other = (draw.pick(nouns([kind])) for _ in range(2))
  if one is other:
    return described(draw)
  plural = draw.chance(0.3)
  first = Phrase(draw.pick(('the', 'this')), one, plural=plural)
  second = Phrase('the', other, plural=draw.chance(0.2))
  goal = comparison(draw.pick(COMPARISONS[kind]), second)
  verbs = [verb for verb in _DONE_TO_THINGS if one in verb.objects]
  if verbs and draw.chance(0.5):
    first = _related(draw, first, draw.pick(verbs), first)
    goal = predicate(draw.pick(COMPARISONS[kind]))
  tense = draw.pick(('present', 'present', 'past'))
  clause = Clause(first, VERBS['be'], tense, goal=goal)
  clause = clause._replace(negated=draw.chance(0.3))
  return sentence(statement(clause))
