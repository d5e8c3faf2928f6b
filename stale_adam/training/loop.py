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
from stale_adam.pools.contract import Pool, WorkerHangs
from stale_adam.problem import Params
from stale_adam.server import Reply, Server, serve
from stale_adam.trace import Trace
from stale_adam.training import checkpoint, flat_problem, resume
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
  save_seconds: float | None = None,
  identity: Mapping[str, Any] | None = None,
  per_push: optax.GradientTransformation | None = None,
  worker: Worker | None = None,
  reply: Reply | None = None,
  measure: Callable[..., Mapping[str, Any]] | None = None,
) -> Outcome:
  """Trains until the budget is spent or validation no longer improves.

  Also ends when nobody arrives any more, as at the end of a replayed order. If
  `out` holds a saved state, the run continues from there: on a virtual clock
  bit for bit as if it had not been interrupted.

  Args:
    task: what is learnt.
    optimizer: any optax transformation.
    policy: who is used, when to update, who is answered.
    pool: where the workers run; closed at the end.
    budget: how long to train.
    seed: of parameters and dropout.
    out: directory for the best parameters so far (params.npz), the state of the
      run (two files in turn) and TensorBoard events.
    metadata: stored with the parameters.
    title: of the progress bar.
    save_seconds: least time between two saved states, besides those at every
      validation; None saves none.
    identity: which run it is, as JSON holds it: a state of another is refused.
    per_push: transformation of every push before the sum; as of `serve`.
    worker: what a worker sends and remembers; as of `serve`.
    reply: what a pull returns; as of `serve`.
    measure: as of `serve`. Means between validations become events; the values
      of every push become columns of the trace.

  Raises:
    ValueError: if `out` holds the state of another run.
    Interrupted: after SIGINT or SIGTERM, when the state has been saved.
    WorkerHangs: from the pool, when the state has been saved.
  """
  total = int(budget.epochs * task.units_per_epoch)
  form = flat_problem.unchanged(task.problem)
  if worker is None and reply is None and measure is None:
    form = flat_problem.form(task.problem, optimizer, per_push)
  begun = resume.load(
    *(out, identity, form.problem, optimizer, policy, pool, seed),
    *(per_push, worker),
  )
  arrivals = serve(
    form.problem,
    optimizer,
    policy,
    pool,
    seed,
    per_push=per_push,
    worker=worker,
    reply=reply,
    resume=begun and begun[0],
    measure=measure,
  )
  bar = tqdm.tqdm(
    total=total,
    desc=title,
    unit=f' {task.unit}',
    unit_scale=True,
    dynamic_ncols=True,
    mininterval=0.5,
    initial=begun[1].units if begun else 0,
  )
  writer = tensorboardX.SummaryWriter(str(out))
  run = _Run(task, form, budget, total, bar, pool)
  if begun:
    run.go_on(begun[1])
  saver = resume.Saver(out, save_seconds)
  save = lambda s: saver.save(resume.capture(s, run.progress()), identity)
  server: Server | None = None
  # Until everything is closed: a second signal does not wait for that.
  with resume.signals() as caught:
    try:
      for server, point in run.points(arrivals):
        if point is not None:
          names = ('train_loss', 'validation_loss', task.metric)
          shown = {name: point[name] for name in names}
          for name, value in (shown | run.measured).items():
            writer.add_scalar(name, value, point[task.unit])
          if max(run.curve, key=_merit(task.metric)) is point:
            run.best = jax.tree.map(np.array, server.params)
            checkpoint.save(out / 'params.npz', run.best_params(), metadata)
        if not resume.whole(server):
          continue
        if save_seconds is not None:
          if point is not None or caught or saver.due():
            save(server)
        if caught:
          break
    except WorkerHangs as error:  # The last server is as it was yielded.
      if save_seconds is not None and server and resume.whole(server):
        save(server)
        error.add_note(run.told(out, save_seconds))
      raise
    finally:
      pool.close()
      writer.close()
      bar.close()
      saver.wait()
  if caught:
    raise resume.Interrupted(caught[0], run.told(out, save_seconds))
  return Outcome(run.curve, run.best_params(), run.arrived(), run.seconds, task)


class _Run:
  """Counts what arrives, and decides when to validate and when to stop."""

  def __init__(
    self,
    task: Task,
    form: flat_problem.Form,
    budget: Budget,
    total: int,
    bar: tqdm.tqdm,
    pool: Pool,
  ):
    self.task, self.form, self.budget, self.total = task, form, budget, total
    self.bar, self.pool = bar, pool
    self.curve: list[dict[str, Any]] = []
    self.best: Params = None  # In the form that is trained.
    self.measured: dict[str, float] = {}  # Means since the last validation.
    self.units = 0
    self.seconds = 0.0
    self._pushes: list[Push] = []  # Those that are in no part yet.
    self._parts: list[Trace] = []
    self._validated = 0  # Pushes.
    self._began: float | None = None

  def go_on(self, progress: resume.Progress) -> None:
    """Takes over what a run had come to."""
    self.curve = [dict(point) for point in progress.curve]
    self.best, self.units = progress.best, progress.units
    self.seconds, self._validated = progress.seconds, progress.validated
    self._parts = [progress.arrived]

  def progress(self) -> resume.Progress:
    """What the run has come to."""
    return resume.Progress(
      self.pool.state(),
      self.curve,
      self.units,
      self._training(),
      self._validated,
      self.best,
      self.arrived(),
    )

  def arrived(self) -> Trace:
    """The pushes so far."""
    if self._pushes:
      self._parts.append(Trace.of(jax.device_get(self._pushes)))
      self._pushes = []
    self._parts = [Trace.joined(self._parts)]
    return self._parts[0]

  def best_params(self) -> Params:
    """The parameters with the best validation, as the task has them."""
    return jax.tree.map(np.asarray, self.form.params(self.best))

  def told(self, out: Path, save_seconds: float | None) -> str:
    """What to say of an interrupted run."""
    count = len(self.arrived())
    if save_seconds is None:
      return f'interrupted after {count} pushes; no state was saved'
    return (
      f'interrupted after {count} pushes, state saved in {out}: rerun the same '
      'command to resume'
    )

  def points(
    self, arrivals: Iterator[tuple[Push, Server]]
  ) -> Iterator[tuple[Server, dict[str, Any] | None]]:
    """Yields the server after every arrival, and a validation where one is."""
    every = self.budget.validate_every
    due = (self.units // every + 1) * every
    if self._validated and self._done():  # Resumed where it had ended.
      return
    self._began = time.monotonic()
    server = None
    for push, server in arrivals:
      units = sum(self.task.units(batch_id) for batch_id in push.ids)
      self.units += units
      self._pushes.append(push)
      self.bar.update(units)
      if self.units < min(due, self.total):
        yield server, None
        continue
      due = (self.units // every + 1) * every
      yield from self._point(server)
      if self._done():
        return
    if server is not None and self._validated < len(self.arrived()):
      yield from self._point(server)

  def _training(self) -> float:
    """Seconds spent on training so far."""
    running = 0.0 if self._began is None else time.monotonic() - self._began
    return self.seconds + running

  def _point(self, server: Server) -> Iterator[tuple[Server, dict[str, Any]]]:
    jax.block_until_ready(server.params)
    self.seconds, self._began = self._training(), None
    with self.pool.paused():
      yield server, self._validate(server)
    self._began = time.monotonic()

  def _validate(self, server: Server) -> dict[str, Any]:
    task, trace = self.task, self.arrived()
    params = self.form.params(server.params)
    new = {k: c[self._validated :] for k, c in trace.columns.items()}
    self._validated = len(trace)
    self.measured = {
      name: float(np.nanmean(column))
      for name, column in new.items()
      if name not in Trace.KNOWN
    }
    point = {
      'updates': server.version,
      'pushes': len(trace),
      task.unit: self.units,
      'epochs': self.units / task.units_per_epoch,
      'virtual_seconds': float(trace.seconds[-1]),
      'seconds': self.seconds,
      'train_loss': float(np.mean(new['loss'])),
      'validation_loss': task.validation_loss(params),
      task.metric: task.validation_score(params),
    }
    self.curve.append(point)
    best = max(p[task.metric] for p in self.curve)
    self.bar.set_postfix_str(
      f'loss {point["validation_loss"]:.3f}, {task.metric} '
      f'{point[task.metric]:.4g} (best {best:.4g}), staleness '
      f'{np.mean(trace.columns["staleness"]):.2f}'
    )
    return point

  def _done(self) -> bool:
    """Whether the budget is spent or validation no longer improves.

    That is, the last `patience` validations brought no lower loss. Only a
    validation ends a run.
    """
    if self._validated < len(self.arrived()):
      return False
    if self.units >= self.total:
      return True
    losses = [p['validation_loss'] for p in self.curve]
    finite = [loss if np.isfinite(loss) else np.inf for loss in losses]
    return len(finite) - 1 - int(np.argmin(finite)) >= self.budget.patience


def _merit(metric: str) -> Callable[[dict], tuple[float, float]]:
  """Orders validations by the metric, then by the loss where that is equal."""

  def merit(point: dict) -> tuple[float, float]:
    loss = point['validation_loss']
    return point[metric], -loss if np.isfinite(loss) else -np.inf

  return merit
