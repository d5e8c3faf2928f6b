"""Vocabularies: round trips, reserved ids, the cache, and sizes too far off."""

import concurrent.futures
import os
import pickle

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stale_adam.nmt.data import vocabulary
from stale_adam.nmt.data.corpus import Pairs
from stale_adam.nmt.data.vocabulary import BOS, EOS, PAD, UNK

WORDS = 'der die Käse läuft groß the dog cheese “quick” été 42 ½ a-b'.split()
ALPHABET = sorted(set(''.join(WORDS)))


def text(count=400, seed=0):
  draw = np.random.default_rng(seed)
  lines = [' '.join(draw.choice(WORDS, draw.integers(1, 9)))] * 3
  for _ in range(count):
    letters = [''.join(draw.choice(ALPHABET, 5)) for _ in range(2)]
    lines.append(' '.join([*draw.choice(WORDS, 4), *letters]))
  return Pairs(lines[::2], lines[1::2])


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  return vocabulary.train(text(), 120, tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def large(tmp_path_factory):
  cache = tmp_path_factory.mktemp('cache')
  return vocabulary.train(text(6000), 4096, cache)


def test_reserved_ids_are_never_the_ids_of_text(small, large):
  assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
  for trained, size in ((small, 120), (large, 4096)):
    assert trained.size == size
    ids = [i for row in trained.encode(text().source) for i in row]
    assert min(ids) > UNK and max(ids) < size


def test_training_text_comes_back(small, large):
  for trained in (small, large):
    for side in text():
      assert trained.decode(trained.encode(side)) == side


@settings(deadline=None)
@given(st.text(alphabet=[*ALPHABET, ' '], max_size=30))
def test_any_text_in_known_characters_comes_back_but_for_spaces(small, line):
  wanted = ' '.join(line.split())
  assert small.decode(small.encode([line])) == [wanted]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=['Cs']), max_size=30))
@example('漢字 🙂 \u00a0x\t\u2028 </s> <pad>')
def test_bytes_spell_any_text(large, line):
  known = line.replace('\u2581', ' ')
  wanted = ' '.join(word for word in known.split(' ') if word)
  assert large.decode(large.encode([known])) == [wanted]


def test_a_small_vocabulary_marks_characters_it_never_saw(small):
  (ids,) = small.encode(['the Ж dog'])
  assert ids.count(UNK) == 1
  assert small.decode([ids]) == ['the \u2047 dog']


def test_decode_stops_at_eos_and_drops_padding(small):
  (ids,) = small.encode(['the dog'])
  rows = [
    [BOS, *ids, EOS, *ids],
    [PAD, *ids, PAD, PAD],
    ids,
    [EOS, *ids],
    [PAD],
    [],
  ]
  expected = ['the dog'] * 3 + [''] * 3
  assert small.decode(rows) == expected
  assert small.decode([np.array(row, np.int32) for row in rows]) == expected
  assert small.decode(np.array([ids + [EOS, PAD]] * 2)) == ['the dog'] * 2
  assert small.decode([]) == [] and small.encode([]) == []


@pytest.mark.parametrize('bad', [-1, 120])
def test_decode_names_an_id_outside(small, bad):
  with pytest.raises(ValueError, match=rf'id {bad}: use one in 0\.\.119'):
    small.decode([[5, bad]])


def test_save_load_and_pickle_keep_the_vocabulary(small, tmp_path):
  small.save(tmp_path / 'vocabulary.model')
  assert os.listdir(tmp_path) == ['vocabulary.model']
  for copy in (
    vocabulary.Vocabulary.load(tmp_path / 'vocabulary.model'),
    pickle.loads(pickle.dumps(small)),
  ):
    assert copy == small and hash(copy) == hash(small)
    assert copy.encode(text().source) == small.encode(text().source)
  # The file is an ordinary model, readable without us.
  plain = sentencepiece.SentencePieceProcessor(
    model_file=str(tmp_path / 'vocabulary.model')
  )
  assert plain.encode('the dog') == small.encode(['the dog'])[0]


@pytest.mark.parametrize('damage', [b'', b'no model', None])
def test_load_names_a_damaged_file(small, tmp_path, damage):
  path = tmp_path / 'vocabulary.model'
  path.write_bytes(small.model[:-3] if damage is None else damage)
  with pytest.raises(ValueError, match=r'vocabulary\.model.*not a Sentence'):
    vocabulary.Vocabulary.load(path)


def test_a_model_with_other_reserved_ids_is_refused(tmp_path):
  prefix = tmp_path / 'other'
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(text().source),
    model_prefix=str(prefix),
    vocab_size=120,
    minloglevel=2,
  )
  with pytest.raises(ValueError, match="'pad_id': -1.*, not .*'pad_id': 0"):
    vocabulary.Vocabulary.load(f'{prefix}.model')


def test_sizes_out_of_reach_name_the_limit_that_then_works(tmp_path):
  pairs = Pairs(['the dog runs', 'a dog'], ['der Hund läuft', 'ein Hund'])
  characters = len(set(''.join(pairs.source + pairs.target)))
  least = 4 + characters  # Spaces count once, as U+2581.
  with pytest.raises(ValueError, match=f'size=10: .* need {least}; use at'):
    vocabulary.train(pairs, 10, tmp_path)
  assert vocabulary.train(pairs, least, tmp_path).size == least
  with pytest.raises(ValueError, match='size=900: .* only ') as raised:
    vocabulary.train(pairs, 900, tmp_path)
  most = int(str(raised.value).split('only ')[1].split()[0])
  assert vocabulary.train(pairs, most, tmp_path).size == most
  with pytest.raises(ValueError, match=f'size={most + 1}: .* only {most}'):
    vocabulary.train(pairs, most + 1, tmp_path)


@pytest.mark.parametrize('size', [-1, 0, 3])
def test_a_size_without_room_for_the_reserved_ids_is_refused(tmp_path, size):
  with pytest.raises(ValueError, match=f'size={size}: .*at least 4 ids'):
    vocabulary.train(text(), size, tmp_path)
  with pytest.raises(ValueError, match='from 0 sentences'):
    vocabulary.train(Pairs([], []), 100, tmp_path)


@pytest.fixture
def trainings(monkeypatch):
  """Counts how often SentencePiece really trains."""
  calls = []
  real = sentencepiece.SentencePieceTrainer.train

  def counted(**settings):
    calls.append(settings['vocab_size'])
    return real(**settings)

  monkeypatch.setattr(sentencepiece.SentencePieceTrainer, 'train', counted)
  return calls


def test_equal_text_and_size_train_once_and_anything_else_again(
  tmp_path, trainings, capfd
):
  first = vocabulary.train(text(), 120, tmp_path)
  assert vocabulary.train(text(), 120, tmp_path) == first
  assert trainings == [120]
  vocabulary.train(text(), 121, tmp_path)
  vocabulary.train(text(seed=1), 120, tmp_path)
  moved = Pairs(['ab', 'c'] * 9, ['d'] * 18), Pairs(['a', 'bc'] * 9, ['d'] * 18)
  assert [vocabulary.train(m, 9, tmp_path).size for m in moved] == [9, 9]
  assert trainings == [120, 121, 120, 9, 9]
  assert len(os.listdir(tmp_path)) == 5
  assert capfd.readouterr() == ('', '')


def test_training_again_elsewhere_gives_the_same_bytes(tmp_path):
  first = vocabulary.train(text(), 120, tmp_path / 'a')
  assert vocabulary.train(text(), 120, tmp_path / 'b') == first


def test_a_damaged_cache_is_trained_again(tmp_path, trainings):
  first = vocabulary.train(text(), 120, tmp_path)
  (path,) = tmp_path.iterdir()
  whole = path.read_bytes()
  flipped = bytearray(whole)
  flipped[-20] ^= 1
  for damaged in (b'', whole[:10], whole[:-1], bytes(flipped)):
    path.write_bytes(damaged)
    assert vocabulary.train(text(), 120, tmp_path) == first
    assert path.read_bytes() == whole
  assert trainings == [120] * 5


def test_a_kill_before_the_rename_leaves_no_cache_file(tmp_path, monkeypatch):
  class Killed(BaseException):
    pass

  def kill(*_):
    raise Killed

  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(os, 'replace', kill)
    vocabulary.train(text(), 120, tmp_path)
  assert not list(tmp_path.glob('*.vocabulary'))
  assert vocabulary.train(text(), 120, tmp_path).size == 120


def test_writers_at_once_agree(tmp_path):
  with concurrent.futures.ThreadPoolExecutor(4) as threads:
    found = threads.map(
      lambda _: vocabulary.train(text(), 120, tmp_path), range(8)
    )
    assert len(set(found)) == 1
  assert len(os.listdir(tmp_path)) == 1


def test_a_cache_that_cannot_be_written_only_warns(tmp_path):
  (tmp_path / 'file').write_text('in the way')
  with pytest.warns(UserWarning, match='not cached.*choose another cache_dir'):
    trained = vocabulary.train(text(), 120, tmp_path / 'file' / 'cache')
  assert trained.size == 120


def test_the_default_cache_is_under_the_users_cache_folder(
  tmp_path, monkeypatch
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  vocabulary.train(text(), 120)
  assert len(os.listdir(tmp_path / 'xdg' / 'stale_adam')) == 1
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  vocabulary.train(text(), 120)
  assert len(os.listdir(tmp_path / 'home/.cache/stale_adam')) == 1


def test_a_large_text_is_sampled_evenly_in_pairs(tmp_path, monkeypatch):
  seen = []

  def stop(sentence_iterator, **_):
    seen.extend(sentence_iterator)
    raise RuntimeError('seen enough')

  monkeypatch.setattr(sentencepiece.SentencePieceTrainer, 'train', stop)
  count = 2_000_001
  pairs = Pairs(['a'] * (count - 1) + ['z'], ['b'] * (count - 1) + ['y'])
  with pytest.raises(ValueError, match='seen enough'):
    vocabulary.train(pairs, 100, tmp_path)
  assert len(seen) == 2 * 666_667
  assert seen.count('a') == seen.count('b')
