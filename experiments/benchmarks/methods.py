"""What methods against staleness cost: milliseconds a push, beside none.

  python -m experiments.benchmarks.methods      # a minute
  python -m experiments.benchmarks.methods --parameters=1000000

Four asynchronous workers push on a virtual clock, as in training, but their
gradient takes no time: what is left is the worker's message, the server's push
and update, the reply, and the dispatch of all of it. All methods have the
constants of experiments.ledger.methods, one batch a push, and parameters in one
vector; policies make fewer updates than pushes. The methods take turns.
"""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

import stale_adam as sa
from experiments import launch
from experiments.benchmarks import timed
from experiments.ledger import methods

PARAMETERS = flags.DEFINE_integer(
  'parameters', 168_000, 'Number of parameters; by default those of tiny.', 1
)
PUSHES = flags.DEFINE_integer('pushes', 20, 'Pushes per turn.', 1)
TURNS = flags.DEFINE_integer('turns', 15, 'Number of turns per method.', 1)
RATE = 1e-3


def problem(parameters: int) -> sa.Problem:
  """Its gradient is its batch, whatever the parameters are."""
  return sa.Problem(
    lambda key: jax.random.normal(key, (parameters,)),
    lambda params, batch, key: batch * jnp.sum(params),
    lambda number: np.float32(1 + number % 7),
  )


def side(name: str, task: sa.Problem):
  """`run()` makes the pushes of a turn."""
  numbers, rate = sa.Communication(4), optax.constant_schedule(RATE)
  made = methods.Run(numbers, sa.adam(RATE), rate, rate, RATE, 100)
  arguments = methods.arguments(name, made)
  pool = sa.pools.Virtual()
  arrivals = sa.serve(
    task, arguments.pop('optimizer'), arguments.pop('policy'), pool, **arguments
  )

  def run() -> None:
    pairs = itertools.islice(arrivals, PUSHES.value)
    _, server = collections.deque(pairs, maxlen=1).pop()
    jax.block_until_ready(server.params)

  return run


def main(_):
  task = problem(PARAMETERS.value)
  sides = {name: side(name, task) for name in methods.NAMED}
  found = {
    name: 1e3 * np.median(seconds) / PUSHES.value
    for name, seconds in timed.turns(sides, TURNS.value).items()
  }
  print('ms a push  times none')
  for name in sorted(found, key=found.__getitem__):
    print(f'{found[name]:9.2f} {found[name] / found["none"]:11.2f}  {name}')
  print(f'{PARAMETERS.value:,} parameters; {timed.load()}')


if __name__ == '__main__':
  launch.main(main)
