"""Other optimizers under plain asynchrony, which the paper leaves open.

  python -m experiments.future_optimizers --scale=tiny

Question (section 7): can a plain asynchronous Transformer, four workers and no
accumulation, be trained under another optimizer than Adam? Each has three
learning rates, in multiples of the scale's for Adam; its best is compared with
synchronous Adam. One seed. 24 runs, about 15 minutes on two processor cores.
"""

from experiments import paper, runs

# Multiples of the base rate, about a factor of the usual one for each.
RATES = {
  'adam': (1 / 8, 1 / 4, 1 / 2),
  'adam b1=0.99': (1 / 8, 1 / 4, 1 / 2),
  'nadam': (1 / 8, 1 / 4, 1 / 2),
  'amsgrad': (1 / 8, 1 / 4, 1 / 2),
  'lion': (1 / 32, 1 / 16, 1 / 8),
  'momentum': (10, 30, 100),
  'adafactor': (3, 10, 30),
  'muon': (1, 2, 4),
}


def run(optimizer: str, times: float) -> runs.Run:
  """Plain asynchronous, at so many times the base rate."""
  rate = times * paper.LEARNING_RATE['transformer']
  return runs.base(
    'transformer', paper.ASYNC, learning_rate=rate, optimizer=optimizer
  )


RUNS = [run(name, times) for name, grid in RATES.items() for times in grid]
