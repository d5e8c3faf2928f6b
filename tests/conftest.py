"""What every test runs on: four CPU devices, strict shapes, a toy problem."""

import contextlib
import itertools
import os
import signal

# Before jax is imported: it reads these once.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = ' '.join(
  [
    os.environ.get('XLA_FLAGS', ''),
    # As commands do on a few cores. It decides how matrix products round.
    '--xla_cpu_multi_thread_eigen=false',
    '--xla_force_host_platform_device_count=4',
  ]
).strip()
# In a commit hook, these name the repository of the commit; tests have others.
for name in [name for name in os.environ if name.startswith('GIT_')]:
  del os.environ[name]
# What a shell starts in the background ignores Ctrl-C, and so would children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

import budget  # noqa: E402
import hypothesis  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import programs  # noqa: E402
import pytest  # noqa: E402
import toys  # noqa: E402

import stale_adam as sa  # noqa: E402
from stale_adam.pools import contract  # noqa: E402
from stale_adam.worker import Push  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
# A deadline is a wall-clock assertion, and compilation is slow.
hypothesis.settings.register_profile('no_clock', deadline=None)
hypothesis.settings.load_profile('no_clock')


def pytest_configure(config):
  config.pluginmanager.register(budget.Budget())
  programs.keep(config)


class Scripted(contract.Pool):
  """Workers that arrive in a given order, whatever that order is.

  The i-th arrival is that of the `draws[i]`-th (modulo) of the workers that
  have work, so that any list of numbers is an order that could happen.
  """

  def __init__(self, draws):
    self._draws = iter(draws)
    self.flights = {}  # Work in flight, by worker.
    self.answers = []  # (worker, work), as the server sent them.

  def send(self, worker, work):
    assert work.restart == (worker in self.flights), worker
    self.flights[worker] = work
    self.answers.append((worker, work))

  def receive(self):
    workers = sorted(self.flights)
    worker = workers[next(self._draws) % len(workers)]
    work = self.flights.pop(worker)
    version, params = work.snapshot
    found = work.compute(params, work.ids, work.memory)
    return Push(worker, version, work.ids, 0.0, *found)

  def paused(self):
    return contextlib.nullcontext()

  def state(self):
    return {}

  def restore(self, state):
    pass

  def close(self):
    pass


def _served(problem, optimizer, communication, pool, count, seed=0):
  arrivals = sa.serve(problem, optimizer, communication, pool, seed)
  try:
    pairs = list(itertools.islice(arrivals, count))
  finally:
    if hasattr(pool, 'close'):
      pool.close()
  return [push for push, _ in pairs], [state for _, state in pairs]


@pytest.fixture(scope='session')
def toy():
  """The problem of `reference.py`, in JAX."""
  return toys.PROBLEM


@pytest.fixture(scope='session')
def linear():
  """The cheapest problem there is: its gradient is its batch."""
  return sa.Problem(
    init=lambda key: jnp.zeros(2),
    loss=lambda params, batch, key: jnp.vdot(params, batch),
    batch=lambda number: jnp.array([1.0, number]),
  )


@pytest.fixture(scope='session')
def scripted():
  """The pool that receives in the order of a script."""
  return Scripted


@pytest.fixture(scope='session')
def served():
  """Runs `serve` for `count` arrivals: (pushes, states)."""
  return _served
