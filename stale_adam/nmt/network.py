"""What is compiled of a translation model: its loss and its beam search.

Static arguments are compared by value, and hold neither text nor vocabulary.
So runs with equal sizes share their programs, whatever their task, and no
program keeps the task of a finished run alive.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp

from stale_adam.nmt.data.vocabulary import BOS
from stale_adam.nmt.models import beam as beam_lib
from stale_adam.nmt.models import layers
from stale_adam.nmt.models.loss import cross_entropy
from stale_adam.nmt.models.rnn import Rnn
from stale_adam.nmt.models.transformer import TFixup, Transformer
from stale_adam.problem import Batch, Params

Module = Transformer | Rnn


@dataclasses.dataclass(frozen=True)
class Network:
  """A network without its parameters; equal if all sizes are equal.

  Attributes:
    kind: 'transformer', 'tfixup' or 'rnn'.
    pieces: of the vocabulary.
    sizes: the constructor's other arguments, as pairs in order of their names;
      see `Transformer` and `Rnn`.
  """

  kind: str
  pieces: int
  sizes: tuple[tuple[str, Any], ...]

  def build(self, key: jax.Array) -> Module:
    """A module with fresh parameters."""
    kinds: dict[str, Callable[..., Module]]
    kinds = {'transformer': Transformer, 'tfixup': TFixup, 'rnn': Rnn}
    if self.kind not in kinds:
      raise ValueError(f'model={self.kind!r}: use one of {sorted(kinds)}')
    sizes = dict(self.sizes)
    return kinds[self.kind](self.pieces, **sizes, rngs=nnx.Rngs(key))

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters as a pure dict of arrays."""
    return nnx.to_pure_dict(nnx.state(self.build(key)))

  @functools.cached_property
  def _graph(self) -> nnx.GraphDef[Module]:
    return nnx.split(nnx.eval_shape(lambda: self.build(jax.random.key(0))))[0]

  def bind(self, params: Params) -> Module:
    """The module with these parameters; cheap inside jit, slow outside."""
    return nnx.merge(self._graph, params)

  def losses(
    self,
    params: Params,
    batch: Mapping[str, jax.Array],
    key: jax.Array | None,
    smoothing: float,
  ) -> tuple[jax.Array, jax.Array]:
    """Sum of the cross-entropy over a batch's target words, and their number.

    Args:
      params: as `init` returns.
      batch: as `Batches.batch` returns.
      key: for dropout; None switches it off.
      smoothing: of the labels.
    """
    model = self.bind(params)
    encode, decode = (None, None) if key is None else jax.random.split(key)
    source, target = batch['source_segments'], batch['target_segments']
    memory = model.encode(batch['source'], source, encode)
    inputs = layers.shift(batch['target'], target, BOS)
    hidden = model.decode(memory, source, inputs, target, decode)
    # Not of a narrower dtype: in bfloat16 256 + 1 is 256.
    weights = (target > 0).astype(jnp.float32).reshape(-1)
    loss = cross_entropy(
      hidden.reshape(-1, hidden.shape[-1]),
      model.embedding.table[...],
      batch['target'].reshape(-1),
      weights,
      smoothing,
      _chunk(weights.size),
    )
    return loss, jnp.sum(weights)


@dataclasses.dataclass(frozen=True)
class Loss:
  """The mean cross-entropy over the target words of a batch.

  Attributes:
    network: the model.
    smoothing: of the labels.
  """

  network: Network
  smoothing: float

  def __call__(self, params: Params, batch: Batch, key: jax.Array) -> jax.Array:
    total, words = self.network.losses(params, batch, key, self.smoothing)
    return total / jnp.maximum(words, 1)


@functools.partial(jax.jit, static_argnums=0)
def losses(
  network: Network, params: Params, batch: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Sum and number of the cross-entropies, without dropout and smoothing."""
  return network.losses(params, batch, None, 0.0)


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def search(
  network: Network,
  params: Params,
  source: jax.Array,
  segments: jax.Array,
  beam: int,
  rows: int,
) -> jax.Array:
  """Beam search: at most one and a half times the source, and ten tokens."""
  length = source.shape[1] * 3 // 2 + 10
  model = network.bind(params)
  return beam_lib.search(model, source, segments, beam, length, rows)


def _chunk(positions: int) -> int:
  """Positions whose logits are in memory: the largest divisor up to a limit.

  They fit into a processor's cache; an accelerator wants large products.
  """
  limit = 128 if jax.default_backend() == 'cpu' else 2048
  limit = min(limit, positions)
  return next(c for c in range(limit, 0, -1) if positions % c == 0)
