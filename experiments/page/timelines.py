"""The first arrivals of a run on the virtual clock, computed again."""

import itertools
from collections.abc import Mapping
from typing import Any

from stale_adam.clock import Clock
from stale_adam.compiled import decisions
from stale_adam.policy import Communication
from stale_adam.pools.virtual import Dry

_WORKERS, _ROUNDS = 8, 6  # Workers that are drawn, and pushes of each.


def charts(record: Mapping[str, Any]) -> list[dict[str, Any]]:
  """A chart of who did what when; none where that is not the paper's policy.

  Who arrives when follows from communication and clock alone, so that nothing
  of it needs to be kept.
  """
  config = record['config']
  timed = record['provenance'].get('pool') == 'virtual'
  if not timed or config.get('method', 'none') != 'none':
    return []
  try:
    policy = Communication(**config['communication'])
    clock = dict(config['clock'])
    clock['speeds'] = tuple(clock.get('speeds', (1.0,)))
    pool = Dry(Clock(**clock))
  except (KeyError, TypeError, ValueError):
    return []  # Of a version with other settings.
  count = _ROUNDS * policy.workers
  with pool:
    pushes = [
      p for _, p, _ in itertools.islice(decisions.dry(policy, pool), count)
    ]
  slices = sorted(
    [push.worker, *push.times, push.staleness]
    for push in pushes
    if push.worker < _WORKERS and push.times
  )
  return [
    {
      'kind': 'timeline',
      'title': f'The first {_ROUNDS} pushes of each worker',
      'x_label': 'virtual seconds',
      'slices': slices,
    }
  ]
