"""Several runs trained as one program, each to its own end.

The runs share policy, budget and the form of the optimizer; rates, seeds and
clocks are their own. Each is validated at the same units as alone, and ends by
its own patience. Its pushes, staleness and virtual times are those of the run
alone; losses and parameters agree to rounding, which training magnifies.
"""

import time
from collections.abc import Callable, Sequence

from stale_adam.compiled import decisions
from stale_adam.compiled.sweep import Sweep
from stale_adam.policy import Policy
from stale_adam.training import resume
from stale_adam.training.course import Outcome, progress_bar
from stale_adam.training.group import Entry, Member, Optimizer
from stale_adam.training.task import Budget

# Of a validation loss, relative to that of the run alone.
TOLERANCE = 0.02


def train(
  entries: Sequence[Entry],
  optimizer: Optimizer,
  policy: Policy,
  budget: Budget,
  finish: Callable[[int, Outcome], None],
  title: str = 'train',
  *,
  save_seconds: float | None = None,
) -> None:
  """Trains until every run has spent the budget or no longer improves.

  A run whose directory holds a state continues from there; one that was saved
  by a group of as many runs, bit for bit.

  Args:
    entries: the runs.
    optimizer: of all runs, from the rate of each.
    policy: of all runs; it updates after a fixed number of pushes.
    budget: of all runs.
    finish: `finish(i, outcome)` is called as soon as run i ends.
    title: of the progress bar.
    save_seconds: as of `loop.train`.

  Raises:
    ValueError: if a directory holds the state of another run; if the policy
      does not update after a fixed number of pushes.
    Interrupted: after SIGINT or SIGTERM, when all states have been saved.
  """
  bar = progress_bar(title, entries[0].task, budget, len(entries))
  rest = policy, budget, bar, len(entries), save_seconds
  members = [Member(entry, optimizer, *rest) for entry in entries]

  def end(member: Member) -> None:
    member.close()
    finish(members.index(member), member.course.outcome())

  try:
    live = _ended(members, end)
    if live:
      with resume.signals() as caught:
        live = _legs(live, optimizer, save_seconds, caught, end)
  finally:
    bar.close()
    for member in members:
      member.close()
  if live:
    told = live[0].course.told(save_seconds is not None)
    others = f'{len(live) - 1} more runs likewise; ' if len(live) > 1 else ''
    raise resume.Interrupted(caught[0], others + told)


def _ended(
  members: list[Member], end: Callable[[Member], None]
) -> list[Member]:
  """Ends the runs that are at their end; returns the others."""
  for member in members:
    if member.ended:
      end(member)
  return [member for member in members if not member.ended]


def _legs(
  live: list[Member],
  optimizer: Optimizer,
  save_seconds: float | None,
  caught: list[int],
  end: Callable[[Member], None],
) -> list[Member]:
  """Trains leg by leg; returns the runs that a signal kept from their end."""
  lanes = _filled(live)
  group = Sweep(
    lanes[0].problem.loss,
    optimizer,
    [member.entry.rate for member in lanes],
    [member.entry.seed for member in lanes],
    [member.begin() for member in lanes],
    max(member.versions for member in live),
    tuple(sorted({decisions.IDLE}.union(*(m.cases for m in live)))),
  )
  for member in live:
    member.forget()
  stopped = False
  while live and not stopped:
    began = time.monotonic()
    # Behind a run's first lane are copies of it.
    parts = [
      m.part(empty=m.ended or lanes.index(m) < i) for i, m in enumerate(lanes)
    ]
    losses = group.advance(parts)
    share = (time.monotonic() - began) / len(live)
    for member in live:
      member.reach(losses[lanes.index(member)], share)
    validated = [member for member in live if member.to_validate]
    for member in validated:
      member.validate(group.evaluated(lanes.index(member)))
    stopped = bool(caught)
    due = validated or stopped or any(member.due() for member in live)
    if due and save_seconds is not None:
      places = {lanes.index(member): member.bare for member in live}
      for lane, server in group.servers(places).items():
        lanes[lane].save(server)
    live = _ended(live, end)
    if live and len(wanted := _filled(live)) < len(lanes):
      group.keep([lanes.index(member) for member in wanted])
      lanes = wanted
  return live


def _filled(live: list[Member]) -> list[Member]:
  """The runs as lanes of a program: 1, 2, 3, 4, 6, 8, 12, ... of them.

  So that few programs are compiled as runs end. Copies of the first fill up.
  """
  sizes = (n << k for k in range(32) for n in (1, 3))
  count = min(n for n in sizes if n >= len(live))
  return live + [live[0]] * (count - len(live))
