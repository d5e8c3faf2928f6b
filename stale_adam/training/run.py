"""Runs of any task, from workers to the result record."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from stale_adam import trace as trace_lib
from stale_adam.policy import Policy
from stale_adam.pools.contract import Pool
from stale_adam.server import Reply
from stale_adam.training import loop, record, resume, together
from stale_adam.training.course import Outcome
from stale_adam.training.group import Entry, Optimizer
from stale_adam.training.task import Budget, Task
from stale_adam.worker import Worker


def run(
  task: Task,
  optimizer: optax.GradientTransformation,
  policy: Policy,
  pool: Pool,
  budget: Budget,
  out: Path,
  identity: Mapping[str, Any],
  *,
  seed: int = 0,
  settings: Mapping[str, Any] | None = None,
  metadata: Mapping[str, Any] | None = None,
  save_seconds: float | None = 60.0,
  per_push: optax.GradientTransformation | None = None,
  worker: Worker | None = None,
  reply: Reply | None = None,
  measure: Callable[..., Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
  """Trains, tests the best parameters, and writes `out/record.json`.

  Args:
    task: what is learnt.
    optimizer: any optax transformation.
    policy: who is used, when to update, who is answered.
    pool: where the workers run; closed at the end.
    budget: how long to train.
    out: directory for the record, parameters, trace and events; created if
      it does not exist.
    identity: the fields of the record that say which run it is: `experiment`,
      `scale`, `run` (its name), `config`, and any others.
    seed: of parameters and batches.
    settings: more of what was run, kept in the trace beside policy and seed.
    metadata: what is needed to use the parameters, kept beside them.
    save_seconds: least time between two saved states of the run, besides those
      at every validation; None saves none. A run with a state in `out` is
      resumed.
    per_push: transformation of every push before the sum; as of `serve`.
    worker: what a worker sends and remembers; as of `serve`.
    reply: what a pull returns; as of `serve`.
    measure: as of `serve`.

  Returns:
    The record.

  Raises:
    FileExistsError: if the directory holds a finished run.
  """
  origin = _begin(out, seed, type(pool).__name__.lower())
  outcome = loop.train(
    task,
    optimizer,
    policy,
    pool,
    budget,
    seed,
    out,
    dict(metadata or {}),
    identity['run'],
    save_seconds=save_seconds,
    identity=resume.identity(identity),
    per_push=per_push,
    worker=worker,
    reply=reply,
    measure=measure,
  )
  return _finish(outcome, policy.workers, out, identity, settings, origin)


def run_together(
  entries: Sequence[Entry],
  optimizer: Optimizer,
  policy: Policy,
  budget: Budget,
  done: Callable[[int, dict[str, Any]], None],
  *,
  save_seconds: float | None = 60.0,
) -> None:
  """Trains several runs as one program; every one leaves what `run` leaves.

  Its record says so in `together`: how many runs there were, and the tolerance
  to which its validation losses are those of the run alone. Its seconds are its
  share of those of the group.

  Args:
    entries: what each run has of its own.
    optimizer: of all runs, from the rate of each; as of `together.train`.
    policy: of all runs.
    budget: of all runs.
    done: `done(i, record)` is called when the record of run i is written.
    save_seconds: as of `run`.

  Raises:
    FileExistsError: if a directory holds a finished run.
  """
  origins = [_begin(entry.out, entry.seed, 'virtual') for entry in entries]

  def finish(i: int, outcome: Outcome) -> None:
    entry = entries[i]
    known = policy.workers, entry.out, entry.identity, entry.settings
    done(i, _finish(outcome, *known, origins[i]))

  title = f'{entries[0].identity["run"]} and {len(entries) - 1} more'
  rest = optimizer, policy, budget, finish, title
  together.train(entries, *rest, save_seconds=save_seconds)


class _Origin(NamedTuple):
  """Where a run comes from, and when it began."""

  provenance: dict[str, Any]
  seconds: float


def _begin(out: Path, seed: int, pool: str) -> _Origin:
  """Makes a run's directory; refuses that of a finished run."""
  if (out / 'record.json').exists():
    raise FileExistsError(
      f'{out} holds a finished run (record.json): name another directory, or '
      'remove that run first'
    )
  devices = jax.devices()
  device = f'{len(devices)} x {devices[0].device_kind}, {os.cpu_count()} cores'
  origin = _Origin(record.provenance(seed, pool, device), time.monotonic())
  out.mkdir(parents=True, exist_ok=True)
  return origin


def _finish(
  outcome: Outcome,
  workers: int,
  out: Path,
  identity: Mapping[str, Any],
  settings: Mapping[str, Any] | None,
  origin: _Origin,
) -> dict[str, Any]:
  """Tests the best parameters; writes trace and record."""
  task, provenance = outcome.task, origin.provenance
  machine = {'device': provenance['device'], 'devices': len(jax.devices())}
  known = {**outcome.trace.settings, **(settings or {}), **machine}
  arrivals = dataclasses.replace(outcome.trace, settings=known)
  arrivals.save(out / 'trace.npz')
  tested = task.test(outcome.best_params)
  runs = known.get('together', 0)
  others = {'together': {'runs': runs, 'tolerance': together.TOLERANCE}}
  seconds = (time.monotonic() - origin.seconds) / max(1, runs)
  made = {
    **identity,
    'curve': outcome.curve,
    f'best_{task.metric}': outcome.best[task.metric],
    f'test_{task.metric}': dict(tested.scores),
    **tested.signature,
    'examples': list(tested.examples),
    **_summary(arrivals, workers),
    **_traffic(arrivals, outcome.best_params),
    task.rate: outcome.speed(),
    **(others if runs else {}),
    'provenance': provenance | {'seconds': seconds},
  }
  record.write(out / 'record.json', made)
  resume.remove(out)  # Not before everything is on disk.
  return made


def _dropped_share(arrivals: trace_lib.Trace) -> float:
  """Gradients that no update uses: pushes dropped, and work abandoned."""
  abandoned = int(arrivals.columns['restarted'].sum())
  used = int(arrivals.columns['used'].sum())
  return 1 - used / (len(arrivals) + abandoned)


def _traffic(arrivals: trace_lib.Trace, params: Any) -> dict[str, Any]:
  """Bytes for every batch that arrives: those of its push and of all pulls.

  A worker that is restarted pulls once more. Nothing if a trace of an earlier
  version does not know.
  """
  if 'nbytes' not in arrivals.columns:
    return {}
  batches = arrivals.settings['policy']['local_accumulation']
  pull = sum(np.asarray(x).nbytes for x in jax.tree.leaves(params))
  pulls = 1 + float(np.mean(arrivals.columns['restarted']))
  push = float(np.mean(arrivals.columns['nbytes']))
  return {'bytes_per_batch': (push + pulls * pull) / batches}


def _summary(arrivals: trace_lib.Trace, workers: int) -> dict[str, Any]:
  """The fields of the record that describe the arrivals."""
  staleness = trace_lib.used_staleness(arrivals.columns)
  busy = None  # A replay has no times of its own.
  if 'computed' in arrivals.columns:
    busy = trace_lib.busy_share(arrivals, workers)
  return {
    'mean_staleness': float(np.mean(staleness)),
    'staleness_histogram': trace_lib.staleness_histogram(staleness.tolist()),
    'dropped_share': _dropped_share(arrivals),
    'used_share': float(np.mean(arrivals.columns['used'] != 0)),
    'busy_share': busy,
    'trace_sha256': arrivals.digest(),
  }
