"""Sizes of everything: `tiny`, `small` and `paper`, and `micro` to rehearse.

What differs between scales is here and nowhere else. As in the paper, the
Transformer's learning rate is near the synchronous best and the RNN's is twice
that; Table 1 has others. `tiny` and `small` stop after fewer epochs than the
paper's 8, for the sake of time, and have no dropout: what limits them in that
time is not overfitting.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments import grammar
from experiments.ledger import execute as experiment
from experiments.paper import printed as paper
from stale_adam.nmt.data import batches, corpus
from stale_adam.policy import Communication
from stale_adam.training.loop import Budget


@dataclasses.dataclass(frozen=True)
class Scale:
  """What a run of this size looks like unless flags say otherwise."""

  vocabulary: int
  shape: batches.Shape
  sizes: Mapping[str, Mapping[str, Any]]  # By model.
  learning_rate: Mapping[str, float]  # By model.
  warmup_updates: Mapping[str, int]  # By model.
  decay_after: int
  budget: Mapping[str, Budget]  # By model.
  validation_beam: int
  pairs: Mapping[str, str]  # What stands for the paper's language pairs.


MODELS = ('transformer', 'rnn')

SCALES = {
  'micro': Scale(
    vocabulary=120,
    shape=batches.Shape(rows=1, source=48, target=64),
    sizes={
      'transformer': {
        'size': 8,
        'hidden': 16,
        'heads': 2,
        'depth': 1,
        'dropout': 0.0,
      },
      'rnn': {
        'size': 8,
        'hidden': 8,
        'encoder_depth': 1,
        'decoder_depth': 2,
        'dropout': 0.0,
      },
    },
    learning_rate={'transformer': 0.003, 'rnn': 0.006},
    warmup_updates={'transformer': 8, 'rnn': 0},
    decay_after=8,
    budget=dict.fromkeys(
      MODELS, Budget(epochs=0.05, validate_every=600, patience=5)
    ),
    validation_beam=1,
    pairs={'en-de': 'en-de', 'en-fi': 'de-en'},
  ),
  'tiny': Scale(
    vocabulary=800,
    shape=batches.Shape(rows=2, source=48, target=48),
    sizes={
      'transformer': {
        'size': 64,
        'hidden': 256,
        'heads': 4,
        'depth': 1,
        'dropout': 0.0,
      },
      'rnn': {
        'size': 64,
        'hidden': 64,
        'encoder_depth': 2,
        'decoder_depth': 4,
        'dropout': 0.0,
      },
    },
    learning_rate={'transformer': 0.003, 'rnn': 0.006},
    warmup_updates={'transformer': 600, 'rnn': 0},
    decay_after=600,
    budget={
      'transformer': Budget(epochs=3, validate_every=60_000, patience=5),
      'rnn': Budget(epochs=1, validate_every=20_000, patience=5),
    },
    validation_beam=1,
    pairs={'en-de': 'en-de', 'en-fi': 'de-en'},
  ),
  'small': Scale(
    vocabulary=2000,
    shape=batches.Shape(rows=4, source=64, target=64),
    sizes={
      'transformer': {
        'size': 128,
        'hidden': 512,
        'heads': 4,
        'depth': 1,
        'dropout': 0.0,
      },
      'rnn': {
        'size': 128,
        'hidden': 128,
        'encoder_depth': 2,
        'decoder_depth': 4,
        'dropout': 0.0,
      },
    },
    learning_rate={'transformer': 0.003, 'rnn': 0.006},
    warmup_updates={'transformer': 500, 'rnn': 0},
    decay_after=500,
    budget={
      'transformer': Budget(epochs=5, validate_every=300_000, patience=5),
      'rnn': Budget(epochs=2, validate_every=120_000, patience=5),
    },
    validation_beam=1,
    pairs={'en-de': 'en-de', 'en-fi': 'en-fr', 'en-ru': 'en-cs'},
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
    budget=dict.fromkeys(
      MODELS, Budget(epochs=8, validate_every=40_000_000, patience=5)
    ),
    validation_beam=6,
    pairs={pair: pair for pair in paper.TEST},
  ),
}


def rate_factor(scale: str) -> float:
  """Learning rates of a scale, over those that the paper prints."""
  ours = SCALES[scale].learning_rate['transformer']
  return ours / paper.LEARNING_RATE['transformer']


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
    budget=size.budget[model],
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
    return grammar.corpus(pair=pair)
  if scale == 'micro' and data_dir is None:
    return grammar.corpus(train=1_000, validation=8, test=8, pair=pair)
  if data_dir is None:
    raise ValueError(
      f'--scale={scale} reads a corpus from disk: name its directory by '
      '--data_dir'
    )
  if scale == 'paper':
    return corpus.wmt(pair, data_dir)
  return corpus.directory(data_dir, pair)
