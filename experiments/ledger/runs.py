"""Declares the runs behind tables and figures.

A run is declared with the paper's settings, those of the scale `paper`. For
another scale, `at` keeps what differs from the paper's usual settings.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

from experiments.ledger import scales
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from stale_adam.policy import Communication

COMMUNICATIONS = {
  paper.SYNC: Communication(paper.WORKERS, synchronous=True),
  paper.ASYNC: Communication(paper.WORKERS),
  paper.LOCAL: Communication(paper.WORKERS, local_accumulation=4),
  paper.COMBINED: Communication(paper.WORKERS, 2, 2),
  paper.GLOBAL: Communication(paper.WORKERS, global_accumulation=4),
}
SEEDS = (0, 1, 2)  # What most tables declare.
MOST_SEEDS = 10  # Tables show every record of seeds 0 to 9.
MORE_SEEDS = range(len(SEEDS), MOST_SEEDS)  # Where a verdict was undecided.


def base(
  model: str, communication: str | Communication, **changes: Any
) -> Settings:
  """A run with the paper's settings, except for `changes`.

  Args:
    model: 'transformer' or 'rnn'.
    communication: a row of Table 3 by name, or any other.
    **changes: any other fields of `Settings`.
  """
  if isinstance(communication, str):
    communication = COMMUNICATIONS[communication]
  usual = scales.SCALES['paper'].models[model]
  return dataclasses.replace(usual, communication=communication, **changes)


def at(scale: str, run: Settings) -> Settings:
  """The settings of the paper's run at a scale.

  The learning rate is the paper's times the scale's factor, and the language
  pair is the scale's counterpart of the paper's.

  Raises:
    KeyError: if the scale has no counterpart of the language pair.
  """
  usual = scales.SCALES['paper'].models[run.model]
  changes = {
    field.name: getattr(run, field.name)
    for field in dataclasses.fields(run)
    if getattr(run, field.name) != getattr(usual, field.name)
  }
  changes |= {
    'communication': run.communication,
    'learning_rate': run.learning_rate * scales.rate_factor(scale),
    'pair': scales.SCALES[scale].pairs[run.pair],
  }
  return scales.settings(scale, run.model, **changes)


@functools.cache  # A table asks for the same names many times.
def name(scale: str, run: Settings) -> str:
  """The name of the paper's run at a scale."""
  if run.seed:  # Tables look for ten seeds of each run.
    first = name(scale, run.with_seed(0))
    return first.replace('-seed0', f'-seed{run.seed}')
  return scales.name(scale, at(scale, run))


def seeds(
  runs: Iterable[Settings], numbers: Iterable[int] = SEEDS
) -> list[Settings]:
  """All runs, each with the seeds that most tables declare, or with others."""
  return [run.with_seed(seed) for run in runs for seed in numbers]


@functools.cache
def every_seed(run: Settings) -> tuple[Settings, ...]:
  """A run with each seed that it can have, whether declared or not."""
  return tuple(run.with_seed(seed) for seed in range(MOST_SEEDS))
