"""The training loop, written once for every policy and every pool."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import optax

from stale_adam.policy import Policy
from stale_adam.pools.contract import Pool, WorkerHangs, WorkerLost
from stale_adam.server import Reply, Server, serve
from stale_adam.training import flat_problem, resume
from stale_adam.training.course import Course, Outcome, progress_bar
from stale_adam.training.task import Budget, Task
from stale_adam.transforms import smoothing
from stale_adam.worker import Push, Worker


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
    optimizer: any optax transformation. If it has smoothed parameters, as
      `transforms.smooth` keeps them, they are validated and kept.
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
    WorkerHangs, WorkerLost: from the pool, when the state has been saved.
  """
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
  bar = progress_bar(title, task, budget)
  course = Course(task, form, budget, out, metadata, bar, begun and begun[1])
  saver = resume.Saver(out, save_seconds)
  saves = save_seconds is not None

  def save(server: Server) -> None:
    progress = course.progress(pool.state())
    saver.save(resume.capture(server, progress), identity)

  server: Server | None = None
  # Until everything is closed: a second signal does not wait for that.
  with resume.signals() as caught:
    try:
      for server, validated in _points(course, arrivals, pool):
        if not resume.whole(server):
          continue
        if saves and (validated or caught or saver.due()):
          save(server)
        if caught:
          break
    except (WorkerHangs, WorkerLost) as error:
      # The last server is as it was yielded.
      if saves and server and resume.whole(server):
        save(server)
        error.add_note(course.told(saves))
      raise
    finally:
      pool.close()
      course.close()
      bar.close()
      saver.wait()
  if caught:
    raise resume.Interrupted(caught[0], course.told(saves))
  return course.outcome()


def _points(
  course: Course, arrivals: Iterator[tuple[Push, Server]], pool: Pool
) -> Iterator[tuple[Server, bool]]:
  """Yields the server after every arrival, and whether it was validated."""
  if course.done():  # Resumed where it had ended.
    return

  def validated(server: Server) -> Iterator[tuple[Server, bool]]:
    jax.block_until_ready(server.params)
    with course.paused(), pool.paused():
      params = smoothing.evaluated(server.params, server.optimizer_state)
      course.validate(params, server.version)
      yield server, True

  course.start()
  server, shown = None, getattr(pool, 'shown', dict)
  for push, server in arrivals:
    course.show(shown())
    if not course.add(push):
      yield server, False
      continue
    yield from validated(server)
    if course.done():
      return
  if server is not None and course.unvalidated():
    yield from validated(server)
