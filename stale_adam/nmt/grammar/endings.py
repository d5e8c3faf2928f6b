"""German declension: the endings of determiners, adjectives and nouns."""

from stale_adam.nmt.grammar.adjectives import ADJECTIVES
from stale_adam.nmt.grammar.nouns import Noun
from stale_adam.nmt.grammar.tables import by_case_and_gender, dictionary

# Stems of articles and the like, by the class that decides on all endings.
_DETERMINERS = {
  'definite': 'the d',
  'demonstrative': 'this dies; every jed',
  'indefinite': """
    a ein; no kein; my mein; his sein; her ihr; our unser; your Ihr; their ihr
  """,
  'uninflected': '- -; two zwei; three drei',
}
DETERMINERS = {
  english: (stem, kind)
  for kind, text in _DETERMINERS.items()
  for english, stem in dictionary(text).items()
}

# Rows: nominative, accusative, dative; columns: der, die, das, plural.
DETERMINER_ENDINGS = {
  'definite': by_case_and_gender("""
    er ie as ie;
    en ie as ie;
    em er em en
  """),
  'demonstrative': by_case_and_gender("""
    er e es e;
    en e es e;
    em er em en
  """),
  'indefinite': by_case_and_gender("""
    -  e  -  e;
    en e  -  e;
    em er em en
  """),
}
_WEAK = by_case_and_gender("""
  e  e  e  en;
  en e  e  en;
  en en en en
""")
_MIXED = by_case_and_gender("""
  er e  es en;
  en e  es en;
  en en en en
""")
_STRONG = by_case_and_gender("""
  er e  es e;
  en e  es e;
  em er em en
""")
ADJECTIVE_ENDINGS = {
  'definite': _WEAK,
  'demonstrative': _WEAK,
  'indefinite': _MIXED,
  'uninflected': _STRONG,
}
RELATIVE_PRONOUNS = by_case_and_gender("""
  der die das die;
  den die das die;
  dem der dem denen
""")


def determiner(english: str, case: str, gender: str) -> str:
  """Returns 'keinen' for 'no'; '' for ''."""
  stem, kind = DETERMINERS[english]
  if kind == 'uninflected':
    return stem
  return stem + DETERMINER_ENDINGS[kind][case][gender]


def adjective(english: str, before: str, case: str, gender: str) -> str:
  """Returns 'alten' for 'old' after the English determiner `before`."""
  _, kind = DETERMINERS[before]
  return ADJECTIVES[english].stem + ADJECTIVE_ENDINGS[kind][case][gender]


def noun(word: Noun, case: str, plural: bool) -> str:
  """Returns 'Kindern' for 'child', 'Jungen' for 'boy'."""
  if plural:
    ends = case == 'dative' and word.german_plural[-1] not in 'ns'
    return word.german_plural + 'n' if ends else word.german_plural
  # All weak nouns here have their plural form outside the nominative.
  weak = word.weak and case != 'nominative'
  return word.german_plural if weak else word.german
