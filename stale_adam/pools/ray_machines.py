"""The machines of a Ray cluster: how to reach them, and which has room."""

import logging
import os
import socket
import warnings
from collections.abc import Mapping
from typing import Any


def connect(address: str | None) -> Any:
  """Connect this process to a cluster, unless it is connected: Ray's module.

  Args:
    address: 'host:port' of the cluster's head; 'auto' finds one that this
      machine is part of; None starts Ray on this machine alone.

  Raises:
    ImportError: if Ray is not installed.
    ConnectionError: if there is no cluster at the address, or one of another
      version.
  """
  try:
    import ray
    import ray.util.scheduling_strategies
  except ImportError:
    raise ImportError(
      "the pool needs Ray: install it by pip install -e '.[cluster]'"
    ) from None
  if ray.is_initialized():
    return ray
  options: dict[str, Any] = {'logging_level': logging.WARNING}
  if address is None:
    # Nothing is reported to Ray's developers unless the user wants that.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    options['include_dashboard'] = False
  elif address != 'auto':
    check_address(address)
  try:
    with warnings.catch_warnings():
      # JAX warns of every fork; these run another program at once.
      warnings.filterwarnings('ignore', r'os\.fork\(\) was called')
      ray.init(address=address or 'local', **options)
  except (ConnectionError, RuntimeError, ValueError) as error:
    reason = ' '.join(str(error).split())
    raise ConnectionError(
      f'no Ray cluster at address={address!r}: {reason}'
    ) from error
  return ray


def check_address(address: str) -> None:
  """Refuse an address where nobody answers; Ray would try for a minute.

  Raises:
    ConnectionError: with what to do.
  """
  name, _, port = address.rpartition(':')
  if not name or not port.isdigit() or '//' in address:
    raise ConnectionError(
      f"address={address!r} is no cluster's: use 'host:port', as `ray start "
      "--head` prints it (port 6379 by default), or 'auto'"
    )
  try:
    socket.create_connection((name, int(port)), 5.0).close()
  except (OSError, OverflowError) as error:
    raise ConnectionError(
      f'nobody answers at address={address!r} ({error}): start the cluster by '
      '`ray start --head` on its first machine, and use the address that it '
      'prints'
    ) from None


def room(ray: Any) -> dict[str, float]:
  """Machines that live, by Ray's id, and their GPUs, or CPUs if none has any.

  A machine without them, such as a head with `--num-cpus=0`, is left out.
  """
  nodes = [node for node in ray.nodes() if node['Alive']]
  for kind in ('GPU', 'CPU'):
    found = {n['NodeID']: n['Resources'].get(kind, 0.0) for n in nodes}
    if any(found.values()):
      return {machine: units for machine, units in found.items() if units > 0}
  return {}


def host(ray: Any, machine: str | None) -> str:
  """The name of a machine, for people."""
  names = {n['NodeID']: n['NodeManagerHostname'] for n in ray.nodes()}
  return str(names.get(machine, 'an unknown machine'))


def roomiest(
  machines: Mapping[str, float], counts: Mapping[Any, int]
) -> str | None:
  """The machine with the fewest workers for its room; None if there is none.

  Args:
    machines: and how much room each has.
    counts: workers on each.
  """
  load = lambda machine: (counts.get(machine, 0) + 1) / machines[machine]
  return min(machines, key=load, default=None)


def unbalanced(
  machines: Mapping[str, float], counts: Mapping[Any, int]
) -> tuple[str, str] | None:
  """The fullest and the emptiest machine, if a worker had better move.

  It moves if the emptiest one is then less full than the fullest one was.
  """
  emptiest = roomiest(machines, counts)
  if emptiest is None:
    return None
  load = lambda machine: counts.get(machine, 0) / machines[machine]
  fullest = max(machines, key=load)
  after = (counts.get(emptiest, 0) + 1) / machines[emptiest]
  return (fullest, emptiest) if after < load(fullest) else None
