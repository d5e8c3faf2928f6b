"""A run of a group that trains as one program: its arrivals, known in advance.

On a virtual clock the order of arrivals does not depend on any parameters. So a
run's whole order is recorded first, with the places where it is validated. Its
state on disk is that of a run alone, which any other group can continue, or
`loop.train`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax
import tqdm

from stale_adam import server as server_lib
from stale_adam.clock import Clock
from stale_adam.compiled import decisions, legs
from stale_adam.policy import Policy
from stale_adam.pools.virtual import Dry
from stale_adam.problem import Params
from stale_adam.server import Server
from stale_adam.training import flat_problem, resume
from stale_adam.training.course import Course
from stale_adam.training.task import Budget, Task
from stale_adam.worker import Push, size

# Pushes between two places where a run can be saved, at most.
PUSHES = 256

# An optimizer from a run's rate, a scalar or a pytree of them.
Optimizer = Callable[[Any], optax.GradientTransformation]


class Entry(NamedTuple):
  """What a run of a group has of its own; the rest is as of `run.run`.

  Attributes:
    task: what is learnt. Tasks of a group share loss, shapes and length.
    rate: what the optimizer is made from.
    clock: who arrives when.
    out: the run's directory.
    identity: which run it is.
    seed: of parameters and batches.
    settings: more of what was run, kept in the trace.
    metadata: what is needed to use the parameters.
  """

  task: Task
  rate: Any
  clock: Clock
  out: Path
  identity: Mapping[str, Any]
  seed: int = 0
  settings: Mapping[str, Any] = {}
  metadata: Mapping[str, Any] = {}


class Cut(NamedTuple):
  """A place in a run's order where it can be validated or saved.

  Attributes:
    pushes: of the plan before it.
    validate: whether it is a validation.
    server: the server there, without arrays.
    pool: the state of the pool there.
  """

  pushes: int
  validate: bool
  server: Server
  pool: Mapping[str, Any]


class Member:
  """A run of a group: where it is, and what comes next.

  Args:
    entry: what the run has of its own.
    optimizer: of all runs of the group.
    policy: of all runs.
    budget: of all runs.
    bar: shows the progress of all runs.
    runs: how many the group has.
    save_seconds: as of `loop.train`.

  Attributes:
    entry: what the run has of its own.
    problem: in the form that is trained.
    course: of the run.
    versions: slots that a ring of its versions needs.
    cases: what its pushes do.

  Raises:
    ValueError: if the directory holds the state of another run.
  """

  def __init__(
    self,
    entry: Entry,
    optimizer: Optimizer,
    policy: Policy,
    budget: Budget,
    bar: tqdm.tqdm,
    runs: int,
    save_seconds: float | None,
  ):
    made = optimizer(entry.rate)
    form = flat_problem.form(entry.task.problem, made)
    self.entry, self.problem = entry, form.problem
    self._identity = resume.identity(entry.identity)
    self._saver = resume.Saver(entry.out, save_seconds)
    with Dry(entry.clock) as pool:
      begun = resume.load(
        *(entry.out, self._identity, form.problem, made, policy),
        *(pool, entry.seed),
      )
      known = entry.task, form, budget, entry.out, dict(entry.metadata), bar
      self.course = Course(*known, begun and begun[1], runs)
      params = lambda: form.problem.init(server_lib.keys(entry.seed)[0])
      self._server: Server | None = (
        begun[0] if begun else server_lib.init(made, params(), policy.workers)
      )
      self._pushes: list[Push] = []
      self._cuts: list[Cut] = []
      self._reached: Cut | None = None
      bare = decisions.bare(begun[0]) if begun else None
      self.versions = decisions.span(self._server)
      self._nbytes = size(self._server.params)  # Of a push.
      self._columns = decisions.stacked(self._rows(policy, pool, bare))
    cases = self._columns['case'].ravel()
    self.cases = {decisions.IDLE, *cases.tolist()}

  def _rows(
    self, policy: Policy, pool: Dry, begun: Server | None
  ) -> list[dict[str, Any]]:
    """The decisions of all pushes until the budget is spent."""
    rows: list[dict[str, Any]] = []
    if self.ended:
      return rows
    units, last = self.course.units, 0
    arrivals = decisions.dry(policy, pool, self.entry.seed, begun)
    for row, push, server in arrivals:
      rows.append(row)
      self._pushes.append(push._replace(nbytes=self._nbytes))
      before, units = units, units + self.course.units_of(push)
      due = self.course.due(before, units)
      self.versions = max(self.versions, decisions.span(server))
      if due or len(rows) - last == PUSHES:
        last = len(rows)
        self._cuts.append(Cut(last, due, server, pool.state()))
      if self.course.spends(units):
        break
    return rows

  @property
  def ended(self) -> bool:
    """Whether the run is at its end."""
    return self.course.done()

  def begin(self) -> Server:
    """The server where the run begins, with arrays."""
    assert self._server is not None
    return self._server

  def forget(self) -> None:
    """Frees the memory of what `begin` returns."""
    self._server = None

  def part(self, empty: bool = False) -> legs.Part:
    """The pushes up to the next cut; or none of them."""
    begin = self._count
    end = begin if empty else self._cuts[0].pushes
    columns = {name: x[begin:end] for name, x in self._columns.items()}
    return legs.Part(columns, self.problem.batch)

  @property
  def _count(self) -> int:
    """Pushes of the plan so far."""
    return self._reached.pushes if self._reached else 0

  def reach(self, losses: np.ndarray, seconds: float) -> None:
    """Counts the pushes up to the next cut.

    Args:
      losses: of these pushes.
      seconds: that they took.
    """
    begin, self._reached = self._count, self._cuts.pop(0)
    self.course.spent(seconds)
    pushes = self._pushes[begin : self._count]
    for push, loss in zip(pushes, losses, strict=True):
      self.course.add(push._replace(loss=loss))

  @property
  def to_validate(self) -> bool:
    """Whether the run is to be validated where it is."""
    return self._here.validate

  def validate(self, params: Params) -> None:
    """Validates the run where it is."""
    self.course.validate(params, self.bare.version)

  @property
  def bare(self) -> Server:
    """The server where the run is, without arrays."""
    return self._here.server

  @property
  def _here(self) -> Cut:
    assert self._reached is not None
    return self._reached

  def due(self) -> bool:
    """Whether the time has come to save the run."""
    return self._saver.due()

  def save(self, server: Server) -> None:
    """Writes the run's state in the background."""
    progress = self.course.progress(self._here.pool)
    self._saver.save(resume.capture(server, progress), self._identity)

  def close(self) -> None:
    """Ends events and the writing of states."""
    self.course.close()
    self._saver.wait()
