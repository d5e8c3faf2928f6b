"""Pronouns, prepositions, adverbs and the other small classes of words."""

from typing import NamedTuple

from stale_adam.nmt.grammar.tables import (
  Pair,
  by_case,
  by_person,
  dictionary,
  rows,
)


class Pronoun(NamedTuple):
  """A pronoun: personal, 'who', or relative; its German by case."""

  english: str
  english_object: str
  possessive: str
  german: dict[str, str]
  person: str


def _pronouns(text: str) -> dict[str, Pronoun]:
  return {
    key: Pronoun(*english, by_case(german), person)
    for (key,), english, german, (person,) in rows(text)
  }


PRONOUNS = _pronouns("""
  I | I me my | ich mich mir | first; he | he him his | er ihn ihm | third;
  she | she her her | sie sie ihr | third;
  we | we us our | wir uns uns | plural;
  you | you you your | Sie Sie Ihnen | plural;
  they | they them their | sie sie ihnen | plural
""")
WHO = _pronouns('who | who - - | wer wen wem | third')['who']
# 'it' and 'they' take the gender of the thing that they stand for.
THINGS = _pronouns("""
  der | it it its | er ihn ihm | third; die | it it its | sie sie ihr | third;
  das | it it its | es es ihm | third;
  plural | they them their | sie sie ihnen | plural
""")

# A preposition and the case that it governs.
PREPOSITIONS = {
  english: (german, case)
  for ((english, german, case),) in rows("""
    in in dative; behind hinter dative; in_front_of vor dative;
    next_to neben dative; at an dative; out_of aus dative; to zu dative;
    into in accusative; with mit dative; without ohne accusative;
    for für accusative
  """)
}
# A preposition and the article become one word.
CONTRACTIONS = dictionary("""
  in_dem im; in_das ins; an_dem am; von_dem vom; zu_dem zum; zu_der zur
""")
CONJUNCTIONS = dictionary("""
  because weil; although obwohl; when wenn; that dass; whether ob
""")
WH_WORDS = dictionary('why warum; when wann; where wo; what was')

TIMES = {  # by tense
  tense: tuple(Pair(*words) for (words,) in rows(text))
  for tense, text in {
    'progressive': 'now jetzt; today heute; at_the_moment im_Moment',
    'present': """
      every_day jeden_Tag; on_Sundays sonntags; on_Mondays montags;
      often oft; always immer; sometimes manchmal; rarely selten
    """,
    'past': """
      yesterday gestern; last_week letzte_Woche; on_Monday am_Montag;
      this_morning heute_Morgen; two_days_ago vor_zwei_Tagen
    """,
    'will': 'tomorrow morgen; next_week nächste_Woche; soon bald',
    'modal': 'today heute; tomorrow morgen; now jetzt',
  }.items()
}
# In English these stand before the verb and not at an end of the sentence.
FREQUENCIES = ('often', 'always', 'sometimes', 'rarely')
MANNERS = dictionary("""
  well gut; late spät; loudly laut; quietly leise; quickly schnell;
  slowly langsam
""")

MODALS = {
  english: by_person(german)
  for (english,), german in rows("""
    can | kann kann können; must | muss muss müssen;
    should | sollte sollte sollten; want_to | will will wollen;
    would_like_to | möchte möchte möchten; be_allowed_to | darf darf dürfen;
    will | werde wird werden
  """)
}
AUXILIARIES = {
  'haben': by_person(('habe', 'hat', 'haben')),
  'sein': by_person(('bin', 'ist', 'sind')),
}
