"""The training loop, written once for every communication and every pool."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import optax
import tensorboardX
import tqdm

from stale_adam import checkpoint, server
from stale_adam.problem import Params, Problem
from stale_adam.trace import Trace


class Task(Protocol):
  """A problem whose parameters can be judged."""

  problem: Problem
  words_per_epoch: int  # Target words.

  def target_words(self, number: int) -> int:
    """Of batch `number`."""

  def validation_loss(self, params: Params) -> float:
    """Mean cross-entropy per target word; early stopping watches it."""

  def validation_bleu(self, params: Params) -> float:
    """The best parameters are those with the highest."""


@dataclasses.dataclass(frozen=True)
class Budget:
  """How long to train, as the paper's section 4.1.

  Attributes:
    epochs: stop after this many.
    validate_every: target words between two validations.
    patience: stop after this many validations in a row whose loss is no
      improvement.
  """

  epochs: float = 8
  validate_every: int = 100_000
  patience: int = 5

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if not getattr(self, field.name) > 0:
        raise ValueError(
          f'{field.name}={getattr(self, field.name)}: use a positive number'
        )


@dataclasses.dataclass
class Outcome:
  """What a run leaves behind; `curve` has the fields of the result record."""

  curve: list[dict[str, Any]]
  best_params: Params
  staleness: list[int]
  trace: Trace
  seconds: float  # Spent on training; validation not counted.

  @property
  def best(self) -> dict[str, Any]:
    """The point of the curve with the best parameters."""
    return max(self.curve, key=_merit)

  def words_per_second(self) -> dict[str, float]:
    """Target words a second, by the pool's clock and by the wall's."""
    last = self.curve[-1]
    return {
      'virtual': last['target_words'] / last['virtual_seconds'],
      'measured': last['target_words'] / max(self.seconds, 1e-9),
    }


def train(
  task: Task,
  optimizer: optax.GradientTransformation,
  communication: server.Communication,
  pool: Any,
  budget: Budget,
  seed: int,
  out: Path,
  about: dict[str, Any],
  title: str = 'train',
) -> Outcome:
  """Trains until the budget is spent or validation no longer improves.

  Args:
    task: what is learnt.
    optimizer: any optax transformation.
    communication: how workers and server talk.
    pool: where the workers run; closed at the end.
    budget: how long.
    seed: of parameters and dropout.
    out: directory that gets the best parameters so far (params.npz) and
      TensorBoard events.
    about: stored beside the parameters.
    title: of the progress bar.
  """
  total = int(budget.epochs * task.words_per_epoch)
  bar = tqdm.tqdm(
    total=total,
    desc=title,
    unit=' words',
    unit_scale=True,
    dynamic_ncols=True,
    mininterval=0.5,
  )
  arrivals = server.serve(task.problem, optimizer, communication, pool, seed)
  writer = tensorboardX.SummaryWriter(str(out))
  run = _Run(task, budget, total, bar)
  try:
    for point, params in run.points(arrivals):
      for name in ('train_loss', 'validation_loss', 'bleu'):
        writer.add_scalar(name, point[name], point['target_words'])
      if max(run.curve, key=_merit) is point:
        run.best_params = jax.tree.map(np.asarray, params)
        checkpoint.save(out / 'params.npz', run.best_params, about)
  finally:
    arrivals.close()
    pool.close()
    writer.close()
    bar.close()
  workers, seconds = zip(*run.arrivals, strict=True)
  return Outcome(
    curve=run.curve,
    best_params=run.best_params,
    staleness=run.staleness,
    trace=Trace(np.array(workers, np.int32), np.array(seconds)),
    seconds=run.seconds,
  )


class _Run:
  """Counts what arrives, and says when to validate and when to stop."""

  def __init__(self, task: Task, budget: Budget, total: int, bar: tqdm.tqdm):
    self.task, self.budget, self.total, self.bar = task, budget, total, bar
    self.curve: list[dict[str, Any]] = []
    self.best_params: Params = None
    self.staleness: list[int] = []
    self.arrivals: list[tuple[int, float]] = []
    self.words = 0
    self.seconds = 0.0
    self._losses: list[Any] = []

  def points(self, arrivals: Iterator) -> Iterator[tuple[dict, Params]]:
    """Yields each validation's point of the curve and its parameters."""
    every = due = self.budget.validate_every
    began = time.monotonic()
    for push, state in arrivals:
      words = sum(self.task.target_words(i) for i in push.ids)
      self.words += words
      self.staleness.append(push.staleness)
      self.arrivals.append((push.worker, push.seconds))
      self._losses.append(push.loss)
      self.bar.update(words)
      if self.words < min(due, self.total):
        continue
      due = (self.words // every + 1) * every
      jax.block_until_ready(state.params)
      self.seconds += time.monotonic() - began
      yield self._validate(push, state), state.params
      if self.words >= self.total or self._exhausted():
        return
      began = time.monotonic()

  def _validate(self, push: server.Push, state: server.State) -> dict:
    point = {
      'updates': state.version,
      'pushes': state.pushes,
      'target_words': self.words,
      'epochs': self.words / self.task.words_per_epoch,
      'virtual_seconds': push.seconds,
      'seconds': self.seconds,
      'train_loss': float(np.mean([float(x) for x in self._losses])),
      'validation_loss': self.task.validation_loss(state.params),
      'bleu': self.task.validation_bleu(state.params),
    }
    self._losses = []
    self.curve.append(point)
    best = max(p['bleu'] for p in self.curve)
    self.bar.set_postfix_str(
      f'loss {point["validation_loss"]:.3f}, BLEU {point["bleu"]:.1f} (best '
      f'{best:.1f}), staleness {np.mean(self.staleness):.2f}'
    )
    return point

  def _exhausted(self) -> bool:
    """Whether the last `patience` validations brought no lower loss."""
    losses = [p['validation_loss'] for p in self.curve]
    finite = [loss if np.isfinite(loss) else np.inf for loss in losses]
    return len(finite) - 1 - int(np.argmin(finite)) >= self.budget.patience


def _merit(point: dict) -> tuple[float, float]:
  """Orders validations: by BLEU, then by loss, for when nothing translates."""
  loss = point['validation_loss']
  return point['bleu'], -loss if np.isfinite(loss) else -np.inf
