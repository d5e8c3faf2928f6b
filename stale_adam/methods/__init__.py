"""What others do about stale gradients, each on the seam of `serve`.

  policy     BackupWorkers
  per_push   scale_by_staleness, compensate_delay
  optimizer  scale_by_staleness, after it: optax.chain(adam, ...)
  worker     drop_gradients
  reply      predict_weights

A method is an argument of `serve` and of `simulate`; several combine. Those
for `per_push` and `optimizer` are optax transformations, for any loop.

Docstrings name each rule's source. The rules were written down from summaries
of these papers, so no equation numbers are given.
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
