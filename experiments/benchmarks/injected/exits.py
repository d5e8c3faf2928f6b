"""Processes that end while threads compile."""

import random
import signal
import subprocess
import sys
import threading

from experiments.benchmarks.injected import Row

_PATIENCE = 120.0  # Seconds until a process counts as hung.
# How it is ended, and its exit status then.
ENDS = {
  'return': 0,
  'SIGINT': -signal.SIGINT,
  'SIGTERM': -signal.SIGTERM,
}
POOLS = ('Threads', 'Virtual')
_PROGRAM = """
import contextlib, sys
import jax
jax.config.update('jax_num_cpu_devices', 2)
jax.config.update('jax_enable_compilation_cache', False)  # It has to compile.
import jax.numpy as jnp
import stale_adam as sa

def loss(params, batch, key):
  print('traces', flush=True)
  for i in range(60):
    params = jnp.tanh(params @ params + i)
  return jnp.sum(params * batch)

class Leave(Exception):
  pass

def batch(number):
  if number == 0 and end == 'return':  # The other worker compiles meanwhile.
    sys.stdin.readline()
    raise Leave
  return jnp.ones((8, 8))

problem = sa.Problem(lambda key: jnp.eye(8), loss, batch)
end, kind = sys.argv[1:]
pool = getattr(sa.pools, kind)()
with contextlib.suppress(Leave):
  for _ in sa.serve(problem, sa.adam(1e-3), sa.Communication(2), pool):
    pass
"""


def end(how: str, kind: str, seconds: float) -> str | None:
  """End a process, whose pool is open, so long after it has begun to trace.

  It returns from its main thread after an error of one worker, or is sent a
  signal, while another worker compiles.

  Returns:
    What was wrong; None if it ended as it should.
  """
  process = subprocess.Popen(
    [sys.executable, '-c', _PROGRAM, how, kind],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  process.stdout.readline()
  threading.Event().wait(seconds)
  if how == 'return':
    process.stdin.write('\n')
    process.stdin.flush()
  else:
    process.send_signal(getattr(signal, how))
  try:
    _, errors = process.communicate(timeout=_PATIENCE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.communicate()
    return f'{how}, {kind}: hung'
  if process.returncode != ENDS[how]:
    last = errors.strip().splitlines()[-1:] or ['']
    return f'{how}, {kind}: exit status {process.returncode}, {last[0]}'
  return None


def row(count: int, seed: int) -> Row:
  """End `count` processes, in every way and with both pools in turn."""
  rng = random.Random(seed)
  wrong = []
  for i in range(count):
    kind = POOLS[i // len(ENDS) % len(POOLS)]
    found = end([*ENDS][i % len(ENDS)], kind, rng.uniform(0, 1.5))
    wrong += [found] if found else []
  return Row('exit while compiling', count, len(wrong), _told(wrong))


def _told(wrong: list[str]) -> str:
  return '; '.join(dict.fromkeys(wrong)) or 'nothing'
