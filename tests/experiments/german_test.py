"""The grammar against sentences written by hand, in English and German."""

import pytest

from experiments.grammar.clauses import Clause, Phrase, stand_in
from experiments.grammar.constructions import (
  adverbial,
  after,
  before,
  comparison,
  predicate,
  question,
  relative,
  reporting,
  sentence,
  statement,
)
from experiments.grammar.words import NOUNS, PRONOUNS, THINGS, VERBS, WHO, Pair

BE = VERBS['be']
TODAY, YESTERDAY = Pair('today', 'heute'), Pair('yesterday', 'gestern')


def noun(determiner, english, adjective='', plural=False):
  return Phrase(determiner, NOUNS[english], adjective, plural)


def clause(subject, verb, tense='present', **parts):
  return Clause(subject, VERBS[verb], tense, **parts)


BUY = clause(
  noun('the', 'woman', 'old'),
  'buy',
  'progressive',
  object=noun('a', 'apple'),
  time=TODAY,
)
GET_UP = clause(noun('the', 'boy'), 'get up', 'past', time=YESTERDAY)
GIVE = clause(
  noun('the', 'teacher'),
  'give',
  'past',
  recipient=noun('the', 'child'),
  object=noun('a', 'book', 'new'),
)
TIRED = Clause(PRONOUNS['she'], BE, goal=predicate('tired'))
IN_GARDEN = adverbial('in', noun('the', 'garden'))
READ = clause(
  PRONOUNS['he'], 'read', 'can', object=noun('the', 'letter'), place=IN_GARDEN
)
PLAY = clause(
  noun('the', 'child', '', True), 'play', 'progressive', place=IN_GARDEN
)
RAIN = clause(THINGS['das'], 'rain')
KEY, WORKER = noun('the', 'key'), noun('the', 'man')
LOSE = clause(WORKER, 'lose', 'past', time=YESTERDAY)
STATEMENTS = [
  # Verb second, with and without inversion.
  (BUY, '', 'The old woman is buying an apple today.')
  + ('Die alte Frau kauft heute einen Apfel.',),
  (BUY, 'time', 'Today the old woman is buying an apple.')
  + ('Heute kauft die alte Frau einen Apfel.',),
  (PLAY, 'place', 'In the garden the children are playing.')
  + ('Im Garten spielen die Kinder.',),
  # Negation: kein for the indefinite, nicht after the definite object.
  (BUY._replace(negated=True), '')
  + ('The old woman is not buying an apple today.',)
  + ('Die alte Frau kauft heute keinen Apfel.',),
  (BUY._replace(negated=True, object=noun('the', 'hat')), '')
  + ('The old woman is not buying the hat today.',)
  + ('Die alte Frau kauft den Hut heute nicht.',),
  (TIRED._replace(negated=True), '', 'She is not tired.')
  + ('Sie ist nicht müde.',),
  # Perfect with haben and with sein; simple past only of sein.
  (BUY._replace(tense='past', time=YESTERDAY), 'time')
  + ('Yesterday the old woman bought an apple.',)
  + ('Gestern hat die alte Frau einen Apfel gekauft.',),
  (GET_UP, '', 'The boy got up yesterday.')
  + ('Der Junge ist gestern aufgestanden.',),
  (TIRED._replace(tense='past'), '', 'She was tired.', 'Sie war müde.'),
  # Separable verbs: split, joined in the infinitive.
  (clause(PRONOUNS['I'], 'open', 'progressive', object=noun('the', 'door')), '')
  + ('I am opening the door.', 'Ich mache die Tür auf.'),
  (clause(PRONOUNS['I'], 'open', 'must', object=noun('the', 'window')), '')
  + ('I must open the window.', 'Ich muss das Fenster aufmachen.'),
  (clause(PRONOUNS['we'], 'pick up', 'past', object=PRONOUNS['he']), '')
  + ('We picked him up.', 'Wir haben ihn abgeholt.'),
  (clause(PRONOUNS['I'], 'feed', 'progressive', object=noun('our', 'cat')), '')
  + ('I am feeding our cat.', 'Ich füttere unsere Katze.'),
  # Modals, and time before manner before place.
  (READ, '', 'He can read the letter in the garden.')
  + ('Er kann den Brief im Garten lesen.',),
  (READ._replace(tense='want to'), '')
  + ('He wants to read the letter in the garden.',)
  + ('Er will den Brief im Garten lesen.',),
  (READ._replace(tense='be allowed to', subject=PRONOUNS['I']), '')
  + ('I am allowed to read the letter in the garden.',)
  + ('Ich darf den Brief im Garten lesen.',),
  (READ._replace(tense='will', subject=PRONOUNS['I'], time=TODAY), 'time')
  + ('Today I will read the letter in the garden.',)
  + ('Heute werde ich den Brief im Garten lesen.',),
  (
    clause(
      noun('my', 'father'),
      'go',
      'past',
      manner=adverbial('without', noun('his', 'brother')),
      goal=adverbial('to', noun('the', 'station')),
      time=YESTERDAY,
    ),
    '',
    'My father went to the station without his brother yesterday.',
    'Mein Vater ist gestern ohne seinen Bruder zum Bahnhof gegangen.',
  ),
  # Dative objects, pronouns first, prepositional objects.
  (GIVE, '', 'The teacher gave the child a new book.')
  + ('Der Lehrer hat dem Kind ein neues Buch gegeben.',),
  (GIVE._replace(recipient=PRONOUNS['she'], time=YESTERDAY), '')
  + ('The teacher gave her a new book yesterday.',)
  + ('Der Lehrer hat ihr gestern ein neues Buch gegeben.',),
  (clause(noun('this', 'man'), 'help', object=noun('his', 'son')), '')
  + ('This man helps his son.', 'Dieser Mann hilft seinem Sohn.'),
  (clause(noun('a', 'uncle'), 'wait for', object=noun('the', 'student')), '')
  + ('An uncle waits for the student.', 'Ein Onkel wartet auf den Studenten.'),
  (clause(PRONOUNS['we'], 'dream of', object=noun('the', 'house')), '')
  + ('We dream of the house.', 'Wir träumen vom Haus.'),
]


@pytest.mark.parametrize('words, front, english, german', STATEMENTS)
def test_statement(words, front, english, german):
  pair = sentence(statement(words, front))
  assert pair == (english, german)


RELATED = KEY._replace(relative=relative(KEY, LOSE, 'object'))
HELPED = WORKER._replace(
  relative=relative(
    WORKER, clause(noun('the', 'nurse'), 'help', 'past'), 'object'
  )
)
NEIGHBORS = noun('the', 'neighbor', '', True)
LIVING = NEIGHBORS._replace(
  relative=relative(
    NEIGHBORS,
    clause(
      NEIGHBORS, 'live', goal=adverbial('in', noun('the', 'village', 'small'))
    ),
    'subject',
  )
)
AWAITED = WORKER._replace(
  relative=relative(WORKER, clause(PRONOUNS['I'], 'wait for'), 'object')
)
COAT = noun('the', 'coat')
LONG = [
  (after(BUY, 'because', TIRED), '.')
  + ('The old woman is buying an apple today because she is tired.',)
  + ('Die alte Frau kauft heute einen Apfel, weil sie müde ist.',),
  (before('when', RAIN, PLAY._replace(tense='present')), '.')
  + ('When it rains, the children play in the garden.',)
  + ('Wenn es regnet, spielen die Kinder im Garten.',),
  (before('although', RAIN._replace(tense='past'), READ), '.')
  + ('Although it rained, he can read the letter in the garden.',)
  + ('Obwohl es geregnet hat, kann er den Brief im Garten lesen.',),
  (reporting(clause(PRONOUNS['I'], 'know that'), GET_UP), '.')
  + ('I know that the boy got up yesterday.',)
  + ('Ich weiß, dass der Junge gestern aufgestanden ist.',),
  (
    reporting(
      clause(PRONOUNS['you'], 'know whether'),
      GET_UP._replace(tense='want to', time=None),
      is_question=True,
    ),
    '?',
    'Do you know whether the boy wants to get up?',
    'Wissen Sie, ob der Junge aufstehen will?',
  ),
  (
    reporting(
      clause(noun('the', 'lady'), 'believe that'),
      clause(PRONOUNS['we'], 'close', 'progressive', object=noun('a', 'door')),
    ),
    '.',
    'The lady believes that we are closing a door.',
    'Die Dame glaubt, dass wir eine Tür zumachen.',
  ),
  (
    after(
      clause(PRONOUNS['she'], 'wash', 'progressive', object=COAT),
      'because',
      Clause(stand_in(COAT), BE, goal=predicate('dirty')),
    ),
    '.',
    'She is washing the coat because it is dirty.',
    'Sie wäscht den Mantel, weil er schmutzig ist.',
  ),
  (statement(Clause(RELATED, BE, goal=predicate('new'))), '.')
  + ('The key that the man lost yesterday is new.',)
  + ('Der Schlüssel, den der Mann gestern verloren hat, ist neu.',),
  (statement(clause(HELPED, 'sleep', 'progressive')), '.')
  + ('The man whom the nurse helped is sleeping.',)
  + ('Der Mann, dem die Krankenschwester geholfen hat, schläft.',),
  (statement(clause(LIVING, 'sing', 'past')), '.')
  + ('The neighbors who live in the small village sang.',)
  + ('Die Nachbarn, die im kleinen Dorf wohnen, haben gesungen.',),
  (statement(clause(PRONOUNS['he'], 'see', object=AWAITED)), '.')
  + ('He sees the man whom I wait for.',)
  + ('Er sieht den Mann, auf den ich warte.',),
  (question(BUY), '?', 'Is the old woman buying an apple today?')
  + ('Kauft die alte Frau heute einen Apfel?',),
  (question(GET_UP._replace(time=None), 'when'), '?')
  + ('When did the boy get up?', 'Wann ist der Junge aufgestanden?'),
  (question(BUY._replace(object=None), 'what'), '?')
  + ('What is the old woman buying today?', 'Was kauft die alte Frau heute?'),
  (question(GIVE._replace(subject=WHO)), '?')
  + ('Who gave the child a new book?',)
  + ('Wer hat dem Kind ein neues Buch gegeben?',),
  (
    statement(
      Clause(
        noun('the', 'horse'),
        BE,
        goal=comparison('old', noun('the', 'dog')),
      )
    ),
    '.',
    'The horse is older than the dog.',
    'Das Pferd ist älter als der Hund.',
  ),
]


@pytest.mark.parametrize('pair, mark, english, german', LONG)
def test_sentence_of_several_clauses(pair, mark, english, german):
  assert sentence(pair, mark) == (english, german)
