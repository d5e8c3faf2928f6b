"""The numbers that Aji & Heafield (2019) print.

Alham Fikri Aji and Kenneth Heafield. Making Asynchronous Stochastic Gradient
Descent Work for Transformers. WNGT 2019, pages 80-89, doi 10.18653/v1/D19-5608.

Tables are indexed by model, 'transformer' or 'rnn', and communication, one of
the names below.
"""

from typing import NamedTuple

SYNC = 'synchronous'
ASYNC = 'asynchronous'
LOCAL = 'asynchronous + 4x local'
COMBINED = 'asynchronous + 2x local + 2x global'
GLOBAL = 'asynchronous + 4x global'

# Section 4.1.
WORKERS = 4
WARMUP_UPDATES = 16_000  # The Transformer's; both then decay as 1 / sqrt.
LEARNING_RATE = {'transformer': 0.0003, 'rnn': 0.0006}
EPOCHS = 8  # At most.
PATIENCE = 5  # Validations in a row whose loss is no improvement.

# Section 4.3: updates between two pulls, by mean staleness.
PULL_EVERY = {2: 5, 3: 7}

# Section 4.3: the Transformer at twice the learning rate. The staleness is
# artificial, or that of asynchronous training with four batches in an update.
BLEU_OF_STALENESS_3_DOUBLED = 0.0

# Section 5.3. The heading of Table 4 has en-fi and en-ru the other way round.
VALIDATION = {
  'en-de': 'newstest2016',
  'en-fi': 'newstest2015',
  'en-ru': 'newstest2017',
}
TEST = {
  'en-de': 'newstest2017',
  'en-fi': 'newstest2018',
  'en-ru': 'newstest2018',
}

# Table 1, TABLE1[learning rate][model, communication]: validation BLEU, en-de.
_COLUMNS = [
  ('transformer', SYNC),
  ('transformer', ASYNC),
  ('rnn', SYNC),
  ('rnn', ASYNC),
]
TABLE1 = {
  rate: dict(zip(_COLUMNS, bleu, strict=True))
  for rate, *bleu in [
    (0.0002, 35.08, 13.27, 34.11, 33.77),
    (0.0003, 35.66, 30.72, 33.79, 33.95),
    (0.00045, 35.59, 5.21, 33.68, 33.68),
    (0.0006, 35.42, 0.0, 34.3, 33.76),
    (0.0009, 34.79, 0.0, 34.28, 33.47),
    (0.0012, 33.96, 0.0, 34.37, 33.23),
    (0.0024, 29.35, 0.0, 33.98, 32.83),
    (0.00375, 25.25, 0.0, 33.8, 31.89),
  ]
}

# Table 2, TABLE2[sequence][quantity]: Adam at the learning rate 0.001, before
# the first update and after each of six updates. `g` are the six gradients.
TABLE2 = {
  'constant': {
    'g': [1, 1, 1, 1, 1, 1],
    'm': [0, 0.1, 0.19, 0.271, 0.344, 0.41, 0.469],
    'v': [0, 0.02, 0.04, 0.059, 0.078, 0.096, 0.114],
    'm_hat': [0, 1, 1, 1, 1, 1, 1],
    'v_hat': [0, 1, 1, 1, 1, 1, 1],
    'theta': [0, -0.001, -0.002, -0.003, -0.004, -0.005, -0.006],
  },
  'scaled': {
    'g': [0.5, 1.5, 0.5, 1.5, 0.5, 1.5],
    'm': [0, 0.05, 0.195, 0.226, 0.353, 0.368, 0.481],
    'v': [0, 0.005, 0.05, 0.054, 0.098, 0.101, 0.144],
    'm_hat': [0, 0.5, 1.026, 0.832, 1.026, 0.898, 1.026],
    'v_hat': [0, 0.25, 1.26, 0.917, 1.26, 1.05, 1.26],
    'theta': [0, -0.001, -0.002, -0.003, -0.004, -0.005, -0.005],
  },
  'different sign': {
    'g': [-1, 2, -1, 2, -1, 2],
    'm': [0, -0.1, 0.11, -0.001, 0.199, 0.079, 0.271],
    'v': [0, 0.02, 0.1, 0.118, 0.195, 0.211, 0.287],
    'm_hat': [0, -1, 0.579, -0.004, 0.579, 0.193, 0.579],
    'v_hat': [0, 1, 2.515, 2, 2.515, 2.2, 2.515],
    'theta': [0, 0.001, 0.001, 0.001, 0.0, 0.0, -0.0],
  },
}


class Cells(NamedTuple):
  """A line of Table 3: accumulation, speed and quality, en-de."""

  local_accumulation: int
  global_accumulation: int
  batch_gb: int  # By update.
  mean_staleness: float  # Updates.
  words_per_second: int  # Target words.
  best_bleu: float  # Validation.
  hours: dict[int, float | None]  # By the BLEU to reach; None: never reached.


def _table3(model, targets, *lines):
  return {
    (model, communication): Cells(
      *cells, dict(zip(targets, hours, strict=True))
    )
    for communication, *cells, hours in lines
  }


# Table 3, TABLE3[model, communication].
_NEVER = (None, None, None)
TABLE3 = _table3(
  'transformer',
  (33, 34, 35),
  (SYNC, 1, 4, 40, 0, 36029, 35.66, (5.3, 7.6, 15.6)),
  (ASYNC, 1, 1, 10, 3, 39883, 30.72, _NEVER),
  (LOCAL, 4, 1, 40, 3, 45177, 30.98, _NEVER),
  (COMBINED, 2, 2, 40, 1.5, 43115, 35.68, (4.9, 6.8, 15.4)),
  (GLOBAL, 1, 4, 40, 0.75, 39514, 35.84, (4.6, 6.7, 11.4)),
) | _table3(
  'rnn',
  (32, 33, 34),
  (SYNC, 1, 4, 40, 0, 23054, 34.3, (3.6, 6.2, 18.8)),
  (ASYNC, 1, 1, 10, 3, 24683, 33.76, (2.7, 5.1, None)),
  (LOCAL, 4, 1, 40, 3, 27090, 33.83, (4.1, 6.1, None)),
  (COMBINED, 2, 2, 40, 1.5, 25578, 34.2, (3.2, 5.9, 13.7)),
  (GLOBAL, 1, 4, 40, 0.75, 24312, 34.48, (3.1, 5.4, 14.5)),
)

# The speeds that the virtual clock is fitted to, by model, in this order:
# asynchronous, with 4x local accumulation, synchronous.
_FITTED = (ASYNC, LOCAL, SYNC)
WORDS_PER_SECOND = {
  model: tuple(float(TABLE3[model, c].words_per_second) for c in _FITTED)
  for model in ('transformer', 'rnn')
}

# Table 4, TABLE4[model, communication][pair, 'validation' or 'test']: BLEU.
_SETS = [(pair, part) for pair in TEST for part in ('validation', 'test')]
TABLE4 = {
  (model, communication): dict(zip(_SETS, bleu, strict=True))
  for model, communication, *bleu in [
    ('transformer', SYNC, 35.66, 28.81, 18.47, 14.03, 29.31, 25.49),
    ('transformer', ASYNC, 30.72, 24.68, 11.63, 8.73, 21.12, 17.78),
    ('transformer', GLOBAL, 35.84, 28.66, 18.47, 13.78, 29.12, 25.25),
    ('rnn', SYNC, 34.3, 27.43, 16.94, 12.75, 26.96, 23.11),
    ('rnn', ASYNC, 33.76, 26.84, 14.94, 10.96, 26.39, 22.48),
    ('rnn', GLOBAL, 34.48, 27.56, 17.05, 12.76, 27.15, 23.41),
  ]
}

# Table 5, TABLE5[learning rate][model, communication]: validation BLEU, en-de.
_COMPARED = [
  ('transformer', SYNC),
  ('transformer', ASYNC),
  ('transformer', GLOBAL),
]
TABLE5 = {
  rate: dict(zip(_COMPARED, bleu, strict=True))
  for rate, *bleu in [
    (0.0003, 35.66, 30.72, 35.84),
    (0.0006, 35.42, 0.0, 35.81),
    (0.0012, 33.96, 0.0, 33.62),
    (0.0024, 29.35, 0.0, 1.2),
  ]
}
