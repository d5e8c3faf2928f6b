"""Methods against staleness by name, each with the constants of its runs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from stale_adam import methods
from stale_adam.optimizer import adam
from stale_adam.policy import Communication, Policy


class Run(NamedTuple):
  """What a method is made from.

  Attributes:
    communication: of the run; a method of another policy takes over what it
      can.
    optimizer: the server's, with its schedule.
    schedule: of the learning rate, in updates of whoever counts it.
    rate: its peak.
    warmup: updates until then.
  """

  communication: Communication
  optimizer: optax.GradientTransformation
  schedule: optax.Schedule
  rate: float
  warmup: int

  @property
  def workers(self) -> int:
    return self.communication.workers

  @property
  def staleness(self) -> float:
    """The expected staleness of equal workers, (N - 1) / G."""
    return (self.workers - 1) / self.communication.pushes_per_update


# Arguments of `serve` besides those of a run without a method.
Make = Callable[[Run], dict[str, Any]]


def _with(policy: type, *numbers: int) -> Make:
  """A policy that takes over the number of workers, and L."""

  def make(run: Run) -> dict[str, Any]:
    local = run.communication.local_accumulation
    made: Policy = policy(run.workers, *numbers, local_accumulation=local)
    return {'policy': made}

  return make


def _after(transformation: optax.GradientTransformation) -> Make:
  return lambda run: {'optimizer': optax.chain(run.optimizer, transformation)}


def _growing(run: Run) -> dict[str, Any]:
  """Of a third of the batches each: 1, then half, then all of the workers."""
  n, third = run.workers, 7 * run.warmup
  half = max(1, n // 2)
  table = {0: 1, third: half, third + third // half: n}
  return {'policy': methods.FirstToFinish(n, tuple(table.items()))}


def _softsync(run: Run) -> dict[str, Any]:
  """An update on every other push, on their mean; half of the rate."""
  count = max(1, run.workers // 2)
  numbers = dataclasses.replace(run.communication, global_accumulation=count)
  scaled = optax.chain(
    methods.average_pushes(), run.optimizer, optax.scale(count / run.workers)
  )
  return {'policy': numbers, 'optimizer': scaled}


def _elastic(run: Run) -> dict[str, Any]:
  worker = methods.local_updates(_sgd(run))
  return methods.elastic_average(run.workers) | {'worker': worker}


_adam = lambda run: adam(run.schedule)
_sgd = lambda run: optax.sgd(run.schedule)

NAMED: Mapping[str, Make] = {
  'none': lambda run: {},
  # Rates and weights.
  'scale_by_staleness per push': lambda run: {
    'per_push': methods.scale_by_staleness()
  },
  'scale_by_staleness': _after(methods.scale_by_staleness()),
  'weight polynomial': _after(methods.weight_by_staleness()),
  'weight exponential': _after(methods.weight_by_staleness('exponential')),
  'weight hinge': _after(methods.weight_by_staleness('hinge', b=2.0)),
  'adapt_to_delay': lambda run: _after(methods.adapt_to_delay(run.workers))(
    run
  ),
  'correct_rate': lambda run: _after(
    methods.correct_rate(max(1, 5 * run.warmup))
  )(run),
  'scale_by_distance': lambda run: {'per_push': methods.scale_by_distance()},
  'fadas': lambda run: {'optimizer': methods.fadas(run.schedule)},
  # Compensation.
  'compensate_delay': lambda run: {'per_push': methods.compensate_delay()},
  'compensate_delay adaptive': lambda run: {
    'per_push': methods.compensate_delay(2.0, 0.95)
  },
  'reduce_by_gap': lambda run: {'per_push': methods.reduce_by_gap(0.98)},
  'average_workers': lambda run: {
    'per_push': methods.average_workers(run.workers)
  },
  'predict_weights': lambda run: {
    'reply': methods.predict_weights(run.schedule, run.staleness)
  },
  # Policies.
  'BackupWorkers 1': _with(methods.BackupWorkers, 1),
  'DropStale 3': _with(methods.DropStale, 3),
  'FirstWorkers 3': _with(methods.FirstWorkers, 3),
  'FreshPushes 4': _with(methods.FreshPushes, 4),
  'FirstToFinish 2': _with(methods.FirstToFinish, 2),
  'FirstToFinish growing': _growing,
  'StaleSynchronous 1': _with(methods.StaleSynchronous, 1),
  'StaleSynchronous 3': _with(methods.StaleSynchronous, 3),
  'OneRoundLate': _with(methods.OneRoundLate),
  'softsync': _softsync,
  # Momentum for stale gradients, and Adagrad; without Adam.
  'sgd': lambda run: {'optimizer': _sgd(run)},
  'dana': lambda run: methods.dana(run.schedule, run.workers),
  'smega2': lambda run: methods.smega2(run.schedule, run.workers),
  'delayed_nesterov': lambda run: {
    'optimizer': methods.delayed_nesterov(run.schedule, run.workers)
  },
  'adaptive_revision': lambda run: methods.adaptive_revision(
    run.rate, run.workers
  ),
  # Local updates.
  'average_models': lambda run: methods.average_models(_sgd(run)),
  'diloco': lambda run: methods.diloco(_adam(run)),
  'downpour': lambda run: methods.downpour(_sgd(run), run.rate),
  'buffered_averaging': lambda run: methods.buffered_averaging(_sgd(run)),
  'buffered_averaging of Adam': lambda run: methods.buffered_averaging(
    _adam(run)
  ),
  'mix_models': lambda run: methods.mix_models(_sgd(run)),
  'mix_models of Adam': lambda run: methods.mix_models(_adam(run)),
  'worker_adam': lambda run: methods.worker_adam(_adam(run)),
  'delayed_nesterov of Adam': lambda run: {
    'worker': methods.local_updates(_adam(run)),
    'optimizer': methods.delayed_nesterov(0.7, run.workers),
  },
  'apply_own_push': lambda run: {'worker': methods.apply_own_push(_adam(run))},
  'elastic_average': _elastic,
  # Compression.
  'drop_gradients': lambda run: {'worker': methods.drop_gradients()},
  'keep_dropped': lambda run: {'worker': methods.keep_dropped(_adam(run))},
  'send_signs': lambda run: {'worker': methods.send_signs()},
  'quantise': lambda run: {'worker': methods.quantise()},
  'compress_deeply': lambda run: {
    'worker': methods.compress_deeply(run.workers),
    'optimizer': _sgd(run),
  },
  # A sharded server, whose pulls lag behind.
  'torn_reads': lambda run: {'reply': methods.torn_reads(run.workers)},
}


def arguments(name: str, run: Run) -> dict[str, Any]:
  """Arguments of `serve` for a method: `policy`, `optimizer` and others."""
  usual = {'policy': run.communication, 'optimizer': run.optimizer}
  return usual | NAMED[name](run)
