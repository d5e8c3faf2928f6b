"""The runs that tables and figures are made of."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from experiments.ledger import execute as experiment
from experiments.ledger import scales
from experiments.paper import printed as paper
from stale_adam.policy import Communication

COMMUNICATIONS = {
  paper.SYNC: Communication(4, synchronous=True),
  paper.ASYNC: Communication(4),
  paper.LOCAL: Communication(4, local_accumulation=4),
  paper.COMBINED: Communication(4, 2, 2),
  paper.GLOBAL: Communication(4, global_accumulation=4),
}
SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Run:
  """What tells one run from another at the same scale.

  Attributes:
    model: 'transformer' or 'rnn'.
    communication: how workers and server talk.
    learning_rate: its peak, as the paper prints it; a scale has a factor.
    pair: the paper's language pair; a scale has one of its own for each.
    seed: of everything random.
    optimizer: one of `stale_adam.optimizer.NAMED`.
  """

  model: str
  communication: Communication
  learning_rate: float
  pair: str = 'en-de'
  seed: int = 0
  optimizer: str = 'adam'

  def settings(self, scale: str) -> experiment.Settings:
    """All of its settings at a scale."""
    size = scales.SCALES[scale]
    # The schedule counts updates, as the paper's. An update of more batches
    # than its four comes by less often: there it spans the same words.
    batches = max(4, self.communication.batches_per_update)
    return scales.settings(
      scale,
      self.model,
      self.communication,
      self.seed,
      learning_rate=self.learning_rate * scales.rate_factor(scale),
      warmup_updates=size.warmup_updates[self.model] * 4 // batches,
      decay_after=size.decay_after * 4 // batches,
      optimizer=self.optimizer,
    )

  def name(self, scale: str) -> str:
    """A readable id, e.g. rnn-en-de-async-4-local1-global4-rate0.006-seed0."""
    c = self.communication
    parts = [
      self.model,
      scales.SCALES[scale].pairs[self.pair],
      'sync' if c.synchronous else 'async',
      f'{c.workers}',
      f'local{c.local_accumulation}',
      f'global{c.pushes_per_update}',
    ]
    if c.pull_every > 1:
      parts.append(f'pull{c.pull_every}')
    if self.optimizer != 'adam':
      parts.append(self.optimizer.replace(' ', '_'))
    rate = self.learning_rate * scales.rate_factor(scale)
    return '-'.join([*parts, f'rate{rate:.3g}', f'seed{self.seed}'])


def base(model: str, communication: str | Communication, **changes: Any) -> Run:
  """A run at the paper's rate; of Table 3, if given a name of paper.py."""
  if isinstance(communication, str):
    communication = COMMUNICATIONS[communication]
  run = Run(model, communication, paper.LEARNING_RATE[model])
  return dataclasses.replace(run, **changes)


def seeds(runs: Iterable[Run]) -> list[Run]:
  """Each of them with every seed."""
  return [dataclasses.replace(r, seed=s) for r in runs for s in SEEDS]
