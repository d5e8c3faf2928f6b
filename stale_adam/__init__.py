"""Training with stale gradients: what it does, and what repairs it."""

from stale_adam import pools as pools
from stale_adam.clock import Clock as Clock
from stale_adam.optimizer import adam as adam
from stale_adam.optimizer import inverse_sqrt as inverse_sqrt
from stale_adam.problem import Problem as Problem
from stale_adam.server import Communication as Communication
from stale_adam.server import serve as serve
from stale_adam.trace import Trace as Trace
