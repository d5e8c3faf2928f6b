"""Estimates what runs need: parameters, memory and words of each model."""

import math
import types
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from experiments.ledger import execute, runs, texts
from experiments.ledger.settings import Settings
from stale_adam.nmt import translation
from stale_adam.policy import Communication


def size(settings: Settings) -> tuple[int, int]:
  """Parameters of a run's model, and the bytes that one gradient needs.

  Reads no text and trains nothing: the gradient is compiled for the default
  device, at the nominal size of the vocabulary. The bytes include parameters,
  batch, gradient and all intermediate arrays.
  """
  pieces = types.SimpleNamespace(size=settings.vocabulary)
  model = translation.Model(settings.model, pieces, settings.sizes)
  key = jax.random.key(0)
  params = jax.eval_shape(model.init, key)
  rows, source, target = settings.shape
  ids = lambda width: jax.ShapeDtypeStruct((rows, width), np.int32)
  batch = {
    'source': ids(source),
    'source_segments': ids(source),
    'target': ids(target),
    'target_segments': ids(target),
  }
  loss = lambda p, b, k: model.losses(p, b, k, settings.smoothing)[0]
  gradient = jax.jit(jax.value_and_grad(loss)).lower(params, batch, key)
  memory = gradient.compile().memory_analysis()
  taken = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
  )
  return sum(leaf.size for leaf in jax.tree.leaves(params)), taken


def describe(
  wanted: Sequence[Settings], scale: str, data_dir: str | None
) -> Iterator[str]:
  """Lines about runs of one model: parameters, memory, words.

  Args:
    wanted: the runs, as `runs.base` declares them.
    scale: a name in scales.py.
    data_dir: directory of the text, as in `texts.load`.
  """
  settings = runs.at(scale, wanted[0])
  parameters, gradient_bytes = size(settings)
  held = max(_snapshots(run.communication) for run in wanted)
  server = 4 * parameters * (3 + held) / 2**20
  yield f'  {parameters:,} parameters'
  yield (
    f'  server {server:,.0f} MiB: two moments, a sum, and at most {held} '
    'versions of the parameters if workers are about equally fast'
  )
  yield (
    f'  each worker {gradient_bytes / 2**20:,.0f} MiB for a gradient of '
    f'{settings.shape.rows} rows of {settings.shape.target} positions'
  )
  for run in {run.pair: run for run in wanted}.values():
    own = runs.at(scale, run)
    try:
      text = texts.load(scale, own.pair, data_dir)
      words = execute.make_task(own, text).units_per_epoch
    except (ValueError, OSError) as error:
      yield f'  {own.pair}: words in an epoch unknown, {error}'
      continue
    total = words * own.budget.epochs
    yield f'  {own.pair}: {words:,} target words an epoch, {total:,.0f} a run'


def _snapshots(communication: Communication) -> int:
  """Versions held at once: those of equally fast workers, and the next."""
  if communication.synchronous:
    return 2
  pushes = communication.pushes_per_update
  return math.ceil((communication.workers - 1) / pushes) + 2
