"""A run on disk and back, exactly: all that server, pool and loop need.

Gradients in flight are not saved but computed again: they are pure functions
of what is saved. A file holds every array once, however many workers hold it.
"""

import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import policy as policy_lib
from stale_adam.policy import Policy
from stale_adam.pools.contract import Pool
from stale_adam.problem import Params, Problem
from stale_adam.server import Held, Server, init, keys
from stale_adam.trace import Trace
from stale_adam.training import checkpoint
from stale_adam.worker import SUM, Snapshot, Worker

_FILES = ('resume-0.npz', 'resume-1.npz')  # Two generations, in turn.
_TREES = ('params', 'optimizer_state', 'per_push_state')
_NUMBERS = ('summed', 'staleness', 'stalest', 'version', 'next_id')


class Progress(NamedTuple):
  """How far a run has come, besides its server.

  Attributes:
    pool: as the pool's `state` returns it.
    curve: validations so far.
    units: trained on so far.
    seconds: spent on training, validation not counted.
    validated: pushes before the last validation.
    best: the parameters with the best validation; None before the first.
    arrived: the pushes so far.
  """

  pool: Mapping[str, Any]
  curve: Sequence[Mapping[str, Any]]
  units: int
  seconds: float
  validated: int
  best: Params
  arrived: Trace


class Interrupted(Exception):
  """A run was ended by a signal, and its state was saved.

  Attributes:
    number: of the signal.
  """

  def __init__(self, number: int, message: str):
    super().__init__(message)
    self.number = number


class _Arrays:
  """Arrays in host memory, each once."""

  def __init__(self) -> None:
    self.found: list[np.ndarray] = []
    self._known: dict[int, tuple[int, Any]] = {}

  def add(self, tree: Any) -> list[int]:
    """Copies the leaves of a tree: where each is."""
    return [self._index(leaf) for leaf in jax.tree.leaves(tree)]

  def _index(self, leaf: Any) -> int:
    if id(leaf) not in self._known:
      self._known[id(leaf)] = len(self.found), leaf  # It stays alive: its id.
      data = jax.random.key_data(leaf) if _is_key(leaf) else leaf
      # A copy: the next update reuses the memory.
      self.found.append(np.array(data))
    return self._known[id(leaf)][0]


def _is_key(leaf: Any) -> bool:
  dtype = getattr(leaf, 'dtype', None)
  return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


class Captured(NamedTuple):
  """A run in host memory, ready to be written."""

  arrays: list[np.ndarray]
  header: dict[str, Any]


def capture(server: Server, progress: Progress) -> Captured:
  """Copy a run to host memory; the server may go on afterwards.

  Args:
    server: as `serve` yielded it, before the next arrival.
    progress: of the loop.
  """
  jax.block_until_ready((server.params, server.optimizer_state))
  arrays = _Arrays()
  trees: dict[str, list[int] | None] = {
    name: arrays.add(getattr(server, name)) for name in _TREES
  }
  for name in ('accumulator', 'last'):
    tree = getattr(server, name)
    trees[name] = None if tree is None else arrays.add(tree)
  trees['best'] = None if progress.best is None else arrays.add(progress.best)
  trace = progress.arrived
  columns = {'worker': trace.worker, 'seconds': trace.seconds, **trace.columns}
  header = {
    'trees': trees,
    'published': [
      server.published.version,
      arrays.add(server.published.params),
    ],
    'held': [
      [worker, held.snapshot.version, arrays.add(held.snapshot.params)]
      + [list(held.ids), held.version, held.pushes, held.seconds]
      for worker, held in server.held.items()
    ],
    'memory': [[w, arrays.add(tree)] for w, tree in server.memory.items()],
    'waiting': list(server.waiting),
    'pushes': list(server.pushes),
    **{name: getattr(server, name) for name in _NUMBERS},
    'pool': progress.pool,
    'curve': list(progress.curve),
    'units': progress.units,
    'loop_seconds': progress.seconds,
    'validated': progress.validated,
    'settings': dict(trace.settings),
    'columns': {name: arrays.add([c])[0] for name, c in columns.items()},
  }
  return Captured(arrays.found, header)


def restore(
  captured: Captured, like: Server, device: jax.Device | None = None
) -> tuple[Server, Progress]:
  """Make a server and its progress again from what was captured.

  Args:
    captured: as `capture` returned it, or `read`.
    like: a new server of the same run, as `server.init` makes it: it has the
      structure of every tree.
    device: where the server's arrays are; JAX's default if None.

  Raises:
    ValueError: if the trees of `like` have other leaves, or another version of
      this library has saved the state.
  """
  arrays, header = captured
  made: dict[int, Any] = {}

  def tree(places: Sequence[int], template: Any) -> Any:
    leaves, structure = jax.tree.flatten(template)
    if [_form(x) for x in leaves] != [_form(arrays[i]) for i in places]:
      raise ValueError(
        'the saved run has other parameters or another optimizer or method: '
        'resume it with those that it ran with'
      )
    for i, leaf in zip(places, leaves, strict=True):
      if i not in made:
        data = jax.device_put(jnp.asarray(arrays[i]), device)
        if _is_key(leaf):
          data = jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        made[i] = data
    return jax.tree.unflatten(structure, [made[i] for i in places])

  if missing := [name for name in _NUMBERS if name not in header]:
    raise ValueError(
      f'the state of the saved run lacks {", ".join(missing)}: another version '
      'of this library saved it; resume it with that one, or begin anew'
    )
  params = lambda places: None if places is None else tree(places, like.params)
  trees, memory = header['trees'], dict(header['memory'])
  version, published = header['published']
  server = like._replace(
    **{name: tree(trees[name], getattr(like, name)) for name in _TREES},
    **{name: header[name] for name in _NUMBERS},
    accumulator=params(trees['accumulator']),
    last=params(trees['last']),
    published=Snapshot(version, params(published)),
    held={
      worker: Held(Snapshot(pulled, params(places)), ids, *rest)
      for worker, pulled, places, ids, *rest in header['held']
    },
    memory={w: tree(p, like.memory[w]) for w, p in memory.items()},
    waiting=tuple(header['waiting']),
    pushes=tuple(header['pushes']),
  )
  columns = {name: arrays[i] for name, i in header['columns'].items()}
  worker, seconds = columns.pop('worker'), columns.pop('seconds')
  progress = Progress(
    header['pool'],
    header['curve'],
    header['units'],
    header['loop_seconds'],
    header['validated'],
    jax.tree.map(np.asarray, params(trees['best'])),
    Trace(worker, seconds, columns, header['settings']),
  )
  return server, progress


def _as_json(value: Any) -> Any:
  return json.loads(json.dumps(value or {}))


def _form(leaf: Any) -> tuple[Any, ...]:
  data = jax.random.key_data(leaf) if _is_key(leaf) else leaf
  return np.shape(data), np.asarray(data).dtype


def write(path: Path, captured: Captured) -> None:
  """Write what was captured, atomically, with a digest of every array."""
  arrays = {f'array_{i}': x for i, x in enumerate(captured.arrays)}
  checkpoint.save(path, arrays, captured.header)


def read(path: Path) -> Captured:
  """Read what `write` wrote.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged.
  """
  arrays, header = checkpoint.load(path)
  return Captured([arrays[f'array_{i}'] for i in range(len(arrays))], header)


def newest(directory: Path) -> Captured | None:
  """The newest state in a run's directory that is whole; None without one.

  A damaged file is named on stdout, and the other generation is used.
  """
  found = []
  for name in _FILES:
    try:
      found.append(read(directory / name))
    except FileNotFoundError:
      continue
    except ValueError as error:
      print(f'{error}; the state saved before it is used, if any', flush=True)
  return max(found, key=lambda c: sum(c.header['pushes']), default=None)


def whole(server: Server) -> bool:
  """Whether a server can be continued: no sum is still in the pool."""
  return not server.summed or server.accumulator is not None


def load(
  directory: Path,
  identity: Mapping[str, Any] | None,
  problem: Problem,
  optimizer: optax.GradientTransformation,
  policy: Policy,
  pool: Pool,
  seed: int,
  per_push: optax.GradientTransformation | None = None,
  worker: Worker | None = None,
) -> tuple[Server, Progress] | None:
  """The server and progress of the run in a directory; restores the pool.

  Returns:
    None if the directory has no state.

  Raises:
    ValueError: if the state is that of another run, or of other parameters,
      optimizer or methods.
  """
  captured = newest(directory)
  if captured is None:
    return None
  saved, wanted = captured.header['identity'], _as_json(identity)
  if saved != wanted:
    differ = [
      f'{k}: {saved.get(k)} there, {wanted.get(k)} here'
      for k in sorted({*saved, *wanted})
      if saved.get(k) != wanted.get(k)
    ]
    raise ValueError(
      f'{directory} holds the state of another run ({"; ".join(differ)}): name '
      'another directory, or resume with the settings that it ran with'
    )
  init_key, _ = keys(seed)
  like = init(
    optimizer,
    problem.init(init_key),
    policy.workers,
    per_push,
    worker or SUM,
  )
  server, progress = restore(captured, like, next(iter(init_key.devices())))
  now = {'policy': policy_lib.settings(policy), 'seed': seed}
  progress.arrived.check_replay(now)
  pool.restore(progress.pool)
  return server, progress


def identity(fields: Mapping[str, Any]) -> dict[str, Any]:
  """What a state keeps of a record's fields, to refuse that of another run."""
  return {name: fields.get(name) for name in ('scale', 'text', 'config')}


def exists(directory: Path) -> bool:
  """Whether a run's directory holds a state."""
  return any((directory / name).exists() for name in _FILES)


def remove(directory: Path) -> None:
  """Remove the saved states of a finished run."""
  for name in _FILES:
    (directory / name).unlink(missing_ok=True)


class Saver:
  """Writes states in the background, two generations in turn.

  Args:
    directory: of the run.
    every_seconds: the least time between two states; None saves only when
      asked to.
  """

  def __init__(self, directory: Path, every_seconds: float | None):
    self._directory, self._every = directory, every_seconds
    self._last, self._count = time.monotonic(), 0
    self._thread: threading.Thread | None = None
    self._error: BaseException | None = None

  def due(self) -> bool:
    """Whether the time has come, and the last state is on disk."""
    if self._every is None or (self._thread and self._thread.is_alive()):
      return False
    return time.monotonic() - self._last >= self._every

  def save(
    self, captured: Captured, identity: Mapping[str, Any] | None
  ) -> None:
    """Writes a state in the background, after the one before."""
    self.wait()
    captured.header['identity'] = _as_json(identity)
    # Never the newest file on disk: it is replaced only by its successor's
    # successor.
    path = self._directory / _FILES[self._next()]

    def run() -> None:
      try:
        write(path, captured)
      except BaseException as error:
        self._error = error

    self._thread = threading.Thread(target=run, name='saver')
    self._thread.start()
    self._last = time.monotonic()

  def _next(self) -> int:
    if not self._count:  # The older file, or one that is not there.
      times = [_written(self._directory / name) for name in _FILES]
      self._count = times.index(min(times))
    self._count += 1
    return (self._count - 1) % 2

  def wait(self) -> None:
    """Waits for the state that is being written; raises what failed."""
    if self._thread is not None:
      self._thread.join()
      self._thread = None
    if self._error is not None:
      error, self._error = self._error, None
      raise error


def _written(path: Path) -> float:
  return path.stat().st_mtime if path.exists() else 0.0


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
  """Collects SIGINT and SIGTERM instead of being ended by them.

  Only the first: a second one ends the program at once. Outside the main
  thread, which alone gets signals, nothing is collected.

  Yields:
    A list, empty until a signal comes.
  """
  caught: list[int] = []
  if threading.current_thread() is not threading.main_thread():
    yield caught
    return
  kinds = (signal.SIGINT, signal.SIGTERM)
  before = {kind: signal.getsignal(kind) for kind in kinds}

  def handle(number: int, frame: Any) -> None:
    del frame
    caught.append(number)
    for kind in kinds:
      signal.signal(kind, signal.SIG_DFL)

  for kind in kinds:
    signal.signal(kind, handle)
  try:
    yield caught
  finally:
    for kind, handler in before.items():
      signal.signal(kind, handler)
