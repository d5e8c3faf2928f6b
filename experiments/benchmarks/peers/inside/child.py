"""A side's process: reads its job, shows progress, and prints its result.

Standard output belongs to the messages, one line of JSON each; whatever the
side itself prints goes to standard error.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

PASSES = 3  # Over the test sentences; the first one also compiles.


def run(parts: dict[str, Callable[..., dict[str, Any]]]) -> None:
  """Run the part that the command line names, on the job that it names.

  Args:
    parts: by name; each gets the job and `progress(count)`, and returns its
      result, in JSON's types.
  """
  part, path = sys.argv[1:]
  messages = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  tell = lambda **message: print(json.dumps(message), file=messages, flush=True)
  with open(path, encoding='utf-8') as file:
    job = json.load(file)
  progress = lambda count: tell(progress=count)
  tell(result=parts[part](job, progress))


def with_torch(job: dict[str, Any]) -> None:
  """Have torch use the job's number of threads, and no others."""
  import torch

  torch.set_num_threads(job['cores'])
  torch.set_num_interop_threads(1)


def timed(
  translate: Callable[[], list], progress: Callable[[int], None]
) -> dict[str, Any]:
  """The translations, and the seconds of each pass over the sentences."""
  seconds = []
  for number in range(PASSES):
    began = time.perf_counter()
    translations = translate()
    seconds.append(time.perf_counter() - began)
    progress(number + 1)
  return {'seconds': seconds, 'translations': translations}


class Meter:
  """Counts target words, each sentence's end included, and their time.

  Attributes:
    windows: (words, seconds) of each window of about `window` words.
    words: so far.
    updates: so far.
  """

  def __init__(
    self, job: dict[str, Any], progress: Callable[[int], None]
  ) -> None:
    self._limit, self._window = job['words'], job['window']
    self._progress = progress
    self.words = self.updates = self._mark = 0
    self.windows: list[tuple[int, float]] = []
    self._began = time.perf_counter()
    self._cpu = time.process_time()

  def add(self, words: int, updates: int = 1) -> None:
    """Counts a batch that has been trained on."""
    self.words += words
    self.updates += updates
    if self.words - self._mark >= self._window or self.full:
      now = time.perf_counter()
      self.windows.append((self.words - self._mark, now - self._began))
      self._mark, self._began = self.words, now
      self._progress(self.words)

  @property
  def full(self) -> bool:
    """Whether all words have been trained on."""
    return self.words >= self._limit

  def until_full(
    self, batches: Iterable[Any], words: Callable[[Any], int]
  ) -> Iterator[Any]:
    """Passes batches on, and counts each when the next one is asked for."""
    for batch in batches:
      yield batch
      self.add(words(batch))
      if self.full:
        return

  def result(self) -> dict[str, Any]:
    """What was counted; `cpu` is the mean number of busy cores."""
    seconds = sum(seconds for _, seconds in self.windows)
    return {
      'words': self.words,
      'updates': self.updates,
      'windows': self.windows,
      'cpu': (time.process_time() - self._cpu) / seconds,
    }
