"""What runs on a cluster's machines: an actor, which computes for one worker.

It holds nothing of the run but its program: parameters, batch ids and memory
come with the work, and memory goes back with the push.
"""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

# Packages whose versions decide what is computed.
_PACKAGES = ('jax', 'jaxlib', 'numpy', 'optax', 'flax')
# Settings of JAX that decide how a program rounds, and where it is kept.
_CONFIG = (
  'jax_default_matmul_precision',
  'jax_default_prng_impl',
  'jax_enable_x64',
  'jax_num_cpu_devices',
  'jax_threefry_partitionable',
  'jax_compilation_cache_dir',
  'jax_persistent_cache_min_compile_time_secs',
)


class Environment(NamedTuple):
  """What a worker's process must have in common with the server's.

  Attributes:
    versions: of Python and packages, by name.
    config: settings of JAX, by name.
    xla_flags: of XLA, which reads them at its first use.
  """

  versions: Mapping[str, str]
  config: Mapping[str, Any]
  xla_flags: str

  @classmethod
  def here(cls) -> 'Environment':
    """That of this process."""
    versions = {name: _version(name) for name in _PACKAGES}
    config = {name: getattr(jax.config, name) for name in _CONFIG}
    flags = os.environ.get('XLA_FLAGS', '')
    return cls({'python': platform.python_version(), **versions}, config, flags)

  def check(self) -> None:
    """Check that this process has the same versions.

    Raises:
      RuntimeError: naming those that differ.
    """
    found = Environment.here().versions
    differing = [
      f'{name} {found[name]} here, {version} at the server'
      for name, version in self.versions.items()
      if found[name] != version
    ]
    if differing:
      raise RuntimeError(
        f'versions differ ({", ".join(differing)}): install the same ones on '
        'every machine'
      )

  def adopt(self) -> None:
    """Set up this process alike, before it uses a device."""
    os.environ['XLA_FLAGS'] = self.xla_flags
    for name, value in self.config.items():
      jax.config.update(name, value)


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'none'


class Place(NamedTuple):
  """Where an actor is.

  Attributes:
    machine: Ray's id of it.
    host: its name.
    process: number of the actor's process there.
  """

  machine: str
  host: str
  process: int

  def __str__(self) -> str:
    return f'{self.host} (process {self.process})'


class Computed(NamedTuple):
  """A push on its way, without the worker's memory.

  Attributes:
    place: where it was computed.
    loss: mean over the batches, a scalar.
    message: what the worker sends, in host memory.
    started: when its parameters were there, by the machine's own clock.
    computed: when the message was ready, by the same clock.
  """

  place: Place
  loss: Any
  message: Any
  started: float
  computed: float


class Actor:
  """Computes for one worker, one work after the other.

  Args:
    worker: its number.
    environment: of the server's process.
    program: a list of one reference, to `compute(params, ids, memory) -> (loss,
      message, memory)`.

  Raises:
    RuntimeError: if versions differ from the server's, or the program needs
      what this machine does not have.
  """

  def __init__(
    self, worker: int, environment: Environment, program: Sequence[Any]
  ):
    import ray

    self._worker = worker
    machine = ray.get_runtime_context().get_node_id()
    self._place = Place(machine, platform.node(), os.getpid())
    environment.check()
    environment.adopt()
    try:
      self._program: Callable[..., tuple[Any, Any, Any]] = ray.get(program[0])
    except Exception as error:
      raise RuntimeError(
        f'the problem or the method cannot be loaded ({first_line(error)}): '
        'install what it needs on every machine'
      ) from None

  def __repr__(self) -> str:
    """The prefix of what its process prints, in the server's output."""
    return f'worker {self._worker} on {self._place.host}'

  def compute(
    self, params: Any, ids: Sequence[int], memory: Any
  ) -> tuple[Computed, Any]:
    """The push of a work, and the worker's memory after it."""
    params, memory = jax.device_put((params, memory))
    jax.block_until_ready((params, memory))
    started = time.monotonic()
    loss, message, memory = self._program(params, ids, memory)
    jax.block_until_ready((loss, message, memory))
    computed = time.monotonic()
    loss, message, memory = on_host((loss, message, memory))
    return Computed(self._place, loss, message, started, computed), memory


def first_line(error: BaseException) -> str:
  """What an error says, without Ray's context."""
  said = str(error).strip().splitlines()
  return said[0] if said else type(error).__name__


def on_host(tree: Any) -> Any:
  """Its arrays as NumPy's, which travel without another copy; keys as they are.

  On a CPU they share the memory of JAX's.
  """

  def one(leaf: Any) -> Any:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if is_key else np.asarray(leaf)

  return jax.tree.map(one, tree)
