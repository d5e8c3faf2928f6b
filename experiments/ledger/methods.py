"""Methods against staleness by name, each with the constants of its runs."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from stale_adam import methods
from stale_adam import optimizer as optimizer_lib
from stale_adam.policy import Communication


class Run(NamedTuple):
  """What a method is made from.

  Attributes:
    communication: of the run.
    optimizer: the server's, with its schedule.
    schedule: of the learning rate, counted in updates of the server.
    local_schedule: the same, counted in updates that a worker makes by itself:
      one for each of its batches.
    rate: the peak of both.
    warmup: updates of the server until then.
  """

  communication: Communication
  optimizer: optax.GradientTransformation
  schedule: optax.Schedule
  local_schedule: optax.Schedule
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
_NUMBERS = tuple(field.name for field in dataclasses.fields(Communication))
_POLICY = ('workers', 'local_accumulation')


class Method(NamedTuple):
  """How a method is made, and which settings it uses.

  Attributes:
    make: its arguments of `serve`.
    uses: the numbers of the communication that make a difference.
    adam: whether the server runs the optimizer of the settings.
    pushes: that an update sums, if the method has its own policy.
  """

  make: Make
  uses: tuple[str, ...] = _NUMBERS
  adam: bool = True
  pushes: Callable[[Communication], int] = lambda c: c.pushes_per_update


def _after(
  make: Callable[[Run], optax.GradientTransformation],
) -> Method:
  """A transformation of the updates that the optimizer makes."""
  chained = lambda run: optax.chain(run.optimizer, make(run))
  return Method(lambda run: {'optimizer': chained(run)})


def _part(name: str, make: Callable[[Run], Any]) -> Method:
  """One argument of `serve`, beside the optimizer of the settings."""
  return Method(lambda run: {name: make(run)})


def _instead(make: Make) -> Method:
  """A method with an optimizer of its own."""
  return Method(make, adam=False)


def _policy(
  kind: type,
  numbers: Callable[[int], tuple] = lambda n: (),
  pushes: Callable[[int], int] = lambda n: 1,
) -> Method:
  """A policy, whose further numbers follow from that of the workers."""

  def make(run: Run) -> dict[str, Any]:
    local = run.communication.local_accumulation
    made = kind(run.workers, *numbers(run.workers), local_accumulation=local)
    return {'policy': made}

  return Method(make, _POLICY, pushes=lambda c: pushes(c.workers))


def _growing(run: Run) -> dict[str, Any]:
  """K = 1 and N / 2 for three times the batches of the warm-up each, then N."""
  n, batches = run.workers, 3 * run.warmup
  half = _half(n)
  table = {0: 1, batches: half, batches + batches // half: n}
  local = run.communication.local_accumulation
  pairs = tuple(table.items())
  return {'policy': methods.FirstToFinish(n, pairs, local_accumulation=local)}


def _softsync(run: Run) -> dict[str, Any]:
  """2-softsync, of as many workers as there are."""
  local = run.communication.local_accumulation
  splits = min(2, run.workers)
  return methods.softsync(run.optimizer, run.workers, splits, local)


def _elastic(run: Run) -> dict[str, Any]:
  worker = methods.local_updates(_sgd(run))
  return methods.elastic_average(run.workers) | {'worker': worker}


def _delayed_adam(run: Run) -> dict[str, Any]:
  worker = methods.local_updates(_adam(run))
  outer = methods.delayed_nesterov(0.7, run.workers)
  return {'worker': worker, 'optimizer': outer}


def _deep(run: Run) -> dict[str, Any]:
  worker = methods.compress_deeply(run.workers)
  return {'worker': worker, 'optimizer': optax.sgd(run.schedule)}


def _keep(run: Run) -> dict[str, Any]:
  """A worker updates once a push: meanwhile, the server does for all workers.

  Both then have the same rate at the same time.
  """
  ticks = max(1, run.workers // run.communication.pushes_per_update)
  schedule = optimizer_lib.ticking(run.schedule, ticks)
  return {'worker': methods.keep_dropped(_own_adam(schedule))}


_half = lambda n: max(1, n // 2)
_fewer = lambda n: max(1, n - 1)
_all = lambda n: n
# Of the workers.
_own_adam = functools.partial(optax.adam, b1=0.9, b2=0.98, eps=1e-9)
_adam = lambda run: _own_adam(run.local_schedule)
_sgd = lambda run: optax.sgd(run.local_schedule)
_push = functools.partial(_part, 'per_push')
_worker = functools.partial(_part, 'worker')
_reply = functools.partial(_part, 'reply')

NAMED: Mapping[str, Method] = {
  'none': Method(lambda run: {}),
  # Rates and weights.
  'scale_by_staleness per push': _push(lambda r: methods.scale_by_staleness()),
  'scale_by_staleness': _after(lambda r: methods.scale_by_staleness()),
  'weight polynomial': _after(lambda r: methods.weight_by_staleness()),
  'weight exponential': _after(
    lambda r: methods.weight_by_staleness('exponential')
  ),
  'weight hinge': _after(lambda r: methods.weight_by_staleness('hinge')),
  'adapt_to_delay': _after(lambda r: methods.adapt_to_delay(r.workers)),
  'correct_rate': _after(lambda r: methods.correct_rate(max(1, 5 * r.warmup))),
  'scale_by_distance': _push(lambda r: methods.scale_by_distance()),
  'fadas': _instead(lambda r: {'optimizer': methods.fadas(r.schedule)}),
  # Compensation.
  'compensate_delay': _push(lambda r: methods.compensate_delay()),
  'compensate_delay adaptive': _push(
    lambda r: methods.compensate_delay(2.0, 0.95)
  ),
  'reduce_by_gap': _push(lambda r: methods.reduce_by_gap()),
  'reduce_by_gap of Adam': _push(lambda r: methods.reduce_by_gap(0.98)),
  'average_workers': _push(lambda r: methods.average_workers(r.workers)),
  'predict_weights': _reply(
    lambda r: methods.predict_weights(r.schedule, r.staleness)
  ),
  # Policies.
  'BackupWorkers': _policy(
    methods.BackupWorkers, lambda n: (min(1, n - 1),), _fewer
  ),
  'DropStale': _policy(methods.DropStale, lambda n: (n,)),
  # Ringmaster's and Rennala's rules.
  'DropStale N-1': _policy(methods.DropStale, lambda n: (n - 1,)),
  'DropStale 0': _policy(methods.DropStale, lambda n: (0, n), _all),
  'FirstWorkers': _policy(methods.FirstWorkers, lambda n: (_fewer(n),), _fewer),
  'FreshPushes': _policy(methods.FreshPushes, lambda n: (n,), _all),
  'FirstToFinish': _policy(methods.FirstToFinish, lambda n: (_half(n),), _half),
  'FirstToFinish growing': Method(_growing, _POLICY, pushes=lambda c: 1),
  'StaleSynchronous 1': _policy(methods.StaleSynchronous, lambda n: (1,)),
  'StaleSynchronous 3': _policy(methods.StaleSynchronous, lambda n: (3,)),
  'OneRoundLate': _policy(methods.OneRoundLate, pushes=_all),
  'softsync': Method(_softsync, _POLICY, pushes=lambda c: _half(c.workers)),
  # Momentum for stale gradients, and Adagrad; without Adam.
  'dana': _instead(lambda r: methods.dana(r.schedule, r.workers)),
  'smega2': _instead(lambda r: methods.smega2(r.schedule, r.workers)),
  'delayed_nesterov': _instead(
    lambda r: {'optimizer': methods.delayed_nesterov(r.schedule, r.workers)}
  ),
  'adaptive_revision': _instead(
    lambda r: methods.adaptive_revision(r.rate, r.workers)
  ),
  # Local updates.
  'average_models': _instead(lambda r: methods.average_models(_sgd(r))),
  'diloco': _instead(lambda r: methods.diloco(_adam(r))),
  'downpour': _instead(lambda r: methods.downpour(_sgd(r), r.rate)),
  'buffered_averaging': _instead(lambda r: methods.buffered_averaging(_sgd(r))),
  'buffered_averaging of Adam': _instead(
    lambda r: methods.buffered_averaging(_adam(r))
  ),
  'mix_models': _instead(lambda r: methods.mix_models(_sgd(r))),
  'mix_models of Adam': _instead(lambda r: methods.mix_models(_adam(r))),
  'worker_adam': _instead(lambda r: methods.worker_adam(_adam(r))),
  'delayed_nesterov of Adam': _instead(_delayed_adam),
  'elastic_average': _instead(_elastic),
  'apply_own_push': Method(
    lambda r: {
      'worker': methods.apply_own_push(_adam(r)),
      'policy': methods.OneRoundLate(r.workers),
    },
    ('workers',),
    pushes=lambda c: c.workers,
  ),
  # Compression.
  'drop_gradients': _worker(lambda r: methods.drop_gradients()),
  'keep_dropped': Method(_keep),
  'send_signs': _worker(lambda r: methods.send_signs()),
  'quantise': _worker(lambda r: methods.quantise()),
  'compress_deeply': _instead(_deep),
  # Artificial staleness of every worker's own phase.
  'stagger_pulls': Method(
    lambda r: methods.stagger_pulls(
      r.optimizer, r.workers, r.communication.pull_every
    )
  ),
  # A sharded server, whose pulls lag behind.
  'torn_reads': _reply(lambda r: methods.torn_reads(r.workers)),
}


def arguments(name: str, run: Run) -> dict[str, Any]:
  """Arguments of `serve` for a method: `policy`, `optimizer` and others."""
  usual = {'policy': run.communication, 'optimizer': run.optimizer}
  return usual | NAMED[name].make(run)


def batches_per_update(name: str, communication: Communication) -> int:
  """Batches whose gradients an update of the server sums."""
  return NAMED[name].pushes(communication) * communication.local_accumulation


def check(name: str, communication: Communication, optimizer: str) -> None:
  """Refuse settings that a method does not use.

  Raises:
    ValueError: naming the setting and the method.
  """
  method = NAMED[name]
  usual = Communication(communication.workers)
  for number in _NUMBERS:
    value = getattr(communication, number)
    if number not in method.uses and value != getattr(usual, number):
      raise ValueError(
        f'{number}={value}: the method {name!r} decides this itself; leave it '
        f'out, or use {", ".join(method.uses)}'
      )
  if not method.adam and optimizer != 'adam':
    raise ValueError(
      f'optimizer={optimizer}: the method {name!r} has its own; leave it out'
    )
