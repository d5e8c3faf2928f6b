"""The clock of pools whose workers really compute."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any


class Stopwatch:
  """Seconds while it ran; read by any thread, set by one.

  It starts with the first update: everything is compiled then.
  """

  def __init__(self) -> None:
    # Moments of the system's clock: seconds until then, and whether it ran on.
    self._marks = [(time.monotonic(), 0.0, False)]
    self._started = False

  def seconds(self, moment: float | None = None) -> float:
    """Seconds until a moment of `time.monotonic`; until now if None."""
    moment = time.monotonic() if moment is None else moment
    marks = self._marks
    mark = next((m for m in reversed(marks) if m[0] <= moment), marks[0])
    since, seconds, running = mark
    return seconds + max(0.0, moment - since) if running else seconds

  def start(self, version: int) -> None:
    """Run on if updates have been applied, unless that has begun before."""
    if version and not self._started:
      self._started = True
      self._mark(True)

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Stand still in the block."""
    running = self._marks[-1][2]
    self._mark(False)
    try:
      yield
    finally:
      if running:
        self._mark(True)

  def state(self) -> dict[str, Any]:
    """What `restore` needs, as JSON holds it."""
    return {'seconds': self.seconds(), 'started': self._started}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Stand at these seconds; it runs when everything is compiled again."""
    self._marks = [(time.monotonic(), state['seconds'], False)]

  def _mark(self, running: bool) -> None:
    now = time.monotonic()
    self._marks.append((now, self.seconds(now), running))
