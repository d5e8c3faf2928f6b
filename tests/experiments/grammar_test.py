"""Laws that every pair of sentences of the tiny corpus obeys."""

import ast
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import grammar
from experiments.grammar.clauses import Clause, Phrase
from experiments.grammar.constructions import statement
from experiments.grammar.words import ATTRIBUTES, MODALS, NOUNS, VERBS

FOLDER = Path(grammar.__file__).parent
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


@pytest.mark.slow
def test_pairs_do_not_depend_on_the_order_of_hashes():
  code = 'from experiments import grammar; print(grammar.pairs(50, 7))'
  output = subprocess.run(
    [sys.executable, '-c', code],
    cwd=FOLDER.parents[1],
    env={**os.environ, 'PYTHONHASHSEED': '1'},
    capture_output=True,
    check=True,
    text=True,
  ).stdout
  assert output == f'{grammar.pairs(50, 7)}\n'


# The sentences are part of the tiny experiment's identity: changing them voids
# its records. Each digest is the SHA-256 of that many pairs as JSON.
DIGESTS = """
60000   0 c47aa6dea9f5f27cd1286ec091749e9aaa5d09a2000ec8e7a98328d49ee72356
20000   1 0b1166a81c6860e6703cf73bca64202525b1f14508f9b7f7ecec1d99ac947fb4
20000   7 4e877397a511cca5813c70a2ada83d620029c334cce0aeb30481ed02ae1b6aac
20000 123 a19aee32f7cb6e38eec677f7decbe6e4554ff9b54977dc07853f5c43d94acf22
"""


@pytest.mark.slow
@pytest.mark.parametrize('line', DIGESTS.strip().splitlines())
def test_the_sentences_never_change(line):
  count, seed, digest = line.split()
  text = json.dumps(grammar.pairs(int(count), int(seed)))
  assert hashlib.sha256(text.encode()).hexdigest() == digest


@pytest.mark.slow
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


def test_corpus_parts_are_disjoint_and_depend_on_the_seed_alone():
  a = grammar.corpus(seed=3, train=300, validation=40, test=30)
  parts = [a.train, a.validation, a.tests['test']]
  assert [len(p.source) for p in parts] == [300, 40, 30]
  assert [len(p.target) for p in parts] == [300, 40, 30]
  distinct = {pair for p in parts for pair in zip(*p, strict=True)}
  assert len(distinct) == 370
  assert a == grammar.corpus(seed=3, train=300, validation=40, test=30)
  assert a != grammar.corpus(seed=4, train=300, validation=40, test=30)
  more = grammar.corpus(seed=3, train=500, validation=40, test=30)
  assert (more.validation, more.tests) == (a.validation, a.tests)
  assert more.train.source[:300] == a.train.source


def test_corpus_reversed_swaps_the_sides():
  there = grammar.corpus(train=20, validation=5, test=5)
  back = grammar.corpus(train=20, validation=5, test=5, pair='de-en')
  assert back.train == (there.train.target, there.train.source)
  with pytest.raises(ValueError, match="'en-fr'.*'en-de' and 'de-en'"):
    grammar.corpus(pair='en-fr')


def test_files_import_only_from_those_listed_above_them():
  listed = re.findall(r'^  (\w+)  ', grammar.__doc__, re.MULTILINE)
  assert {*listed, '__init__'} == {path.stem for path in FOLDER.glob('*.py')}
  for place, name in enumerate(listed):
    tree = ast.parse((FOLDER / f'{name}.py').read_text('utf-8'))
    for node in ast.walk(tree):
      if isinstance(node, ast.ImportFrom) and 'grammar' in node.module:
        _, _, *above = node.module.split('.')
        above = above or [alias.name for alias in node.names]
        assert {*above} <= {*listed[:place]}, f'{name} imports {above}'
