"""English-German sentence pairs from a grammar of our own: the `tiny` corpus.

Each construction is rendered twice from one description: `english.say` and
`german.say` put the same `Clause` into words. English is natural, German
correct; given the English its translation is nearly always determined, but it
needs what makes German hard: gender, case, adjective endings, the verb second,
last or split in two. `pairs` draws from well over a hundred million pairs.

The files, each of which imports only from those above it:

  tables        how the tables of words are written
  nouns, adjectives, words (all small classes), verbs: the lexicon
  endings       German declension
  clauses       what a sentence says: Phrase and Clause
  english, german: a phrase or clause in words
  constructions questions, subordinate and relative clauses, in both languages
  sense         what goes with what
  draw          draws phrases and clauses that make sense
  sentences     draws each kind of sentence
  mixture       draws all kinds: `pairs`
"""

from stale_adam.nmt.grammar.mixture import LARGEST_COUNT as LARGEST_COUNT
from stale_adam.nmt.grammar.mixture import pairs as pairs
