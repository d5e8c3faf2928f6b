"""Three sizes of everything: `tiny`, `small` and `paper`.

What differs between scales is here and nowhere else. The learning rate of the
tiny Transformer is the synchronous best of the sweep in results/README.md; that
of the small one was tried alone; those of `paper` are the paper's; the rates of
the smaller RNNs are not tuned yet. `tiny` and `small` stop after fewer
or more epochs than the paper's 8, for the sake of time.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments import paper
from stale_adam import experiment
from stale_adam.communication import Communication
from stale_adam.nmt import batches, corpus
from stale_adam.train import Budget


@dataclasses.dataclass(frozen=True)
class Scale:
  """What a run of this size looks like unless flags say otherwise."""

  vocabulary: int
  shape: batches.Shape
  sizes: Mapping[str, Mapping[str, Any]]  # By model.
  learning_rate: Mapping[str, float]  # By model.
  warmup_updates: Mapping[str, int]  # By model.
  decay_after: int
  budget: Budget
  validation_beam: int


SCALES = {
  'tiny': Scale(
    vocabulary=800,
    shape=batches.Shape(rows=4, source=48, target=48),
    sizes={
      'transformer': {
        'size': 64,
        'hidden': 256,
        'heads': 4,
        'depth': 2,
        'dropout': 0.1,
      },
      'rnn': {
        'size': 64,
        'hidden': 64,
        'encoder_depth': 4,
        'decoder_depth': 8,
        'dropout': 0.1,
      },
    },
    learning_rate={'transformer': 0.003, 'rnn': 0.003},
    warmup_updates={'transformer': 400, 'rnn': 0},
    decay_after=400,
    budget=Budget(epochs=6, validate_every=100_000, patience=5),
    validation_beam=1,
  ),
  'small': Scale(
    vocabulary=4000,
    shape=batches.Shape(rows=8, source=64, target=64),
    sizes={
      'transformer': {
        'size': 128,
        'hidden': 512,
        'heads': 4,
        'depth': 2,
        'dropout': 0.1,
      },
      'rnn': {
        'size': 128,
        'hidden': 256,
        'encoder_depth': 4,
        'decoder_depth': 8,
        'dropout': 0.1,
      },
    },
    learning_rate={'transformer': 0.0015, 'rnn': 0.003},
    warmup_updates={'transformer': 500, 'rnn': 0},
    decay_after=500,
    budget=Budget(epochs=16, validate_every=400_000, patience=5),
    validation_beam=1,
  ),
  'paper': Scale(
    vocabulary=36_000,
    shape=batches.Shape(rows=64, source=128, target=128),
    sizes={
      'transformer': {
        'size': 512,
        'hidden': 2048,
        'heads': 8,
        'depth': 6,
        'dropout': 0.1,
      },
      'rnn': {
        'size': 512,
        'hidden': 1024,
        'encoder_depth': 4,
        'decoder_depth': 8,
        'dropout': 0.1,
      },
    },
    learning_rate={'transformer': 0.0003, 'rnn': 0.0006},
    warmup_updates={'transformer': 16_000, 'rnn': 0},
    decay_after=16_000,
    budget=Budget(epochs=8, validate_every=40_000_000, patience=5),
    validation_beam=6,
  ),
}


def settings(
  scale: str,
  model: str,
  communication: Communication,
  seed: int = 0,
  **changes: Any,
) -> experiment.Settings:
  """A scale's settings; `changes` replaces any of them that is not None."""
  size = SCALES[scale]
  made = experiment.Settings(
    model=model,
    sizes=size.sizes[model],
    vocabulary=size.vocabulary,
    shape=size.shape,
    communication=communication,
    learning_rate=size.learning_rate[model],
    warmup_updates=size.warmup_updates[model],
    decay_after=size.decay_after,
    words_per_second=paper.WORDS_PER_SECOND[model],
    budget=size.budget,
    validation_beam=size.validation_beam,
    seed=seed,
  )
  changes = {k: v for k, v in changes.items() if v is not None}
  made = dataclasses.replace(made, **changes)
  # A longer warm-up puts the decay off: the peak is always reached.
  decay_after = max(made.decay_after, made.warmup_updates)
  return dataclasses.replace(made, decay_after=decay_after)


def load(scale: str, pair: str, data_dir: str | None) -> corpus.Corpus:
  """The corpus of a scale: the grammar, files in `data_dir`, or WMT.

  Raises:
    ValueError: if anything but `tiny` is asked for without a `data_dir`.
  """
  if scale == 'tiny' and data_dir is None:
    return corpus.tiny(pair=pair)
  if data_dir is None:
    raise ValueError(
      f'--scale={scale} reads a corpus from disk: name its directory by '
      '--data_dir'
    )
  if scale == 'paper':
    return corpus.wmt(pair, data_dir)
  return corpus.directory(data_dir, pair)
