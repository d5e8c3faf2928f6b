"""Which sentences are decoded together, in few shapes that programs share."""

import collections
import os
from collections.abc import Sequence
from typing import NamedTuple

import jax

_BUCKET = 16  # Source lengths are rounded up to a multiple of this.
_POSITIONS = 2048  # Of the source, decoded at a time; more on accelerators.
_FEW = 8  # Rows that are compiled at least.
_TURNS = 8  # Sentences that a row decodes one after another, at most.


class Group(NamedTuple):
  """Sentences that one call of the search decodes.

  Attributes:
    members: indices of the sentences, the longest first.
    length: of their sources, rounded up.
    size: sentences of the call; those behind the members are empty.
    rows: sentences that are decoded at a time.
  """

  members: Sequence[int]
  length: int
  size: int
  rows: int


def groups(lengths: Sequence[int]) -> list[Group]:
  """Group sentences of about the same length, a share for each thread.

  Args:
    lengths: tokens of every source; 0 is in no group.

  Returns:
    The groups, those of the longest sentences first.
  """
  buckets = collections.defaultdict(list)
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    if lengths[i]:
      buckets[-lengths[i] // _BUCKET * -_BUCKET].append(i)
  return [
    _group(share, length)
    for length, bucket in buckets.items()
    for share in _shares(bucket, length)
  ]


def _shares(sentences: Sequence[int], length: int) -> list[Sequence[int]]:
  """Equal shares, few and not too large."""
  most = _TURNS * _rows(length)
  count = max(-(-len(sentences) // most), min(threads(), len(sentences)))
  return [sentences[i::count] for i in range(count)]


def _group(members: Sequence[int], length: int) -> Group:
  """Powers of two, and not the smallest: few programs are compiled."""
  most, count = _rows(length), len(members)
  least = min(_FEW, most)
  size = max(least, 1 << (count - 1).bit_length())
  rows = min(most, max(least, 1 << count.bit_length() - 1))
  return Group(members, length, size, rows)


def _rows(length: int) -> int:
  """Sentences of a source length that are decoded at a time, at most."""
  more = 1 if jax.default_backend() == 'cpu' else 16
  return max(1, more * _POSITIONS // length)


def threads() -> int:
  """Programs at a time: one for each core, or for an accelerator."""
  on_cpu = jax.default_backend() == 'cpu'
  return (os.cpu_count() or 1) if on_cpu else 1
