"""Sizes of everything: `tiny`, `small`, `paper`, and `micro` for smoke tests.

A scale is the settings of each model. As in the paper, the Transformer's
learning rate is near the synchronous best, and the RNN's is twice that; Table 1
has others. The paper's text does not mention exponential smoothing; the public
Marian recipe whose settings it has smooths at 1e-4. `tiny` trains its
Transformer for the paper's 8 epochs and its RNN for 4, until curves rise by
little, and smooths at 2e-3, because a run has fewer updates. It validates more
often. At high rates its loss rises until the warm-up ends, after a fifth of the
run, and falls again: its patience outlasts that. `small` trains its Transformer
for 12 epochs and its RNN for 4, smooths at 3e-3, and has dropout, as `paper`;
`tiny` has none.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.ledger import methods
from experiments.ledger import settings as settings_lib
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from stale_adam.nmt.data.batches import Shape
from stale_adam.policy import Communication
from stale_adam.training.task import Budget


@dataclasses.dataclass(frozen=True)
class Scale:
  """The default settings of a scale.

  Attributes:
    models: settings by model.
    pairs: the scale's counterpart of each language pair of the paper.
    embedded: numbers of sentence pairs to train, validate and test on, which
      the grammar draws if no text is named; None if the scale needs a text.
  """

  models: Mapping[str, Settings]
  pairs: Mapping[str, str]
  embedded: tuple[int, int, int] | None = None


def _models(
  transformer: Mapping[str, Any], rnn: Mapping[str, Any], **both: Any
) -> dict[str, Settings]:
  """Settings of the models: their own, and those that they share.

  T-Fixup is a Transformer without warm-up.
  """
  own = {
    'transformer': transformer,
    'tfixup': transformer | {'warmup_updates': 0},
    'rnn': {'warmup_updates': 0} | rnn,
  }
  return {
    model: Settings(
      model=model,
      communication=Communication(paper.WORKERS, synchronous=True),
      words_per_second=paper.WORDS_PER_SECOND[
        'rnn' if model == 'rnn' else 'transformer'
      ],
      **both,
      **more,
    )
    for model, more in own.items()
  }


def _transformer(size: int, heads: int, depth: int, dropout: float) -> dict:
  return {
    'size': size,
    'hidden': 4 * size,
    'heads': heads,
    'depth': depth,
    'dropout': dropout,
  }


def _rnn(size: int, hidden: int, encoder: int, dropout: float) -> dict:
  return {
    'size': size,
    'hidden': hidden,
    'encoder_depth': encoder,
    'decoder_depth': 2 * encoder,
    'dropout': dropout,
  }


SCALES = {
  'micro': Scale(
    _models(
      transformer={
        'sizes': _transformer(8, 2, 1, 0.0) | {'hidden': 16},
        'learning_rate': 0.003,
        'warmup_updates': 8,
      },
      rnn={'sizes': _rnn(8, 8, 1, 0.0), 'learning_rate': 0.006},
      vocabulary=120,
      shape=Shape(rows=1, source=48, target=64),
      decay_after=8,
      budget=Budget(epochs=0.05, validate_every=600, patience=5),
    ),
    pairs={'en-de': 'en-de', 'en-fi': 'de-en'},
    embedded=(1_000, 8, 8),
  ),
  'tiny': Scale(
    _models(
      transformer={
        'sizes': _transformer(64, 4, 1, 0.0),
        'learning_rate': 0.0045,
        'warmup_updates': 1600,
        'budget': Budget(epochs=8, validate_every=60_000, patience=40),
      },
      rnn={
        'sizes': _rnn(64, 64, 2, 0.0),
        'learning_rate': 0.009,
        'budget': Budget(epochs=4, validate_every=20_000, patience=60),
      },
      vocabulary=800,
      shape=Shape(rows=2, source=48, target=48),
      decay_after=1600,
      exponential_smoothing=0.002,
    ),
    pairs={'en-de': 'en-de', 'en-fi': 'de-en'},
    embedded=(24_000, 200, 200),
  ),
  'small': Scale(
    _models(
      transformer={
        'sizes': _transformer(128, 4, 2, 0.1),
        'learning_rate': 0.003,
        'warmup_updates': 1000,
        'budget': Budget(epochs=12, validate_every=300_000, patience=20),
      },
      rnn={
        'sizes': _rnn(128, 128, 2, 0.1),
        'learning_rate': 0.006,
        'budget': Budget(epochs=4, validate_every=120_000, patience=20),
      },
      vocabulary=4000,
      shape=Shape(rows=4, source=64, target=64),
      decay_after=1000,
      exponential_smoothing=0.003,
    ),
    pairs={'en-de': 'en-de', 'en-fi': 'en-fr', 'en-ru': 'en-cs'},
  ),
  'paper': Scale(
    _models(
      transformer={
        'sizes': _transformer(512, 8, 6, 0.1),
        'learning_rate': paper.LEARNING_RATE['transformer'],
        'warmup_updates': paper.WARMUP_UPDATES,
      },
      rnn={
        'sizes': _rnn(512, 1024, 4, 0.1),
        'learning_rate': paper.LEARNING_RATE['rnn'],
      },
      vocabulary=36_000,
      shape=Shape(rows=64, source=128, target=128),
      decay_after=paper.WARMUP_UPDATES,
      budget=Budget(paper.EPOCHS, 40_000_000, paper.PATIENCE),
      validation_beam=6,
      exponential_smoothing=1e-4,
    ),
    pairs={pair: pair for pair in paper.TEST},
  ),
}


def rate_factor(scale: str) -> float:
  """Learning rates of a scale over those that the paper prints."""
  ours = SCALES[scale].models['transformer'].learning_rate
  return ours / paper.LEARNING_RATE['transformer']


def settings(scale: str, model: str, **changes: Any) -> Settings:
  """A scale's settings of a model, with the fields in `changes` replaced.

  The schedule counts updates, as the paper's does. An update of more batches
  than the paper's four happens less often: warm-up and decay then take
  proportionally fewer updates, unless `changes` sets them. A longer warm-up
  delays the decay, so that the rate always reaches its peak.
  """
  base = SCALES[scale].models[model]
  communication = changes.get('communication', base.communication)
  method = changes.get('method', base.method)
  batches = max(4, methods.batches_per_update(method, communication))
  spans = {
    name: getattr(base, name) * 4 // batches
    for name in ('warmup_updates', 'decay_after')
  }
  made = dataclasses.replace(base, **(spans | changes))
  decay_after = max(made.decay_after, made.warmup_updates)
  return dataclasses.replace(made, decay_after=decay_after)


def name(scale: str, run: Settings) -> str:
  """A readable name, e.g. rnn-en-de-async-4-local1-global4-rate0.006-seed0.

  A setting that differs from the scale's default is appended with its value.
  """
  c = run.communication
  base = settings(scale, run.model, communication=c, method=run.method)
  parts = [
    run.model,
    run.pair,
    'sync' if c.synchronous else 'async',
    f'{c.workers}',
    f'local{c.local_accumulation}',
    f'global{c.pushes_per_update}',
  ]
  if c.pull_every > 1:
    parts.append(f'pull{c.pull_every}')
  if run.method != SCALES[scale].models[run.model].method:
    parts.append(_shown(run.method))
  if run.optimizer != base.optimizer:
    parts.append(run.optimizer.replace(' ', '_'))
  parts += [f'rate{run.learning_rate:g}', f'seed{run.seed}']
  usual, ours = settings_lib.leaves(base), settings_lib.leaves(run)
  for key in dict.fromkeys([*usual, *ours]):
    named = key in ('pair', 'optimizer', 'learning_rate', 'method', 'seed')
    if not named and usual.get(key) != ours.get(key):
      parts.append(f'{key}{_shown(ours.get(key))}')
  return '-'.join(parts)


def _shown(value: Any) -> str:
  if isinstance(value, tuple):
    return '_'.join(map(_shown, value))
  if isinstance(value, float):
    return f'{value:g}'
  return str(value).replace(' ', '_')
