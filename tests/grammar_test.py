"""Laws that every pair of sentences of the tiny corpus obeys."""

import itertools
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_adam.nmt import grammar
from stale_adam.nmt.grammar.clauses import Clause, Phrase
from stale_adam.nmt.grammar.constructions import statement
from stale_adam.nmt.grammar.nouns import NOUNS
from stale_adam.nmt.grammar.sense import ATTRIBUTES
from stale_adam.nmt.grammar.verbs import VERBS
from stale_adam.nmt.grammar.words import MODALS

AUXILIARY = {'habe', 'hat', 'haben', 'bin', 'ist', 'sind', 'war', 'waren'}
AUXILIARY |= {form for forms in MODALS.values() for form in forms.values()}
# Finite verbs as they stand second, and joined to their prefix, last.
SECOND = AUXILIARY | {
  form for v in VERBS.values() for form in v.finite.values()
}
LAST = AUXILIARY | {
  v.prefix + form for v in VERBS.values() for form in v.finite.values()
}
FRONTED = r'(Gestern|Jetzt|Bald|Sonntags|Montags|Morgen|Im Moment|Am Montag) '
CAPITALS = {
  word
  for entry in NOUNS.values()
  for word in (entry.german, entry.german_plural, entry.german_plural + 'n')
}
CAPITALS |= {'Sie', 'Moment', 'Montag', 'Woche', 'Morgen', 'Tag', 'Tagen'}
CAPITALS |= {'Ihnen'} | {'Ihr' + end for end in ('', 'e', 'en', 'em', 'er')}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_laws_of_writing(seed):
  for english, german in grammar.pairs(40, seed):
    for text in (english, german):
      assert text[0].isupper() and text[-1] in '.?' and text[-2].isalpha()
      assert re.fullmatch(r'[A-Za-zÄÖÜäöüß]+(,? [A-Za-zÄÖÜäöüß]+)*[.?]', text)
      assert 4 <= len(text.split()) <= 16
    assert english[-1] == german[-1]
    words = re.findall(r'\w+', german)
    assert all(word in CAPITALS for word in words[1:] if word[0].isupper())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_finite_verbs_are_last_after_conjunctions_and_else_second(seed):
  for _, german in grammar.pairs(40, seed):
    for part in re.split(r', |[.?]', german):
      words = part.split()
      if words and words[0].lower() in ('weil', 'obwohl', 'wenn', 'dass', 'ob'):
        assert words[-1] in LAST
    if fronted := re.match(FRONTED, german):
      assert german[fronted.end() :].split()[0] in SECOND
    if german.split()[0] in ('Weil', 'Obwohl', 'Wenn'):
      assert german.split(', ')[1].split()[0] in SECOND


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_english_articles(seed):
  for english, _ in grammar.pairs(40, seed):
    assert not re.search(r'\b[Aa] [aeiou]', english)
    assert not re.search(r'\b[Aa]n [^aeiou]', english)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 60))
def test_pairs_are_distinct_and_fewer_are_the_beginning(seed, one, other):
  few, many = sorted((one, other))
  found = grammar.pairs(many, seed)
  assert len(found) == many
  assert grammar.pairs(few, seed) == found[:few]
  assert all(len(set(side)) == many for side in zip(*found, strict=True))


def test_pairs_do_not_depend_on_the_order_of_hashes():
  code = 'from stale_adam.nmt import grammar; print(grammar.pairs(50, 7))'
  output = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'PYTHONHASHSEED': '1'},
    capture_output=True,
    check=True,
    text=True,
  ).stdout
  assert output == f'{grammar.pairs(50, 7)}\n'


def test_one_verb_alone_gives_a_hundred_thousand_pairs():
  def phrases(nouns):
    for entry in nouns:
      for adjective in ('', *ATTRIBUTES[entry.kind]):
        yield Phrase('the', entry, adjective)

  verb = VERBS['buy']
  chosen = itertools.product(phrases(verb.subjects), phrases(verb.objects))
  found = {
    statement(Clause(subject, verb, tense, thing))
    for subject, thing in chosen
    for tense in ('progressive', 'past', 'must')
  }
  assert len({pair.english for pair in found}) > 100_000
  assert len({pair.german for pair in found}) > 100_000


@pytest.mark.parametrize('count', [-1, grammar.LARGEST_COUNT + 1])
def test_count_out_of_range(count):
  with pytest.raises(ValueError, match=f'count is {count}; allowed is 0 to'):
    grammar.pairs(count)
