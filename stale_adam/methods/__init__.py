"""Published methods against stale gradients, as arguments of `serve`.

  policy     BackupWorkers
  per_push   scale_by_staleness, compensate_delay
  optimizer  scale_by_staleness, after it: optax.chain(adam, ...)
  worker     drop_gradients
  reply      predict_weights

`simulate` takes the same arguments. Methods combine. Those for `per_push` and
`optimizer` are optax transformations and work in any training loop.

Docstrings name each rule's source. The rules follow summaries of these papers,
so no equation numbers are given.
"""

from stale_adam.methods.compensation import compensate_delay
from stale_adam.methods.compression import drop_gradients
from stale_adam.methods.policies import BackupWorkers
from stale_adam.methods.prediction import predict_weights
from stale_adam.methods.rates import scale_by_staleness

__all__ = [
  'BackupWorkers',
  'compensate_delay',
  'drop_gradients',
  'predict_weights',
  'scale_by_staleness',
]
