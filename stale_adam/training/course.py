"""A run on its way: what arrived, its validations, and when it ends.

However the run is computed: its course is the same for the same arrivals.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorboardX
import tqdm

from stale_adam.problem import Params
from stale_adam.trace import Trace, used_staleness
from stale_adam.training import checkpoint, resume
from stale_adam.training.flat_problem import Form
from stale_adam.training.task import Budget, Task
from stale_adam.worker import Push


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


class Course:
  """Counts what arrives, validates, and decides when to validate and stop.

  Args:
    task: what is learnt.
    form: its problem as it is trained.
    budget: how long to train.
    out: directory for the best parameters so far (params.npz) and TensorBoard
      events.
    metadata: stored with the parameters.
    bar: shows the progress, of one run or of several; see `progress_bar`.
    begun: what the run has come to, if it is resumed.
    together: runs that train as one program with this one; see `together`.

  Attributes:
    curve: validations so far.
    units: trained on so far.
    seconds: spent on training until the last pause.
  """

  def __init__(
    self,
    task: Task,
    form: Form,
    budget: Budget,
    out: Path,
    metadata: dict[str, Any],
    bar: tqdm.tqdm,
    begun: resume.Progress | None = None,
    together: int = 0,
  ):
    self._task, self._form, self._budget, self._out = task, form, budget, out
    self._metadata, self._bar, self._together = metadata, bar, together
    self._total = int(budget.epochs * task.units_per_epoch)
    self.curve: list[dict[str, Any]] = []
    self.units = 0
    self.seconds = 0.0
    self._best: Params = None  # In the form that is trained.
    self._pushes: list[Push] = []  # Those that are in no part yet.
    self._parts: list[Trace] = []
    self._validated = 0  # Pushes.
    self._began: float | None = None
    self._shown: tuple[str, Mapping[str, str]] = ('', {})
    if begun:
      self.curve = [dict(point) for point in begun.curve]
      self._best, self.units = begun.best, begun.units
      self.seconds, self._validated = begun.seconds, begun.validated
      self._parts = [begun.arrived]
      advance(bar, self.units)
    self._writer = tensorboardX.SummaryWriter(str(out))

  def start(self) -> None:
    """Begins to count the seconds of training."""
    self._began = time.monotonic()

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Seconds in the block do not count as training."""
    self.seconds, self._began = self._training(), None
    yield
    self.start()

  def _training(self) -> float:
    """Seconds spent on training so far."""
    running = 0.0 if self._began is None else time.monotonic() - self._began
    return self.seconds + running

  def spent(self, seconds: float) -> None:
    """Counts seconds of training, where `start` does not."""
    self.seconds += seconds

  def units_of(self, push: Push) -> int:
    """Units of the batches of a push."""
    return sum(self._task.units(batch_id) for batch_id in push.ids)

  def due(self, before: int, after: int) -> bool:
    """Whether a push that leads to so many units is followed by validation."""
    every = self._budget.validate_every
    return after >= min((before // every + 1) * every, self._total)

  def spends(self, units: int) -> bool:
    """Whether so many units spend the budget."""
    return units >= self._total

  def add(self, push: Push) -> bool:
    """Counts a push; returns whether the run is to be validated now."""
    units = self.units_of(push)
    self.units += units
    self._pushes.append(push)
    self._bar.update(units)
    return self.due(self.units - units, self.units)

  def arrived(self) -> Trace:
    """The pushes so far."""
    if self._pushes:
      self._parts.append(Trace.of(jax.device_get(self._pushes)))
      self._pushes = []
      joined = Trace.joined(self._parts)
      together = max(self._together, joined.settings.get('together', 0))
      if together:
        known = {**joined.settings, 'together': together}
        joined = dataclasses.replace(joined, settings=known)
      self._parts = [joined]
    return self._parts[0] if self._parts else Trace.joined([])

  def unvalidated(self) -> bool:
    """Whether pushes arrived since the last validation."""
    return self._validated < len(self.arrived())

  def done(self) -> bool:
    """Whether the budget is spent or validation no longer improves.

    That is, the last `patience` validations brought no lower loss. Only a
    validation ends a run.
    """
    if not self._validated or self.unvalidated():
      return False
    if self.spends(self.units):
      return True
    losses = [p['validation_loss'] for p in self.curve]
    finite = [loss if np.isfinite(loss) else np.inf for loss in losses]
    return len(finite) - 1 - int(np.argmin(finite)) >= self._budget.patience

  def validate(self, params: Params, version: int) -> None:
    """Adds a point to the curve and its events; keeps the best parameters.

    Args:
      params: in force, or smoothed, in the form that is trained.
      version: updates applied so far.
    """
    task, trace = self._task, self.arrived()
    own = self._form.params(params)
    new = {k: c[self._validated :] for k, c in trace.columns.items()}
    self._validated = len(trace)
    point = {
      'updates': version,
      'pushes': len(trace),
      task.unit: self.units,
      'epochs': self.units / task.units_per_epoch,
      'virtual_seconds': float(trace.seconds[-1]),
      'seconds': self.seconds,
      'train_loss': float(np.mean(new['loss'])),
      'validation_loss': task.validation_loss(own),
      task.metric: task.validation_score(own),
    }
    self.curve.append(point)
    self._show(point, float(np.mean(used_staleness(trace.columns))))
    measured = {
      name: float(np.nanmean(column))
      for name, column in new.items()
      if name not in Trace.KNOWN
    }
    shown = {
      name: point[name]
      for name in ('train_loss', 'validation_loss', task.metric)
    }
    for name, value in (shown | measured).items():
      self._writer.add_scalar(name, value, self.units)
    if max(self.curve, key=_merit(task.metric)) is point:
      self._best = jax.tree.map(np.array, params)
      path = self._out / 'params.npz'
      checkpoint.save(path, self._best_params(), self._metadata)

  def _best_params(self) -> Params:
    """The parameters with the best validation, as the task has them."""
    return jax.tree.map(np.asarray, self._form.params(self._best))

  def _show(self, point: Mapping[str, Any], staleness: float) -> None:
    metric = self._task.metric
    best = max(p[metric] for p in self.curve)
    said = (
      f'loss {point["validation_loss"]:.3f}, {metric} {point[metric]:.4g} '
      f'(best {best:.4g}), staleness {staleness:.2f}'
    )
    self._shown = said, self._shown[1]
    self._write()

  def show(self, pool: Mapping[str, str]) -> None:
    """Shows what is known of the pool beside the last validation."""
    if pool != self._shown[1]:
      self._shown = self._shown[0], pool
      self._write()

  def _write(self) -> None:
    said, pool = self._shown
    parts = [said, *(f'{name} {value}' for name, value in pool.items())]
    self._bar.set_postfix_str(', '.join(filter(None, parts)))

  def progress(self, pool: Mapping[str, Any]) -> resume.Progress:
    """What the run has come to, with the state of its pool."""
    return resume.Progress(
      pool,
      self.curve,
      self.units,
      self._training(),
      self._validated,
      self._best,
      self.arrived(),
    )

  def told(self, saved: bool) -> str:
    """What to say of the run when it is interrupted."""
    count = len(self.arrived())
    if not saved:
      return f'interrupted after {count} pushes; no state was saved'
    return (
      f'interrupted after {count} pushes, state saved in {self._out}: rerun '
      'the same command to resume'
    )

  def outcome(self) -> Outcome:
    """What training leaves behind."""
    found = self._best_params(), self.arrived(), self.seconds
    return Outcome(self.curve, *found, self._task)

  def close(self) -> None:
    """Ends the events."""
    self._writer.close()


def advance(bar: tqdm.tqdm, units: int) -> None:
  """Counts units that are no progress of this process: its speed ignores them.

  `bar.update` would take them for an instant's work, and say that little time
  is left.
  """
  bar.initial += units
  bar.n += units
  bar.last_print_n += units
  bar.refresh()


def progress_bar(
  title: str, task: Task, budget: Budget, runs: int = 1
) -> tqdm.tqdm:
  """A progress bar of runs of equal tasks."""
  return tqdm.tqdm(
    total=runs * int(budget.epochs * task.units_per_epoch),
    desc=title,
    unit=f' {task.unit}',
    unit_scale=True,
    dynamic_ncols=True,
    mininterval=0.5 if sys.stderr.isatty() else 30.0,  # Few lines in a file.
  )


def _merit(metric: str) -> Callable[[dict], tuple[float, float]]:
  """Orders validations by the metric, then by the loss where that is equal."""

  def merit(point: dict) -> tuple[float, float]:
    loss = point['validation_loss']
    return point[metric], -loss if np.isfinite(loss) else -np.inf

  return merit
