"""Accumulation, staleness and smoothing as optax transformations for any loop.

Each wraps an optimizer, or a chain of transformations, that need not know about
it. Where to take gradients: at the parameters with `accumulate` and with a
constant `delay`; at `pulled_params(state)` with `hold` and with every other
`delay`, whose update asks for these parameters by name:

  late = pulled_params(state)
  gradient = jax.grad(loss)(late)
  updates, state = optimizer.update(gradient, state, params, pulled=late)
  params = optax.apply_updates(params, updates)

Extra arguments of `update` are passed on to what is wrapped, in the calls in
which it runs. `delay` and `hold` add `staleness`, that of the gradient, in
updates; where they keep versions they pass on `pulled`, too. So a method that
takes these arguments works in any loop, as it does on the server.

`smooth` keeps an average of the parameters, to be validated and used:
`smoothed_params(state)`.
"""

from stale_adam.transforms.accumulation import AccumulateState, accumulate
from stale_adam.transforms.delays import QueueState, delay
from stale_adam.transforms.holding import hold
from stale_adam.transforms.pulled import HoldState, VersionsState, pulled_params
from stale_adam.transforms.smoothing import (
  SmoothState,
  smooth,
  smoothed_params,
)

__all__ = [
  'AccumulateState',
  'HoldState',
  'QueueState',
  'SmoothState',
  'VersionsState',
  'accumulate',
  'delay',
  'hold',
  'pulled_params',
  'smooth',
  'smoothed_params',
]
