"""Training with stale gradients: what it does, and what repairs it."""

from stale_adam import methods as methods
from stale_adam import pools as pools
from stale_adam.clock import Clock as Clock
from stale_adam.compiled.simulate import simulate as simulate
from stale_adam.measure import Measure as Measure
from stale_adam.optimizer import adam as adam
from stale_adam.optimizer import inverse_sqrt as inverse_sqrt
from stale_adam.policy import Communication as Communication
from stale_adam.problem import Problem as Problem
from stale_adam.server import serve as serve
from stale_adam.trace import Trace as Trace
from stale_adam.transforms import accumulate as accumulate
from stale_adam.transforms import delay as delay
from stale_adam.transforms import hold as hold
from stale_adam.transforms import pulled_params as pulled_params
