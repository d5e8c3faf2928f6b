"""Runs that are killed, and saved states that are damaged."""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import stale_adam as sa
from experiments.benchmarks.injected import Row, toys
from stale_adam.training import checkpoint, record, resume, run
from stale_adam.training.task import Budget

PUSHES = 600
_CLOCK = sa.Clock(0.9, 0.1, 0.2, 0.15, 'normal', 0.5, (1.0, 2.0, 0.7), seed=4)
_ADAM = sa.adam(0.02)
_IDENTITY = {'experiment': 'faults', 'scale': 'toy', 'run': 'toy', 'config': {}}
# Fields that tell how long the machine took.
_MEASURED = ('provenance', 'examples_per_second')
_PATIENCE = 120.0  # Seconds until a process counts as hung.


def train(out: Path, task: toys.Regression) -> None:
  """Train with every possible saved state; resumes what `out` holds."""
  budget = Budget(PUSHES * 20 / task.units_per_epoch, 600, 1000)
  run.run(
    *(task, _ADAM, sa.Communication(4, 2, 3), sa.pools.Virtual(_CLOCK)),
    *(budget, out, _IDENTITY),
    seed=3,
    save_seconds=0.0,
  )


def results(out: Path) -> dict[str, Any]:
  """All that a run leaves, but for the seconds that the machine took."""
  found = record.read(out / 'record.json')
  found = {k: v for k, v in found.items() if k not in _MEASURED}
  found['curve'] = [{**point, 'seconds': None} for point in found['curve']]
  params, metadata = checkpoint.load(out / 'params.npz')
  trace = sa.Trace.load(out / 'trace.npz')
  columns = {'worker': trace.worker, 'seconds': trace.seconds, **trace.columns}
  arrays = {f'params/{name}': x for name, x in params.items()} | columns
  bits = {k: (x.dtype.str, x.shape, x.tobytes()) for k, x in arrays.items()}
  return {'record': found, 'metadata': metadata, 'arrays': bits}


class _Ended(NamedTuple):
  """A process that has ended.

  Attributes:
    status: of its exit; None if it hung.
    arrived: batches.
    life: seconds.
    training: seconds since the first arrival.
  """

  status: int | None
  arrived: int
  life: float
  training: float


def _child(
  out: Path, number: int | None = None, early: float = 0, late: float = 0
) -> _Ended:
  """Train in a process.

  Args:
    out: directory of the run.
    number: of the signal that ends it, if any:
    early: so many seconds after its start, or if that is 0,
    late: so many seconds after the first arrival.
  """
  tunables = 'glibc.malloc.hugetlb=1'  # So that it need not restart.
  began = time.monotonic()
  process = subprocess.Popen(
    [sys.executable, '-m', 'experiments.benchmarks.injected.child']
    + [f'--out={out}'],
    env=os.environ | {'GLIBC_TUNABLES': tunables, 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
  )
  arrived, begun = [], threading.Event()

  def read() -> None:
    for _ in process.stdout:
      arrived.append(time.monotonic())
      begun.set()
    begun.set()

  reader = threading.Thread(target=read)
  reader.start()
  if number is not None:
    if not early:
      begun.wait(_PATIENCE)
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(early or late)
    process.send_signal(number)
  with contextlib.suppress(subprocess.TimeoutExpired):
    process.wait(_PATIENCE)
  hung = process.poll() is None
  process.kill()
  reader.join()
  now, status = time.monotonic(), process.wait()
  first = arrived[0] if arrived else now
  return _Ended(
    None if hung else status, len(arrived), now - began, now - first
  )


def kills(
  count: int,
  number: int,
  seed: int,
  told: Callable[[str], None] = lambda line: None,
) -> Row:
  """End training `count` times by a signal; resume until it is finished.

  Fails if parameters, curve or trace differ from the unbroken run in one bit.
  """
  rng = random.Random(seed)
  done, runs, wrong, again = 0, 0, [], []
  with tempfile.TemporaryDirectory() as folder:
    whole = Path(folder) / 'whole'
    unbroken = _child(whole)
    wanted = results(whole)
    while done < count:
      out, runs = Path(folder) / f'{runs}', runs + 1
      while done < count and not (out / 'record.json').exists():
        before = _saved(out)
        # A quarter anywhere in its life, the others in training.
        early = rng.random() < 0.25 and rng.uniform(0, unbroken.life)
        late = rng.uniform(0, unbroken.training)
        ended = _child(out, number, early, late)
        if ended.status != 0:
          done += 1
          wrong += ['hung'] if ended.status is None else []
          again.append(before + ended.arrived // 2 - _saved(out))
          told(f'{signal.Signals(number).name} {done} of {count}')
      if not (out / 'record.json').exists():
        _child(out)
      try:
        if results(out) != wanted:
          wrong.append('a result differs')
      except (OSError, ValueError) as error:
        wrong.append(str(error))
  lost = '; '.join(dict.fromkeys(wrong)) or (
    f'nothing in {runs} runs; {np.mean(again):.1f} pushes computed again, at '
    f'most {max(again)}'
  )
  return Row(signal.Signals(number).name, done, len(wrong), lost)


def _saved(out: Path) -> int:
  """Pushes in the newest state of a run."""
  if (out / 'record.json').exists():
    return PUSHES
  captured = resume.newest(out)
  return sum(captured.header['pushes']) if captured else 0


def _same(found: resume.Captured | None, wanted: resume.Captured) -> bool:
  return (
    found is not None
    and found.header == wanted.header
    and all(map(np.array_equal, found.arrays, wanted.arrays))
  )


def flips(count: int, seed: int, resumed: int = 10) -> Row:
  """Flip a bit of the newest state, or truncate it, `count` times.

  Fails if anything but the state before is used. Some runs, `resumed` of them,
  are resumed to their end, and fail if it differs.
  """
  rng, wrong = random.Random(seed), 0
  with tempfile.TemporaryDirectory() as folder:
    whole, broken = Path(folder) / 'whole', Path(folder) / 'broken'
    with contextlib.redirect_stderr(io.StringIO()):  # Progress bars.
      train(whole, toys.Regression())
      with contextlib.suppress(OSError):
        train(broken, toys.Regression(fails_at=2 * PUSHES // 3))
    files = sorted(broken.glob('resume-*.npz'))
    states = {file: resume.read(file) for file in files}
    older, newest = sorted(files, key=lambda f: states[f].header['units'])
    data = newest.read_bytes()
    for i in range(count):
      newest.write_bytes(_damaged(data, rng))
      said = io.StringIO()
      with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        found = resume.newest(broken)
        fine = newest.name in said.getvalue() and _same(found, states[older])
        if fine and i < resumed:
          out = Path(shutil.copytree(broken, Path(folder) / f'{i}'))
          train(out, toys.Regression())
          fine = results(out) == results(whole)
      wrong += not fine
  back = sum(states[newest].header['pushes'])
  back -= sum(states[older].header['pushes'])
  lost = f'pushes since the state before, here {back}'
  return Row('state flipped or truncated', count, wrong, lost)


def _damaged(data: bytes, rng: random.Random) -> bytes:
  if rng.random() < 0.3:
    return data[: rng.randrange(len(data))]
  place, changed = rng.randrange(len(data)), bytearray(data)
  changed[place] ^= 1 << rng.randrange(8)
  return bytes(changed)
