"""How often each kind of sentence occurs, and `pairs` of all kinds."""

from stale_adam.nmt.grammar import sentences
from stale_adam.nmt.grammar.draw import Draw

LARGEST_COUNT = 1_000_000
_KINDS = tuple(
  kind
  for kind, percent in (
    (sentences.simple, 46),
    (sentences.asking, 14),
    (sentences.reported, 12),
    (sentences.conditional, 5),
    (sentences.moved, 6),
    (sentences.reasoned, 4),
    (sentences.contrasted, 4),
    (sentences.with_thing, 4),
    (sentences.with_person, 4),
    (sentences.described, 3),
  )
  for _ in range(percent)
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
  draw = Draw(seed)
  found, english_seen, german_seen = [], set(), set()
  while len(found) < count:
    pair = draw.pick(_KINDS)(draw)
    if not all(4 <= text.count(' ') + 1 <= 16 for text in pair):
      continue
    if pair[0] in english_seen or pair[1] in german_seen:
      continue
    english_seen.add(pair[0])
    german_seen.add(pair[1])
    found.append(pair)
  return found
