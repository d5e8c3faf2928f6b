"""A Ray cluster of several machines on this one, and workers that are killed.

Ray is an extra: without it, what needs a cluster is skipped.
"""

import contextlib
import importlib.util
import os
import signal
import warnings
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MISSING = importlib.util.find_spec('ray') is None
needed = pytest.mark.skipif(MISSING, reason='needs Ray: make cluster')

# Before any machine starts: they inherit it. A token would lie in the home
# folder; nothing is reported; the actors import what tests import.
_ENVIRONMENT = {
  'RAY_AUTH_MODE': 'disabled',
  'RAY_USAGE_STATS_ENABLED': '0',
  'RAY_TMPDIR': '/tmp',  # The paths of sockets must be short.
  'PYTHONPATH': f'{HERE}{os.pathsep}{HERE.parent}',
}
_started = []


@contextlib.contextmanager
def _environment():
  """What machines that start here inherit."""
  kept = {name: os.environ.get(name) for name in _ENVIRONMENT}
  os.environ |= _ENVIRONMENT
  try:
    with warnings.catch_warnings():
      warnings.filterwarnings('ignore', r'os\.fork\(\) was called')
      yield
  finally:
    for name, value in kept.items():
      del os.environ[name]
      if value is not None:
        os.environ[name] = value


def start():
  """The cluster of this process: a head without room, and two machines."""
  if not _started:
    import ray
    from ray.cluster_utils import Cluster

    with _environment():
      head = {'num_cpus': 0, 'object_store_memory': 2**28}
      made = Cluster(initialize_head=True, head_node_args=head)
      machines = [add(made) for _ in range(2)]
      ray.init(address=made.address, logging_level='warning')
    _started.append((made, machines))
  return _started[0]


def add(made):
  """One more machine."""
  with _environment():
    return made.add_node(num_cpus=2, object_store_memory=2**28)


def stop():
  """Ends the cluster, if there is one."""
  while _started:
    import ray

    ray.shutdown()
    _started.pop()[0].shutdown()


def kill(pool, worker, number=signal.SIGKILL):
  """Sends a signal to the process of a worker."""
  os.kill(pool._crew.seats[worker].place.process, number)
