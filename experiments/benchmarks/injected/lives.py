"""Many runs in one process: what they leave in memory."""

import concurrent.futures
import contextlib
import io
import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from experiments.benchmarks.injected import Row
from experiments.ledger import execute, scales, texts

KINDS = ('same task', 'new task', 'new settings')
_EARLY, _BOUND = 5, 1.2  # Memory after the fifth run, and how much is allowed.


class Held(NamedTuple):
  """What a process holds after a run.

  Attributes:
    mebibytes: resident memory.
    arrays: of JAX.
    programs: compiled so far, dead ones too.
  """

  mebibytes: float
  arrays: int
  programs: int


def runs(kind: str, count: int) -> list[Held]:
  """Make `count` micro runs, as experiments.train does, and look after each.

  Args:
    kind: 'same task': all runs share it. 'new task': each makes its own, of
      the same settings. 'new settings': with its own seed and learning rate.
    count: how many.
  """
  programs: list[str] = []

  def compiled(event: str, *_, **__) -> None:
    if event == '/jax/core/compile/backend_compile_duration':
      programs.append(event)

  jax.monitoring.register_event_duration_secs_listener(compiled)
  base = scales.settings('micro', 'transformer')
  text, task, found = texts.load('micro', base.pair, None), None, []
  with tempfile.TemporaryDirectory() as folder:
    for i in range(count):
      settings = base
      if kind == 'new settings':
        rate = base.learning_rate * (1 + i / 100)
        settings = scales.settings(
          'micro', 'transformer', seed=i, learning_rate=rate
        )
      silent = io.StringIO()
      with contextlib.redirect_stdout(silent):
        with contextlib.redirect_stderr(silent):
          if task is None or kind != 'same task':
            task = execute.make_task(settings, text)
          out = Path(folder) / f'{i}'
          execute.execute(settings, task, out, 'faults', 'micro', 'run')
      found.append(Held(_resident(), len(jax.live_arrays()), len(programs)))
  jax.monitoring.unregister_event_duration_listener(compiled)
  return found


def _resident() -> float:
  lines = Path('/proc/self/status').read_text().splitlines()
  (line,) = (line for line in lines if line.startswith('VmRSS'))
  return int(line.split()[1]) / 1024


def row(kind: str, count: int) -> Row:
  """Make the runs in a new process, and compare its memory with that before."""
  spawn = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, spawn) as process:
    found = process.submit(runs, kind, count).result()
  early, last = found[min(_EARLY, count) - 1], found[-1]
  ratio = last.mebibytes / early.mebibytes
  told = (
    f'{early.mebibytes:.0f} MiB after {min(_EARLY, count)} runs, '
    f'{last.mebibytes:.0f} after {count}: {ratio:.2f} times; '
    f'{last.programs - early.programs} programs, '
    f'{last.arrays - early.arrays} arrays more'
  )
  return Row(f'memory, {kind}', count, int(ratio >= _BOUND), told)


def rows(count: int) -> Iterator[Row]:
  """Every kind of run."""
  for kind in KINDS:
    yield row(kind, count)
