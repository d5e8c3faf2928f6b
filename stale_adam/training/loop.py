"""The training loop, written once for every policy and every pool."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import tensorboardX
import tqdm

from stale_adam.policy import Policy
from stale_adam.pools.contract import Pool
from stale_adam.problem import Params
from stale_adam.server import Reply, Server, serve
from stale_adam.trace import Trace
from stale_adam.training import checkpoint
from stale_adam.training.task import Budget, Task
from stale_adam.worker import Push, Worker


@dataclasses.dataclass
class Outcome:
  """What training leaves behind.

  Attributes:
    curve: a point for each validation, with the fields of the result record.
    best_params: the parameters with the best validation.
    trace: who arrived when.
    seconds: spent on training; validation is not counted.
    task: what was learnt.
  """

  curve: list[dict[str, Any]]
  best_params: Params
  trace: Trace
  seconds: float
  task: Task

  @property
  def best(self) -> dict[str, Any]:
    """The point of the curve that has the best parameters."""
    return max(self.curve, key=_merit(self.task.metric))

  def speed(self) -> dict[str, float]:
    """Units a second, by the pool's clock and by the wall clock."""
    last = self.curve[-1]
    # A clock that starts with the first update may not have started.
    virtual = last['virtual_seconds'] or float('nan')
    return {
      'virtual': last[self.task.unit] / virtual,
      'measured': last[self.task.unit] / max(self.seconds, 1e-9),
    }


def train(
  task: Task,
  optimizer: optax.GradientTransformation,
  policy: Policy,
  pool: Pool,
  budget: Budget,
  seed: int,
  out: Path,
  metadata: dict[str, Any],
  title: str = 'train',
  *,
  per_push: optax.GradientTransformation | None = None,
  worker: Worker | None = None,
  reply: Reply | None = None,
  measure: Callable[..., Mapping[str, Any]] | None = None,
) -> Outcome:
  """Trains until the budget is spent or validation no longer improves.

  Also ends when nobody arrives any more, as at the end of a replayed order.

  Args:
    task: what is learnt.
    optimizer: any optax transformation.
    policy: who is used, when to update, who is answered.
    pool: where the workers run; closed at the end.
    budget: how long to train.
    seed: of parameters and dropout.
    out: directory for the best parameters so far (params.npz) and TensorBoard
      events.
    metadata: stored with the parameters.
    title: of the progress bar.
    per_push: transformation of every push before the sum; as of `serve`.
    worker: what a worker sends and remembers; as of `serve`.
    reply: what a pull returns; as of `serve`.
    measure: as of `serve`. Means between validations become events; the values
      of every push become columns of the trace.
  """
  total = int(budget.epochs * task.units_per_epoch)
  bar = tqdm.tqdm(
    total=total,
    desc=title,
    unit=f' {task.unit}',
    unit_scale=True,
    dynamic_ncols=True,
    mininterval=0.5,
  )
  arrivals = serve(
    task.problem,
    optimizer,
    policy,
    pool,
    seed,
    per_push=per_push,
    worker=worker,
    reply=reply,
    measure=measure,
  )
  writer = tensorboardX.SummaryWriter(str(out))
  run = _Run(task, budget, total, bar, pool)
  try:
    for point, params in run.points(arrivals):
      names = ('train_loss', 'validation_loss', task.metric)
      shown = {name: point[name] for name in names}
      for name, value in (shown | run.measured).items():
        writer.add_scalar(name, value, point[task.unit])
      if max(run.curve, key=_merit(task.metric)) is point:
        run.best_params = jax.tree.map(np.asarray, params)
        checkpoint.save(out / 'params.npz', run.best_params, metadata)
  finally:
    pool.close()
    writer.close()
    bar.close()
  arrived = Trace.of(run.pushes)
  return Outcome(run.curve, run.best_params, arrived, run.seconds, task)


class _Run:
  """Counts what arrives, and decides when to validate and when to stop."""

  def __init__(
    self, task: Task, budget: Budget, total: int, bar: tqdm.tqdm, pool: Pool
  ):
    self.task, self.budget, self.total = task, budget, total
    self.bar, self.pool = bar, pool
    self.curve: list[dict[str, Any]] = []
    self.best_params: Params = None
    self.pushes: list[Push] = []
    self.measured: dict[str, float] = {}  # Means since the last validation.
    self.units = 0
    self.seconds = 0.0
    self._validated = 0  # Pushes.

  def points(
    self, arrivals: Iterator[tuple[Push, Server]]
  ) -> Iterator[tuple[dict[str, Any], Params]]:
    """Yields each validation's point of the curve and its parameters."""
    every = due = self.budget.validate_every
    began = time.monotonic()
    for push, server in arrivals:
      units = sum(self.task.units(batch_id) for batch_id in push.ids)
      self.units += units
      self.pushes.append(push)
      self.bar.update(units)
      if self.units < min(due, self.total):
        continue
      due = (self.units // every + 1) * every
      yield from self._point(server, began)
      if self.units >= self.total or self._exhausted():
        return
      began = time.monotonic()
    if self._validated < len(self.pushes):
      yield from self._point(server, began)

  def _point(
    self, server: Server, began: float
  ) -> Iterator[tuple[dict[str, Any], Params]]:
    jax.block_until_ready(server.params)
    self.seconds += time.monotonic() - began
    with self.pool.paused():
      yield self._validate(server), server.params

  def _validate(self, server: Server) -> dict[str, Any]:
    task = self.task
    new = jax.device_get(self.pushes[self._validated :])
    self.pushes[self._validated :] = new  # No longer on the device.
    self._validated = len(self.pushes)
    self.measured = {
      name: float(np.nanmean([push.measured[name] for push in new]))
      for name in new[-1].measured or ()
    }
    point = {
      'updates': server.version,
      'pushes': len(self.pushes),
      task.unit: self.units,
      'epochs': self.units / task.units_per_epoch,
      'virtual_seconds': new[-1].seconds,
      'seconds': self.seconds,
      'train_loss': float(np.mean([push.loss for push in new])),
      'validation_loss': task.validation_loss(server.params),
      task.metric: task.validation_score(server.params),
    }
    self.curve.append(point)
    best = max(p[task.metric] for p in self.curve)
    self.bar.set_postfix_str(
      f'loss {point["validation_loss"]:.3f}, {task.metric} '
      f'{point[task.metric]:.4g} (best {best:.4g}), staleness '
      f'{np.mean([p.staleness for p in self.pushes]):.2f}'
    )
    return point

  def _exhausted(self) -> bool:
    """Whether the last `patience` validations brought no lower loss."""
    losses = [p['validation_loss'] for p in self.curve]
    finite = [loss if np.isfinite(loss) else np.inf for loss in losses]
    return len(finite) - 1 - int(np.argmin(finite)) >= self.budget.patience


def _merit(metric: str) -> Callable[[dict], tuple[float, float]]:
  """Orders validations by the metric, then by the loss where that is equal."""

  def merit(point: dict) -> tuple[float, float]:
    loss = point['validation_loss']
    return point[metric], -loss if np.isfinite(loss) else -np.inf

  return merit
