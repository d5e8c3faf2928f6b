"""English-German sentence pairs from a grammar of our own: the `tiny` corpus.

Each construction is rendered twice from one description: `english` and
`german` put the same `Clause` into words. English is natural, German correct;
given the English its translation is nearly always determined, but it needs
what makes German hard: gender, case, adjective endings, the verb second, last
or split in two. `pairs` draws from well over a hundred million pairs.
"""

import random
from typing import NamedTuple

from stale_adam.nmt import lexicon
from stale_adam.nmt.lexicon import Noun, Pair, Pronoun, Verb

LARGEST_COUNT = 1_000_000


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


class Clause(NamedTuple):
  """A subject, a verb, and what stands with it, in no order.

  `tense` is 'progressive', 'present', 'past' or a modal verb. `manner` is how
  or with whom, `purpose` for whom; `goal` is a complement that the verb needs,
  such as a direction or, with 'be', an adjective.
  """

  subject: Phrase | Pronoun
  verb: Verb
  tense: str = 'present'
  object: Phrase | Pronoun | None = None
  recipient: Phrase | Pronoun | None = None
  goal: Pair | None = None
  manner: Pair | None = None
  purpose: Pair | None = None
  place: Pair | None = None
  time: Pair | None = None
  negated: bool = False


def _english_phrase(phrase: Phrase | Pronoun, is_subject: bool = False) -> str:
  if isinstance(phrase, Pronoun):
    return phrase.english if is_subject else phrase.english_object
  noun = phrase.noun.english_plural if phrase.plural else phrase.noun.english
  words = f'{phrase.adjective} {noun}' if phrase.adjective else noun
  if phrase.relative.english:
    words += ' ' + phrase.relative.english
  determiner = phrase.determiner
  if determiner == 'this' and phrase.plural:
    determiner = 'these'
  if determiner == 'a' and words[0] in 'aeiou':
    determiner = 'an'
  return f'{determiner} {words}' if determiner else words


def german_phrase(phrase: Phrase | Pronoun, case: str) -> str:
  """Declines a noun phrase: determiner, adjective and noun agree."""
  row = lexicon.CASES.index(case)
  if isinstance(phrase, Pronoun):
    return phrase.german[row]
  gender = 'plural' if phrase.plural else phrase.noun.gender
  column = lexicon.GENDERS.index(gender)
  stem, kind = lexicon.DETERMINERS[phrase.determiner]
  words = stem and stem + lexicon.DETERMINER_ENDINGS[kind][row][column] + ' '
  if phrase.adjective:
    words += lexicon.ADJECTIVES[phrase.adjective][2]
    words += lexicon.ADJECTIVE_ENDINGS[kind][row][column] + ' '
  words += _german_noun(phrase, case)
  if phrase.relative.german:
    words += f', {phrase.relative.german},'
  return words


def _german_noun(phrase: Phrase, case: str) -> str:
  noun = phrase.noun
  if phrase.plural:
    ends = case == 'dative' and noun.german_plural[-1] not in 'ns'
    return noun.german_plural + 'n' if ends else noun.german_plural
  # All weak nouns here have their plural form outside the nominative.
  weak = noun.weak and case != 'nominative'
  return noun.german_plural if weak else noun.german


def _governed(preposition: str, phrase: Phrase | Pronoun, case: str) -> str:
  words = f'{preposition} {german_phrase(phrase, case)}'
  first, second, *_ = words.split(' ')
  short = lexicon.CONTRACTIONS.get(f'{first} {second}')
  return short + words[len(first) + len(second) + 1 :] if short else words


def adverbial(preposition: str, phrase: Phrase | Pronoun) -> Pair:
  """Returns an English preposition and a phrase, such as 'in the garden'."""
  german, case = lexicon.PREPOSITIONS[preposition]
  return Pair(
    f'{preposition} {_english_phrase(phrase)}', _governed(german, phrase, case)
  )


def predicate(adjective: str) -> Pair:
  """Returns what follows 'to be'; German adjectives do not inflect there."""
  return Pair(adjective, lexicon.ADJECTIVES[adjective][0])


def comparison(degree: Pair, phrase: Phrase) -> Pair:
  """Returns 'older than the dog'."""
  return Pair(
    f'{degree.english} than {_english_phrase(phrase)}',
    f'{degree.german} als {german_phrase(phrase, "nominative")}',
  )


def _third(base: str) -> str:
  """Returns 'goes' for 'go', 'looks for' for 'look for'."""
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


def _english_verb(clause: Clause) -> tuple[str, str, str]:
  """Returns the auxiliary, the rest, and one form for both if there is one."""
  person, tense = clause.subject.person, clause.tense
  base, past, progressive = clause.verb.english
  third = person == 'third'
  be = {'first': 'am', 'third': 'is', 'plural': 'are'}[person]
  do = 'does' if third else 'do'
  if base == 'be' and tense == 'past':
    be = 'were' if person == 'plural' else 'was'
  if base == 'be' and tense in ('present', 'past'):
    return be, '', ''
  if tense == 'progressive':
    return be, progressive, ''
  if tense == 'past':
    return 'did', base, past
  if tense == 'present':
    return do, base, _third(base) if third else base
  if tense == 'want to':
    return do, f'{tense} {base}', f'want{"s" * third} to {base}'
  auxiliary, _, rest = tense.partition(' ')
  auxiliary = be if auxiliary == 'be' else auxiliary
  return auxiliary, f'{rest} {base}' if rest else base, ''


def english(clause: Clause, is_question: bool = False) -> str:
  """Returns the clause in English, without capital and full stop."""
  verb, time, negation = clause.verb, clause.time, ''
  auxiliary, rest, whole = _english_verb(clause)
  often = time and time.english in lexicon.FREQUENCIES and time.english
  subject = _english_phrase(clause.subject, is_subject=True)
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
    words.append(_english_phrase(clause.recipient))
  obj = clause.object and _english_phrase(clause.object)
  # A separable particle follows a pronoun: 'picks him up'.
  follows = isinstance(clause.object, Pronoun)
  words += [obj, verb.particle] if follows else [verb.particle, obj]
  for part in (clause.goal, clause.manner, clause.purpose, clause.place):
    words.append(part and part.english)
  if time and not often:
    words.append(time.english)
  return ' '.join(word for word in words if word)


def _german_verb(clause: Clause) -> tuple[str, str, str]:
  """Returns the finite verb, its separable prefix, and the infinite verb."""
  verb, tense = clause.verb, clause.tense
  person = lexicon.PERSONS.index(clause.subject.person)
  if tense in lexicon.MODALS:
    return lexicon.MODALS[tense][person], '', verb.prefix + verb.infinitive
  if tense != 'past':
    return verb.finite[person], verb.prefix, ''
  # 'was' is the one past that German does not build with a participle.
  if verb.infinitive == 'sein':
    return ('war', 'war', 'waren')[person], '', ''
  return lexicon.AUXILIARIES[verb.auxiliary][person], '', verb.participle


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
    if is_phrase and obj.determiner in lexicon.INDEFINITE:
      obj, negation = obj._replace(determiner='no'), ''
  for phrase, case in ((clause.recipient, 'dative'), (obj, verb.case)):
    if not phrase:
      continue
    if verb.preposition:
      complement.append(_governed(verb.preposition, phrase, case))
    elif isinstance(phrase, Pronoun):
      light.append(german_phrase(phrase, case))
    elif phrase is obj and phrase.determiner in lexicon.INDEFINITE:
      new.append(german_phrase(phrase, case))
    else:
      known.append(german_phrase(phrase, case))
  time, manner, place, purpose, goal = (
    [part.german] if part else []
    for part in (
      clause.time,
      clause.manner,
      clause.place,
      clause.purpose,
      clause.goal,
    )
  )
  first = known + time if clause.negated else time + known
  rest = manner + place + new + purpose + goal + complement
  return [*light, *first, negation, *rest]


def german(clause: Clause, verb: str = 'second') -> str:
  """Returns the clause in German; its finite verb is first, second or last."""
  subject = german_phrase(clause.subject, 'nominative')
  finite, prefix, infinite = _german_verb(clause)
  middle = _middle(clause)
  if verb == 'last':
    words = [subject, *middle, infinite, prefix + finite]
  elif verb == 'first':
    words = [finite, subject, *middle, infinite, prefix]
  else:
    words = [subject, finite, *middle, infinite, prefix]
  return ' '.join(word for word in words if word)


def statement(clause: Clause, front: str = '') -> Pair:
  """Returns a main clause; `front` is '', 'time' or 'place'."""
  if not front:
    return Pair(english(clause), german(clause))
  part = getattr(clause, front)
  rest = clause._replace(**{front: None})
  return Pair(
    f'{part.english} {english(rest)}', f'{part.german} {german(rest, "first")}'
  )


def question(clause: Clause, word: str = '') -> Pair:
  """Returns a question, after a question word such as 'why' if one is given."""
  if clause.subject is lexicon.WHO:
    return statement(clause)
  pair = Pair(english(clause, is_question=True), german(clause, 'first'))
  if not word:
    return pair
  return Pair(
    f'{word} {pair.english}', f'{lexicon.WH_WORDS[word]} {pair.german}'
  )


def dependent(conjunction: str, clause: Clause) -> Pair:
  """Returns a subordinate clause; in German its verb is last."""
  return Pair(
    f'{conjunction} {english(clause)}',
    f'{lexicon.CONJUNCTIONS[conjunction]} {german(clause, "last")}',
  )


def after(main: Clause, conjunction: str, clause: Clause) -> Pair:
  """Returns a main clause followed by a subordinate clause."""
  first, second = statement(main), dependent(conjunction, clause)
  return Pair(
    f'{first.english} {second.english}', f'{first.german}, {second.german}'
  )


def before(conjunction: str, clause: Clause, main: Clause) -> Pair:
  """Returns a subordinate clause first, after which the verb is second."""
  first = dependent(conjunction, clause)
  return Pair(
    f'{first.english}, {english(main)}',
    f'{first.german}, {german(main, "first")}',
  )


def reporting(main: Clause, clause: Clause, is_question: bool = False) -> Pair:
  """Returns 'I know that ...', 'do you know whether ...' and the like."""
  first = question(main) if is_question else statement(main)
  conjunction = lexicon.CONJUNCTIONS[main.verb.english[0].split(' ')[-1]]
  return Pair(
    f'{first.english} {english(clause)}',
    f'{first.german}, {conjunction} {german(clause, "last")}',
  )


def relative(phrase: Phrase, clause: Clause, role: str) -> Pair:
  """Returns `clause` about `phrase`, which is its 'subject' or 'object'."""
  gender = 'plural' if phrase.plural else phrase.noun.gender
  column = lexicon.GENDERS.index(gender)
  forms = tuple(row[column] for row in lexicon.RELATIVES)
  human = phrase.noun.kind in lexicon.PEOPLE
  english_form = 'that' if not human else 'who' if role == 'subject' else 'whom'
  pronoun = Pronoun(english_form, '', '', forms, phrase.person)
  if role == 'subject':
    whole = clause._replace(subject=pronoun)
    return Pair(english(whole), german(whole, 'last'))
  verb = clause.verb
  opening = f'{verb.preposition} {german_phrase(pronoun, verb.case)}'.strip()
  gap = clause._replace(object=None)
  return Pair(
    f'{english_form} {english(gap)}', f'{opening} {german(gap, "last")}'
  )


def sentence(pair: Pair, mark: str = '.') -> tuple[str, str]:
  """Returns a pair with capital and final mark; no comma stands before it."""
  return tuple(
    (text[0].upper() + text[1:] + mark).replace(',' + mark, mark)
    for text in pair
  )


def possessive(subject: Phrase | Pronoun) -> str:
  """Returns 'his' for 'the man' and so on, '' where that is no clear matter."""
  if isinstance(subject, Pronoun):
    return subject.possessive
  if subject.noun.kind not in lexicon.PEOPLE or subject.determiner == 'every':
    return ''
  if subject.plural:
    return 'their'
  return {'der': 'his', 'die': 'her', 'das': ''}[subject.noun.gender]


def stand_in(phrase: Phrase | Pronoun) -> Pronoun | None:
  """Returns the pronoun that may follow `phrase`, None where that is no clear.

  Who says 'er' for a dog or a coat says 'it' in English; a child is neither.
  """
  if isinstance(phrase, Pronoun):
    return phrase
  if phrase.plural:
    return lexicon.PRONOUNS['they']
  gender = phrase.noun.gender
  if phrase.noun.kind not in lexicon.PEOPLE:
    return lexicon.THINGS[gender]
  return lexicon.PRONOUNS.get({'der': 'he', 'die': 'she'}.get(gender))


class _Writer:
  """Draws sentences that make sense.

  It uses only `Random.random`, the one method whose values Python promises
  to keep from version to version.
  """

  def __init__(self, seed: int):
    self._uniform = random.Random(seed).random

  def sentence(self) -> tuple[str, str]:
    return self._pick(_KINDS)(self)

  def _pick(self, options):
    return options[int(self._uniform() * len(options))]

  def _chance(self, probability: float) -> bool:
    return self._uniform() < probability

  def _subject(self, verb: Verb) -> Phrase | Pronoun:
    if self._chance(0.2):
      return self._pick(_PERSONS)
    return self._somebody(verb)

  def _somebody(self, verb: Verb, known: bool = False) -> Phrase:
    """Draws a subject; if `known` a definite one without an adjective."""
    noun = self._pick(verb.subjects)
    plural = self._chance(0.3) and noun.english_plural != ''
    if noun.kind == 'kin':
      determiner = self._pick(lexicon.POSSESSIVES)
    elif known:
      determiner = self._pick(('the', 'the', 'this'))
    elif plural:
      determiner = self._pick(('the', 'the', 'the', 'this', 'two', 'three'))
    elif verb.aspect in ('once', 'rare', 'point'):
      # Not every teacher can be building the same house.
      determiner = self._pick(('the', 'the', 'a', 'this'))
    else:
      determiner = self._pick(('the', 'the', 'the', 'a', 'this', 'every'))
    adjective = '' if known else self._adjective(noun)
    return Phrase(determiner, noun, adjective, plural)

  def _adjective(self, noun: Noun) -> str:
    if self._chance(0.4):
      return self._pick(lexicon.ATTRIBUTES[noun.kind])
    return ''

  def _person(self, subject: Phrase | Pronoun, noun: Noun) -> Phrase | Pronoun:
    """Draws a person other than the subject, perhaps as a pronoun."""
    if self._chance(0.25):
      # 'sie' is she and they: 'sie sieht sie' would be unclear.
      others = {
        'I': ('he', 'she', 'you', 'they'),
        'we': ('he', 'she', 'you', 'they'),
        'he': ('I', 'we', 'she', 'you', 'they'),
        'she': ('I', 'we', 'he', 'you'),
        'they': ('I', 'we', 'he', 'you'),
        'you': ('I', 'we', 'he', 'she', 'they'),
      }
      key = subject.english if isinstance(subject, Pronoun) else 'he'
      return lexicon.PRONOUNS[self._pick(others.get(key, others['he']))]
    while isinstance(subject, Phrase) and subject.noun is noun:
      noun = self._pick(_PEOPLE)
    determiner = self._pick(('the', 'the', 'a'))
    if noun.kind == 'kin':
      determiner = possessive(subject) or self._pick(('my', 'our', 'your'))
    plural = self._chance(0.2) and noun.english_plural != ''
    if plural and determiner == 'a':
      determiner = self._pick(('two', 'three'))
    return Phrase(determiner, noun, self._adjective(noun), plural)

  def _thing(self, subject: Phrase | Pronoun, noun: Noun, verb: str) -> Phrase:
    """Draws an object that is no person."""
    plural = self._chance(0.3) and noun.english_plural != ''
    owner = noun.kind in _OWNED and possessive(subject) or 'the'
    if noun.kind == 'clothing' and verb in ('put', 'wear'):
      # Everybody wears one coat.
      plural = subject.person == 'plural'
      determiner = self._pick((owner, '' if plural else 'a'))
    elif noun.kind == 'drink':
      determiner = self._pick(('the', '', ''))
    elif plural:
      determiner = self._pick(('the', 'this', owner, '', '', 'two', 'three'))
    else:
      determiner = self._pick(('the', 'the', 'this', owner, 'a', 'a', 'a'))
    return Phrase(determiner, noun, self._adjective(noun), plural)

  def _clause(
    self, verb: Verb, subject: Phrase | Pronoun, tense: str = ''
  ) -> Clause:
    """Draws what the verb needs, and leaves out what it does not."""
    if not tense:
      tense = self._pick(lexicon.ASPECTS[verb.aspect])
    if tense == 'modal':
      human = isinstance(subject, Pronoun) or subject.noun.kind != 'animal'
      tense = self._pick(tuple(lexicon.MODALS) if human else ('can', 'will'))
    obj = goal = recipient = None
    if verb.objects:
      obj = self._object(verb, subject, tense)
    if verb.recipient:
      recipient = self._person(subject, self._pick(_PEOPLE))
    if verb.goals:
      preposition, noun = self._pick(verb.goals)
      goal = adverbial(preposition, self._somewhere(noun))
    return Clause(subject, verb, tense, obj, recipient, goal)

  def _object(
    self, verb: Verb, subject: Phrase | Pronoun, tense: str
  ) -> Phrase | Pronoun:
    noun = self._pick(verb.objects)
    if noun.kind in lexicon.PEOPLE:
      return self._person(subject, noun)
    phrase = self._thing(subject, noun, verb.english[0])
    habit = tense == 'present' and verb.aspect == 'once'
    if verb.english[0] in lexicon.MAKING:
      if phrase.adjective in lexicon.UNMADE:
        phrase = phrase._replace(adjective='')
    if habit:
      many = phrase.plural or noun.kind == 'drink'
      phrase = phrase._replace(determiner='' if many else 'a')
    if verb.english[0] == 'have':
      phrase = phrase._replace(determiner='two' if phrase.plural else 'a')
    return phrase

  def _somewhere(self, noun: Noun) -> Phrase:
    adjective = self._adjective(noun)
    determiner = self._pick(('the', 'the', 'a')) if adjective else 'the'
    return Phrase(determiner, noun, adjective)

  def _full(self, clause: Clause) -> Clause:
    """Adds time, place, manner or a negation to a bare clause."""
    verb, tense = clause.verb, clause.tense
    timeless = verb.aspect == 'state' or tense == 'can'
    timeless = timeless or (verb.aspect == 'sense' and tense == 'present')
    habit = tense == 'present' and not timeless
    if habit or (not timeless and self._chance(0.6)):
      times = lexicon.TIMES.get(tense, lexicon.TIMES['modal'])
      clause = clause._replace(time=self._pick(times))
    if not habit and self._chance(0.15) and _can_negate(clause):
      return clause._replace(negated=True)
    if verb.manners and self._chance(0.35):
      clause = self._with_manner(clause)
    if verb.places and self._chance(0.45):
      noun = self._pick(verb.places)
      prepositions = ('in',)
      if noun.kind == 'building':
        prepositions = ('in', 'in', 'in front of', 'behind', 'next to')
      place = adverbial(self._pick(prepositions), self._somewhere(noun))
      clause = clause._replace(place=place)
    return clause

  def _with_manner(self, clause: Clause) -> Clause:
    manner = self._pick(clause.verb.manners)
    if manner not in lexicon.PREPOSITIONS:
      return clause._replace(manner=Pair(manner, lexicon.MANNERS[manner]))
    pair = adverbial(manner, self._person(clause.subject, self._pick(_PEOPLE)))
    if manner == 'for':
      return clause._replace(purpose=pair)
    return clause._replace(manner=pair)

  def _any(self) -> Clause:
    verb = self._pick(_VERBS)
    return self._full(self._clause(verb, self._subject(verb)))

  def simple(self):
    clause = self._any()
    front = ''
    if clause.time and clause.time.english not in lexicon.FREQUENCIES:
      front = self._pick(('', '', 'time'))
    if clause.place and not front:
      front = self._pick(('', '', '', '', 'place'))
    return sentence(statement(clause, front))

  def asking(self):
    clause = self._any()._replace(negated=False)
    verb, subject = clause.verb, clause.subject
    word = self._pick(('', '', '', 'who', 'why', 'when', 'where', 'what'))
    if isinstance(subject, Pronoun):
      subject = lexicon.PRONOUNS['you']
    else:
      subject = self._somebody(verb, known=True)
    if word == 'who':
      subject = lexicon.WHO
    clause = self._full(self._clause(verb, subject, clause.tense))
    clause = clause._replace(negated=False)
    if word == 'when' and clause.tense in ('past', 'will'):
      return sentence(question(clause._replace(time=None), word), '?')
    if word == 'where' and verb.places:
      clause = clause._replace(place=None, manner=None)
      return sentence(question(clause, word), '?')
    if word == 'what' and _asks_what(verb):
      return sentence(question(clause._replace(object=None), word), '?')
    return sentence(question(clause, word if word == 'why' else ''), '?')

  def reported(self):
    verb = self._pick(_CLAUSE_VERBS)
    main = Clause(self._known_person(verb), verb)
    inner = self._any()
    if inner.subject in (lexicon.PRONOUNS['I'], lexicon.PRONOUNS['we']):
      inner = inner._replace(subject=lexicon.PRONOUNS['he'])
    if verb.english[0].endswith('whether'):
      inner = inner._replace(negated=False)
    if verb.english[0] != 'know whether':
      return sentence(reporting(main, inner))
    if self._chance(0.5):
      return sentence(reporting(main._replace(negated=True), inner))
    main = main._replace(subject=lexicon.PRONOUNS['you'])
    return sentence(reporting(main, inner, is_question=True), '?')

  def _known_person(self, verb: Verb) -> Phrase | Pronoun:
    if self._chance(0.4):
      return self._pick(_PERSONS)
    return self._somebody(verb, known=True)

  def _weather(self, tense: str) -> Clause:
    """Draws 'it rains', 'it is raining', 'it was cold', 'it is dark'."""
    it = lexicon.THINGS['das']
    word = self._pick(('rain', 'snow', 'cold', 'dark'))
    if word in lexicon.VERBS:
      return Clause(it, lexicon.VERBS[word], tense)
    tense = 'past' if tense == 'past' else 'present'
    return Clause(it, lexicon.VERBS['be'], tense, goal=predicate(word))

  def conditional(self):
    """When it rains, the boy reads a book."""
    verb = lexicon.VERBS[self._pick(lexicon.SHELTERED)]
    main = self._clause(verb, self._subject(verb), 'present')
    weather = self._weather('present')
    if self._chance(0.5):
      return sentence(before('when', weather, main))
    return sentence(after(main, 'when', weather))

  def moved(self):
    """The mother is happy because her son is tidying up the kitchen."""
    verb = self._pick(_DEEDS)
    tense = 'past' if verb.aspect == 'point' else self._pick(_REAL)
    inner = self._clause(verb, self._somebody(verb, known=True), tense)
    inner = self._full(inner)._replace(manner=None)
    bad = inner.negated or verb.english[0] in lexicon.SAD_VERBS
    feeling = self._pick((('happy', 'surprised'), ('sad', 'angry'))[bad])
    subject = self._known_person(verb)
    while isinstance(subject, Phrase) and subject.noun in (
      inner.subject.noun,
      *_ANIMALS,
    ):
      subject = self._pick(_PERSONS)
    main = Clause(subject, lexicon.VERBS['be'], goal=predicate(feeling))
    if self._chance(0.3):
      return sentence(before('because', inner, main))
    return sentence(after(main, 'because', inner))

  def reasoned(self):
    """She washes the coat because it is dirty. / ... although it rains."""
    key = self._pick(_REASONED)
    verb = lexicon.VERBS[key]
    subject = self._known_person(verb)
    if not (pronoun := stand_in(subject)):
      return self.reasoned()
    tense = self._pick((*_REAL, 'want to'))
    main = self._clause(verb, subject, tense)
    if key in lexicon.OBJECT_REASONS:
      thing = main.object._replace(determiner='the', adjective='')
      main = main._replace(object=thing)
      pronoun = stand_in(thing)
      reasons = lexicon.OBJECT_REASONS[key]
    else:
      reasons = lexicon.SUBJECT_REASONS[key]
    state = 'past' if main.tense == 'past' else 'present'
    goal = predicate(self._pick(reasons))
    reason = Clause(pronoun, lexicon.VERBS['be'], state, goal=goal)
    if key in lexicon.OBJECT_REASONS:
      return sentence(after(main, 'because', reason))
    # The noun comes first, the pronoun after it.
    if self._chance(0.3):
      first = reason._replace(subject=subject)
      return sentence(before('because', first, main._replace(subject=pronoun)))
    return sentence(after(main, 'because', reason))

  def contrasted(self):
    """Although it is raining, the children are playing in the garden."""
    verb = lexicon.VERBS[self._pick(lexicon.WEATHERPROOF)]
    subject = self._known_person(verb)
    tense = self._pick((*_REAL, 'want to'))
    main = self._clause(verb, subject, tense)
    weather = self._weather('past' if tense == 'past' else 'progressive')
    if self._chance(0.5):
      return sentence(before('although', weather, main))
    return sentence(after(main, 'although', weather))

  def _relative(self, phrase: Phrase, verb: Verb) -> Phrase:
    """Adds to `phrase` what somebody does, or did, with it."""
    tense = 'present' if verb.aspect == 'state' else 'past'
    subject = self._somebody(verb, known=True)
    while subject.noun is phrase.noun:
      subject = self._somebody(verb, known=True)
    clause = Clause(subject, verb, tense)
    return phrase._replace(relative=relative(phrase, clause, 'object'))

  def with_thing(self):
    """The woman is looking for the key that the man lost."""
    verb = self._pick(_DEEDS)
    subject = self._subject(verb)
    main = self._clause(verb, subject)
    others = [
      other
      for other in _RELATIVE_VERBS
      if main.object and other is not verb and main.tense != 'present'
      if verb.english[0] not in lexicon.MAKING
      if getattr(main.object, 'noun', None) in other.objects
    ]
    if not others:
      return self.with_thing()
    phrase = self._relative(main.object, self._pick(others))
    phrase = phrase._replace(determiner='the')
    bare = statement(main._replace(object=phrase._replace(relative=_NONE)))
    # German puts the relative clause after the end of the main clause.
    tail = phrase.relative
    return sentence(
      Pair(f'{bare.english} {tail.english}', f'{bare.german}, {tail.german}')
    )

  def with_person(self):
    """The woman who lives in the village needs a new coat."""
    verb = self._pick(_DEEDS)
    phrase = self._somebody(verb, known=True)._replace(determiner='the')
    if phrase.noun.kind not in ('child', 'adult'):
      return self.with_person()
    if self._chance(0.5):
      verb_inside = self._pick(_RELATIVE_PERSON_VERBS)
      phrase = self._relative(phrase, verb_inside)
    else:
      verb_inside = lexicon.VERBS[self._pick(('live', 'live', 'trust', 'buy'))]
      tense = 'past' if verb_inside.aspect == 'rare' else 'present'
      inner = self._clause(verb_inside, phrase, tense)
      words = relative(phrase, inner, 'subject')
      phrase = phrase._replace(relative=words)
    tense = 'past' if verb.aspect == 'point' else self._pick(_REAL)
    return sentence(statement(self._clause(verb, phrase, tense)))

  def described(self):
    """The horse is older than the dog. / The book that she read is long."""
    kind = self._pick(tuple(lexicon.COMPARISONS))
    one, other = (self._pick(lexicon.nouns([kind])) for _ in range(2))
    if one is other:
      return self.described()
    plural = self._chance(0.3)
    first = Phrase(self._pick(('the', 'this')), one, plural=plural)
    second = Phrase('the', other, plural=self._chance(0.2))
    degree = lexicon.COMPARATIVES[self._pick(lexicon.COMPARISONS[kind])]
    goal = comparison(degree, second)
    verbs = [verb for verb in _RELATIVE_VERBS if one in verb.objects]
    if verbs and self._chance(0.5):
      first = self._relative(first, self._pick(verbs))
      goal = predicate(self._pick(lexicon.COMPARISONS[kind]))
    tense = self._pick(('present', 'present', 'past'))
    clause = Clause(first, lexicon.VERBS['be'], tense, goal=goal)
    clause = clause._replace(negated=self._chance(0.3))
    return sentence(statement(clause))


def _can_negate(clause: Clause) -> bool:
  """Says whether 'not' would be clear and natural in this clause."""
  vague = ('every', 'a', 'two', 'three')
  phrases = [clause.subject, clause.recipient]
  obj = clause.object
  if isinstance(obj, Phrase):
    # 'not a' becomes kein, but not behind a preposition.
    vague_object = (
      'every',
      'two',
      'three',
      *'a' * bool(clause.verb.preposition),
    )
    if obj.determiner in vague_object:
      return False
  return clause.tense != 'must' and not any(
    isinstance(phrase, Phrase) and phrase.determiner in vague
    for phrase in phrases
  )


def _asks_what(verb: Verb) -> bool:
  kinds = {noun.kind for noun in verb.objects}
  return verb.case == 'accusative' and not (
    kinds & set(lexicon.PEOPLE) or verb.preposition or verb.recipient
  )


_NONE = Pair('', '')
_PERSONS = tuple(lexicon.PRONOUNS.values())
_PEOPLE = lexicon.nouns(['people'])
# What one may call one's own.
_ANIMALS = lexicon.nouns(['animal'])
_OWNED = ('portable', 'device', 'vehicle', 'clothing', 'room', 'text')
_CLAUSE_VERBS = tuple(
  verb
  for verb in lexicon.VERBS.values()
  if verb.english[0].split(' ')[-1] in lexicon.CONJUNCTIONS
)
_VERBS = tuple(
  verb
  for verb in lexicon.VERBS.values()
  if verb.subjects and verb not in _CLAUSE_VERBS
)
_REAL = ('progressive', 'past')
_DEEDS = tuple(verb for verb in _VERBS if verb.aspect not in ('state', 'sense'))
_REASONED = (*lexicon.OBJECT_REASONS, *lexicon.SUBJECT_REASONS)
_RELATIVE_VERBS = tuple(
  lexicon.VERBS[key]
  for key in ('buy', 'find', 'lose', 'write', 'paint', 'repair', 'build')
)
_RELATIVE_PERSON_VERBS = tuple(
  verb
  for verb in _VERBS
  if not verb.recipient
  and set(_PEOPLE) <= set(verb.objects)
  and verb.aspect != 'sense'
)
_KINDS = tuple(
  kind
  for kind, weight in (
    (_Writer.simple, 46),
    (_Writer.asking, 14),
    (_Writer.reported, 12),
    (_Writer.conditional, 5),
    (_Writer.moved, 6),
    (_Writer.reasoned, 4),
    (_Writer.contrasted, 4),
    (_Writer.with_thing, 4),
    (_Writer.with_person, 4),
    (_Writer.described, 1),
  )
  for _ in range(weight)
)


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
  """Returns `count` different (English, German) pairs of sentences.

  No English and no German sentence occurs twice, so that slices of the list
  are disjoint; and fewer pairs of one seed are the beginning of more.

  Args:
    count: how many, from 0 to 1,000,000.
    seed: the same pairs come from the same seed, everywhere.

  Returns:
    A list of pairs of sentences of 4 to 16 words, in order of drawing.

  Raises:
    ValueError: if `count` is out of range.
  """
  if not 0 <= count <= LARGEST_COUNT:
    raise ValueError(
      f'count is {count}; allowed is 0 to {LARGEST_COUNT:,}, beyond which the '
      'sentences repeat each other too much. Ask for fewer pairs.'
    )
  writer = _Writer(seed)
  found, english_seen, german_seen = [], set(), set()
  while len(found) < count:
    pair = writer.sentence()
    if not all(4 <= text.count(' ') + 1 <= 16 for text in pair):
      continue
    if pair[0] in english_seen or pair[1] in german_seen:
      continue
    english_seen.add(pair[0])
    german_seen.add(pair[1])
    found.append(pair)
  return found
