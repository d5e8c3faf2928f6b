"""More workers, hence more staleness, which the paper leaves open.

  python -m experiments.future_workers --scale=tiny

Question (section 7): what do 2 to 64 workers do, whose gradients are stale by
(N - 1) / G updates, when the server sums G = 1, N / 2 or N pushes? All see the
same words, so that an update of 64 batches comes by a sixteenth as often as one
of four: its warm-up and decay span the same words. Synchronous runs of N
workers show what the large batch alone costs. One seed. 23 runs, of which
Table 3 shares 3, about 15 minutes on two processor cores.
"""

from experiments import runs
from stale_adam.communication import Communication

WORKERS = (2, 4, 8, 16, 32, 64)


def run(workers: int, pushes: int | None) -> runs.Run:
  """Asynchronous with G = `pushes`; synchronous if that is None."""
  communication = Communication(workers, 1, pushes or 1, pushes is None)
  return runs.base('transformer', communication)


def pushes(workers: int) -> list[int | None]:
  """The values of G, once each, and the synchronous run."""
  return [*dict.fromkeys((1, workers // 2, workers)), None]


RUNS = [run(n, g) for n in WORKERS for g in pushes(n)]
