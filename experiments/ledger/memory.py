"""What a run needs of a device's memory, before any text is read."""

import dataclasses
import functools
import itertools
import math
import os

import jax
import numpy as np

from experiments.ledger.settings import Settings
from stale_adam import sums
from stale_adam.compiled import decisions
from stale_adam.nmt import network
from stale_adam.policy import Communication
from stale_adam.pools.virtual import Dry

# Of a device's memory that runs may take. XLA needs some for itself.
_SHARE = 0.8
_PUSHES = 512  # That are looked at for the number of versions.


def snapshots(communication: Communication) -> int:
  """Versions held at once: those of equally fast workers, and the next."""
  if communication.synchronous:
    return 2
  pushes = communication.pushes_per_update
  return math.ceil((communication.workers - 1) / pushes) + 2


def parameters(settings: Settings) -> int:
  """How many parameters a run's model has."""
  return sum(leaf.size for leaf in jax.tree.leaves(_shapes(settings)))


def gradient(settings: Settings) -> int:
  """Bytes that one gradient needs.

  Trains nothing: the gradient is compiled for the default device, at the
  nominal size of the vocabulary. The bytes include parameters, batch, gradient
  and all intermediate arrays.
  """
  # All runs that share a gradient.
  usual = {'learning_rate': 0.0, 'seed': 0, 'optimizer': 'adam'}
  usual['communication'] = Communication(1)
  return _gradient(dataclasses.replace(settings, **usual))


@functools.lru_cache(maxsize=64)
def _gradient(settings: Settings) -> int:
  rows, source, target = settings.shape
  ids = lambda width: jax.ShapeDtypeStruct((rows, width), np.int32)
  batch = {
    'source': ids(source),
    'source_segments': ids(source),
    'target': ids(target),
    'target_segments': ids(target),
  }
  loss = network.Loss(_network(settings), settings.smoothing)
  compiled = (
    jax.jit(jax.value_and_grad(loss))
    .lower(_shapes(settings), batch, jax.random.key(0))
    .compile()
  )
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
  )


def state(settings: Settings) -> int:
  """Bytes of a run's state in a program of many runs.

  These are parameters, the optimizer's state, a sum if an update uses several
  pushes, and a ring of versions, whose length the virtual clock tells.
  """
  shapes = _shapes(settings)
  optimizer = settings.transformation()
  trees = [shapes, jax.eval_shape(optimizer.init, shapes)]
  if settings.communication.pushes_per_update > 1:
    trees.append(jax.eval_shape(sums.widened, shapes))
  trees += [shapes] * versions(settings)
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(trees))


def together(settings: Settings) -> int:
  """Bytes that a run needs in a program of many: its state, and a gradient."""
  return state(settings) + gradient(settings)


def runs(settings: Settings, most: int) -> int:
  """How many runs the memory has room for: at most so many, at least one."""
  return max(1, min(most, int(_SHARE * _available() / together(settings))))


def _available() -> int:
  """Bytes of the default device that nobody uses."""
  stats = jax.devices()[0].memory_stats()
  if stats is None:  # A CPU's.
    return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  return stats['bytes_limit'] - stats['bytes_in_use']


def versions(settings: Settings) -> int:
  """Slots of the ring, from the first arrivals."""
  words = settings.shape.rows * settings.shape.target
  with Dry(settings.clock(words)) as pool:
    arrivals = decisions.dry(settings.communication, pool)
    servers = [s for *_, s in itertools.islice(arrivals, _PUSHES)]
  return max(map(decisions.span, servers))


def _network(settings: Settings) -> network.Network:
  sizes = tuple(sorted(settings.sizes.items()))
  return network.Network(settings.model, settings.vocabulary, sizes)


def _shapes(settings: Settings):
  return jax.eval_shape(_network(settings).init, jax.random.key(0))
