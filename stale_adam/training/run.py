"""One run of any task, from a pool of workers to its result record."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from stale_adam import trace as trace_lib
from stale_adam.policy import Policy
from stale_adam.pools.contract import Pool
from stale_adam.server import Reply
from stale_adam.training import loop, record, resume
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
  if (out / 'record.json').exists():
    raise FileExistsError(
      f'{out} holds a finished run (record.json): name another directory, or '
      'remove that run first'
    )
  devices = jax.devices()
  device = f'{len(devices)} x {devices[0].device_kind}, {os.cpu_count()} cores'
  origin = record.provenance(seed, type(pool).__name__.lower(), device)
  began = time.monotonic()
  out.mkdir(parents=True, exist_ok=True)
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
    identity={k: identity.get(k) for k in ('scale', 'text', 'config')},
    per_push=per_push,
    worker=worker,
    reply=reply,
    measure=measure,
  )
  machine = {'device': device, 'devices': len(devices)}
  known = {**outcome.trace.settings, **(settings or {}), **machine}
  arrivals = dataclasses.replace(outcome.trace, settings=known)
  arrivals.save(out / 'trace.npz')
  tested = task.test(outcome.best_params)
  made = {
    **identity,
    'curve': outcome.curve,
    f'best_{task.metric}': outcome.best[task.metric],
    f'test_{task.metric}': dict(tested.scores),
    **tested.signature,
    'examples': list(tested.examples),
    **_summary(arrivals, policy.workers),
    task.rate: outcome.speed(),
    'provenance': origin | {'seconds': time.monotonic() - began},
  }
  record.write(out / 'record.json', made)
  resume.remove(out)  # Not before everything is on disk.
  return made


def _summary(arrivals: trace_lib.Trace, workers: int) -> dict[str, Any]:
  """The fields of the record that describe the arrivals."""
  staleness = arrivals.columns['staleness'].tolist()
  busy = None  # A replay has no times of its own.
  if 'computed' in arrivals.columns:
    busy = trace_lib.busy_share(arrivals, workers)
  return {
    'mean_staleness': float(np.mean(staleness)),
    'staleness_histogram': trace_lib.staleness_histogram(staleness),
    'busy_share': busy,
    'trace_sha256': arrivals.digest(),
  }
