"""The training loop, written once for every communication and every pool."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import optax
import tensorboardX
import tqdm

from stale_adam import server
from stale_adam.policy import Communication
from stale_adam.problem import Params, Problem
from stale_adam.trace import Trace
from stale_adam.training import checkpoint


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
  trace: Trace
  seconds: float  # Spent on training; validation not counted.

  @property
  def best(self) -> dict[str, Any]:
    """The point of the curve with the best parameters."""
    return max(self.curve, key=_merit)

  def words_per_second(self) -> dict[str, float]:
    """Target words a second, by the pool's clock and by the wall's."""
    last = self.curve[-1]
    # A clock that starts with the first update may not have started.
    virtual = last['virtual_seconds'] or float('nan')
    return {
      'virtual': last['target_words'] / virtual,
      'measured': last['target_words'] / max(self.seconds, 1e-9),
    }


def train(
  task: Task,
  optimizer: optax.GradientTransformation,
  communication: Communication,
  pool: Any,
  budget: Budget,
  seed: int,
  out: Path,
  about: dict[str, Any],
  title: str = 'train',
  measure: Callable[..., Mapping[str, Any]] | None = None,
) -> Outcome:
  """Trains until the budget is spent or validation no longer improves.

  Or until nobody arrives any more: the order that the pool replays has ended.

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
    measure: as of `serve`; means between validations become events, every
      push's values columns of the trace.
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
  arrivals = server.serve(
    task.problem, optimizer, communication, pool, seed, measure=measure
  )
  writer = tensorboardX.SummaryWriter(str(out))
  run = _Run(task, budget, total, bar, pool)
  try:
    for point, params in run.points(arrivals):
      shown = {k: point[k] for k in ('train_loss', 'validation_loss', 'bleu')}
      for name, value in (shown | run.measured).items():
        writer.add_scalar(name, value, point['target_words'])
      if max(run.curve, key=_merit) is point:
        run.best_params = jax.tree.map(np.asarray, params)
        checkpoint.save(out / 'params.npz', run.best_params, about)
  finally:
    arrivals.close()
    pool.close()
    writer.close()
    bar.close()
  return Outcome(run.curve, run.best_params, Trace.of(run.pushes), run.seconds)


class _Run:
  """Counts what arrives, and says when to validate and when to stop."""

  def __init__(self, task: Task, budget: Budget, total: int, bar, pool):
    self.task, self.budget, self.total = task, budget, total
    self.bar, self.pool = bar, pool
    self.curve: list[dict[str, Any]] = []
    self.best_params: Params = None
    self.pushes: list[server.Push] = []
    self.measured: dict[str, float] = {}  # Means since the last validation.
    self.words = 0
    self.seconds = 0.0
    self._validated = 0  # Pushes.

  def points(self, arrivals: Iterator) -> Iterator[tuple[dict, Params]]:
    """Yields each validation's point of the curve and its parameters."""
    every = due = self.budget.validate_every
    began = time.monotonic()
    state = None
    for push, state in arrivals:
      words = sum(self.task.target_words(i) for i in push.ids)
      self.words += words
      self.pushes.append(push)
      self.bar.update(words)
      if self.words < min(due, self.total):
        continue
      due = (self.words // every + 1) * every
      yield from self._point(state, began)
      if self.words >= self.total or self._exhausted():
        return
      began = time.monotonic()
    if self._validated < len(self.pushes):
      yield from self._point(state, began)

  def _point(self, state: server.Server, began: float) -> Iterator:
    jax.block_until_ready(state.params)
    self.seconds += time.monotonic() - began
    with self.pool.paused():
      yield self._validate(state), state.params

  def _validate(self, state: server.Server) -> dict:
    new = jax.device_get(self.pushes[self._validated :])
    self.pushes[self._validated :] = new  # No longer on the device.
    self._validated = len(self.pushes)
    self.measured = {
      name: float(np.nanmean([push.measured[name] for push in new]))
      for name in new[-1].measured or ()
    }
    point = {
      'updates': state.version,
      'pushes': len(self.pushes),
      'target_words': self.words,
      'epochs': self.words / self.task.words_per_epoch,
      'virtual_seconds': new[-1].seconds,
      'seconds': self.seconds,
      'train_loss': float(np.mean([push.loss for push in new])),
      'validation_loss': self.task.validation_loss(state.params),
      'bleu': self.task.validation_bleu(state.params),
    }
    self.curve.append(point)
    best = max(p['bleu'] for p in self.curve)
    self.bar.set_postfix_str(
      f'loss {point["validation_loss"]:.3f}, BLEU {point["bleu"]:.1f} (best '
      f'{best:.1f}), staleness '
      f'{np.mean([p.staleness for p in self.pushes]):.2f}'
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
