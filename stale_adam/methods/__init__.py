"""Published methods against stale gradients, as arguments of `serve`.

  policy     BackupWorkers, DropStale, FirstWorkers, FreshPushes, FirstToFinish,
             StaleSynchronous, OneRoundLate
  per_push   compensate_delay, reduce_by_gap, scale_by_distance,
             average_workers, scale_by_staleness, weight_by_staleness
  optimizer  after another one, as optax.chain(adam, adapt_to_delay(4)):
             scale_by_staleness, weight_by_staleness, adapt_to_delay,
             correct_rate; before one: average_pushes; alone: fadas,
             delayed_nesterov
  worker     drop_gradients, keep_dropped, compress_deeply, send_signs,
             quantise, local_updates, apply_own_push
  reply      predict_weights, torn_reads
  several    dana, smega2, elastic_average, adaptive_revision, average_models,
             diloco, buffered_averaging, mix_models, downpour, worker_adam,
             softsync, stagger_pulls:
             serve(problem, policy=..., pool=..., **dana(0.1, workers=4))

`simulate` takes the same arguments. Methods combine. Those for `per_push` and
`optimizer` are optax transformations and work in any training loop: `sa.delay`
and `sa.hold` give them `staleness`, `pushes`, `stalest` and `pulled`,
`sa.accumulate` the first three of the sum. Only those that have a table of the
workers need `worker` from the loop: `average_workers`, `dana`,
`adaptive_revision` and `elastic_average`.

Two rules need no method. Global accumulation under SGD is AsySG-con (Lian et
al. 2015); local accumulation, synchronous, is delayed updates (Ott et al.
2018).

Docstrings name each rule's source, what it was checked against, and where ours
differs. Three papers could be read: McMahan et al. (2017), Dutta et al. (2018)
and, but for its equations, Zhang et al. (2016). Most other rules were checked
against code: that of the authors, or of others where theirs could not be had.
Those that were not, such as the Adagrad of `downpour`, are as commonly stated.
"""

from stale_adam.methods.compensation import (
  compensate_delay,
  reduce_by_gap,
)
from stale_adam.methods.compression import (
  compress_deeply,
  drop_gradients,
  keep_dropped,
  quantise,
  send_signs,
)
from stale_adam.methods.local import (
  apply_own_push,
  average_models,
  buffered_averaging,
  diloco,
  downpour,
  local_updates,
  mix_models,
  worker_adam,
)
from stale_adam.methods.momentum import (
  delayed_nesterov,
  smega2,
)
from stale_adam.methods.policies import (
  BackupWorkers,
  DropStale,
  FirstToFinish,
  FirstWorkers,
  FreshPushes,
  OneRoundLate,
  StaleSynchronous,
  softsync,
)
from stale_adam.methods.prediction import (
  predict_weights,
)
from stale_adam.methods.rates import (
  adapt_to_delay,
  average_pushes,
  correct_rate,
  fadas,
  scale_by_distance,
  scale_by_staleness,
  weight_by_staleness,
)
from stale_adam.methods.shards import (
  torn_reads,
)
from stale_adam.methods.staggered import (
  stagger_pulls,
)
from stale_adam.methods.tables import (
  adaptive_revision,
  average_workers,
  dana,
  elastic_average,
)

__all__ = [
  'BackupWorkers',
  'DropStale',
  'FirstToFinish',
  'FirstWorkers',
  'FreshPushes',
  'OneRoundLate',
  'StaleSynchronous',
  'adapt_to_delay',
  'adaptive_revision',
  'apply_own_push',
  'average_models',
  'average_pushes',
  'average_workers',
  'buffered_averaging',
  'compensate_delay',
  'compress_deeply',
  'correct_rate',
  'dana',
  'delayed_nesterov',
  'diloco',
  'downpour',
  'drop_gradients',
  'elastic_average',
  'fadas',
  'keep_dropped',
  'local_updates',
  'mix_models',
  'predict_weights',
  'quantise',
  'reduce_by_gap',
  'scale_by_distance',
  'scale_by_staleness',
  'send_signs',
  'smega2',
  'softsync',
  'stagger_pulls',
  'torn_reads',
  'weight_by_staleness',
  'worker_adam',
]
