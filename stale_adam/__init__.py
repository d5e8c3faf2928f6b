"""Training with stale gradients: what it does, and what repairs it.

Transformations for any optax loop: `accumulate`; `delay`, `hold` and
`pulled_params`; `smooth` and `smoothed_params`. The paper's optimizer: `adam`
and `inverse_sqrt`.

A parameter server and its workers: a `Problem`, a `Communication`, and a pool
from `pools`, run by `serve`; or an order of arrivals, run by `simulate`.
`methods` against stale gradients are arguments of both. `Clock` gives virtual
seconds, `Trace` records a run, `Measure` looks at every gradient.
"""

from stale_adam import methods, pools
from stale_adam.clock import Clock
from stale_adam.compiled.simulate import simulate
from stale_adam.measure import Measure
from stale_adam.optimizer import adam, inverse_sqrt
from stale_adam.policy import Communication
from stale_adam.problem import Problem
from stale_adam.server import serve
from stale_adam.trace import Trace
from stale_adam.transforms import (
  accumulate,
  delay,
  hold,
  pulled_params,
  smooth,
  smoothed_params,
)

__version__ = '0.1.0'  # setup.py reads this line.

__all__ = [
  'Clock',
  'Communication',
  'Measure',
  'Problem',
  'Trace',
  'accumulate',
  'adam',
  'delay',
  'hold',
  'inverse_sqrt',
  'methods',
  'pools',
  'pulled_params',
  'serve',
  'simulate',
  'smooth',
  'smoothed_params',
]
