"""Traces: the digest is of the order alone, and histograms count."""

import hashlib

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

import stale_adam as sa
from stale_adam import trace

ORDER = st.lists(st.integers(0, 2**31 - 1), max_size=20)


def made(order, seconds=None, dtype=np.int32):
  seconds = range(len(order)) if seconds is None else seconds
  return sa.Trace(np.array(order, dtype), np.array(seconds, np.float64))


def test_digest_is_that_of_little_endian_32_bit_numbers():
  """Golden: records hold digests, so this must never change."""
  expected = hashlib.sha256(b'\2\0\0\0\0\0\0\0\1\1\0\0').hexdigest()
  assert made([2, 0, 257]).digest() == expected
  assert made([]).digest() == hashlib.sha256(b'').hexdigest()


@given(ORDER, st.floats(0, 1e9))
def test_digest_ignores_seconds_and_memory_layout(order, offset):
  plain = made(order)
  later = made(order, [offset + 2 * i for i in range(len(order))])
  assert later.digest() == plain.digest()
  assert made(order, dtype='>i8').digest() == plain.digest()
  doubled = sa.Trace(np.repeat(plain.worker, 2)[::2], plain.seconds)
  assert doubled.digest() == plain.digest()


@given(ORDER, ORDER)
def test_digest_tells_orders_apart(first, second):
  same = made(first).digest() == made(second).digest()
  assert same == (first == second)
  assert made([*first, 0]).digest() != made(first).digest()


def test_histogram():
  histogram = trace.staleness_histogram([3, 0, 3, 1, 3, 0])
  assert histogram == {0: 2, 1: 1, 3: 3}
  assert list(histogram) == [0, 1, 3]
  assert trace.staleness_histogram([]) == {}
