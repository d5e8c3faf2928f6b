"""German declension against tables as they are taught."""

import pytest

from experiments.grammar import german
from experiments.grammar.clauses import Phrase
from experiments.grammar.constructions import adverbial
from experiments.grammar.words import CASES, NOUNS, PRONOUNS

# Rows: nominative, accusative, dative; columns: man, woman, child, children.
DECLENSIONS = {
  'the': """
    der alte Mann | die alte Frau | das alte Kind | die alten Kinder
    den alten Mann | die alte Frau | das alte Kind | die alten Kinder
    dem alten Mann | der alten Frau | dem alten Kind | den alten Kindern
  """,
  'this': """
    dieser alte Mann | diese alte Frau | dieses alte Kind | diese alten Kinder
    diesen alten Mann | diese alte Frau | dieses alte Kind | diese alten Kinder
    diesem alten Mann | dieser alten Frau | diesem alten Kind
      | diesen alten Kindern
  """,
  'no': """
    kein alter Mann | keine alte Frau | kein altes Kind | keine alten Kinder
    keinen alten Mann | keine alte Frau | kein altes Kind | keine alten Kinder
    keinem alten Mann | keiner alten Frau | keinem alten Kind
      | keinen alten Kindern
  """,
  'our': """
    unser alter Mann | unsere alte Frau | unser altes Kind | unsere alten Kinder
    unseren alten Mann | unsere alte Frau | unser altes Kind
      | unsere alten Kinder
    unserem alten Mann | unserer alten Frau | unserem alten Kind
      | unseren alten Kindern
  """,
  '': """
    alter Mann | alte Frau | altes Kind | alte Kinder
    alten Mann | alte Frau | altes Kind | alte Kinder
    altem Mann | alter Frau | altem Kind | alten Kindern
  """,
}


def noun(determiner, english, adjective='', plural=False):
  return Phrase(determiner, NOUNS[english], adjective, plural)


@pytest.mark.parametrize('determiner', DECLENSIONS)
def test_declension(determiner):
  text = DECLENSIONS[determiner].replace('\n      |', ' |').strip()
  heads = [('man', False), ('woman', False), ('child', False), ('child', True)]
  for row, case in zip(text.splitlines(), CASES, strict=True):
    for cell, (head, plural) in zip(row.split('|'), heads, strict=True):
      phrase = noun(determiner, head, 'old', plural)
      assert german.decline(phrase, case) == cell.strip()


@pytest.mark.parametrize(
  'phrase, nominative, accusative, dative',
  [
    (noun('a', 'boy'), 'ein Junge', 'einen Jungen', 'einem Jungen'),
    (noun('the', 'bear'), 'der Bär', 'den Bären', 'dem Bären'),
    (noun('every', 'cat'), 'jede Katze', 'jede Katze', 'jeder Katze'),
    (noun('two', 'car', 'red', True), *['zwei rote Autos'] * 2)
    + ('zwei roten Autos',),
    (noun('the', 'apple', '', True), 'die Äpfel', 'die Äpfel', 'den Äpfeln'),
    (noun('the', 'lady', '', True), 'die Damen', 'die Damen', 'den Damen'),
    (noun('', 'water', 'cold'), *['kaltes Wasser'] * 2, 'kaltem Wasser'),
    (noun('', 'juice', 'cold'), 'kalter Saft', 'kalten Saft', 'kaltem Saft'),
    (noun('a', 'coat', 'expensive'), 'ein teurer Mantel')
    + ('einen teuren Mantel', 'einem teuren Mantel'),
    (noun('the', 'kitchen', 'dark'), *['die dunkle Küche'] * 2)
    + ('der dunklen Küche',),
    (noun('my', 'sister', 'tired'), *['meine müde Schwester'] * 2)
    + ('meiner müden Schwester',),
    (PRONOUNS['I'], 'ich', 'mich', 'mir'),
    (PRONOUNS['she'], 'sie', 'sie', 'ihr'),
    (PRONOUNS['you'], 'Sie', 'Sie', 'Ihnen'),
  ],
)
def test_declension_of_particular_words(phrase, nominative, accusative, dative):
  forms = [german.decline(phrase, case) for case in CASES]
  assert forms == [nominative, accusative, dative]


@pytest.mark.parametrize(
  'preposition, phrase, english, translation',
  [
    ('in', noun('the', 'garden'), 'in the garden', 'im Garten'),
    ('into', noun('the', 'garden'), 'into the garden', 'in den Garten'),
    ('in', noun('the', 'kitchen'), 'in the kitchen', 'in der Küche'),
    ('into', noun('the', 'house'), 'into the house', 'ins Haus'),
    ('in', noun('a', 'office'), 'in an office', 'in einem Büro'),
    ('to', noun('the', 'school'), 'to the school', 'zur Schule'),
    ('to', noun('the', 'station'), 'to the station', 'zum Bahnhof'),
    ('at', noun('the', 'hotel', 'old'), 'at the old hotel', 'am alten Hotel'),
    ('behind', noun('the', 'house'), 'behind the house', 'hinter dem Haus'),
    ('without', noun('his', 'son'), 'without his son', 'ohne seinen Sohn'),
    ('with', noun('the', 'child', '', True), 'with the children')
    + ('mit den Kindern',),
    ('for', PRONOUNS['they'], 'for them', 'für sie'),
  ],
)
def test_prepositions_govern_case(preposition, phrase, english, translation):
  assert adverbial(preposition, phrase) == (english, translation)
