"""Invented records, for tests of what is rendered from records."""

import dataclasses
from pathlib import Path

from experiments.ledger.records import Records
from experiments.paper import reproduce

RESULTS = Path(__file__).parents[1] / 'results'
ALL = [run for module in reproduce.EXPERIMENTS for run in module.RUNS]
# Of thousands that may follow, a seventh: some of every kind.
ALL += list(
  dict.fromkeys(
    run
    for module in reproduce.EXPERIMENTS
    if hasattr(module, 'possible')
    for run in module.possible()
  )
)[::7]


class Invented(Records):
  """Invented records by run; every seed has the record of seed 0."""

  def __init__(self, found, scale='small'):
    super().__init__(scale)
    self._invented = found

  def get(self, run):
    return self._invented.get(dataclasses.replace(run, seed=0))


def record(bleu, speed=1.0, curve=()):
  points = [
    {
      'virtual_seconds': s,
      'updates': 9 * s,
      'target_words': speed * s,
      'bleu': b,
    }
    for s, b in curve
  ]
  speeds = {'virtual': speed}
  return {'best_bleu': bleu, 'words_per_second': speeds, 'curve': points}


# A whole record, with every field.
RECORD = {
  'experiment': 'table1',
  'scale': 'tiny',
  'run': 'transformer-seed0',
  'text': {'name': 'nothing en-de', 'sha256': 'ab' * 32},
  'config': {'pair': 'en→de', 'shape': [8, 48, 48]},
  'curve': [
    {
      'updates': 5 * i,
      'pushes': 20 * i,
      'target_words': 1000 * i,
      'epochs': 0.1 * i,
      'virtual_seconds': 2.5 * i,
      'seconds': 7.5 * i,
      'train_loss': 6.0 - i,
      'validation_loss': 7.0 - i,
      'bleu': bleu,
    }
    for i, bleu in enumerate([0.0, 12.5, 11.0, 20.0], start=1)
  ],
  'best_bleu': 20.0,
  'test_bleu': {'test': 19.5, 'other': 18},
  'sacrebleu_signature': 'nrefs:1|case:mixed',
  'mean_staleness': 2.5,
  'staleness_histogram': {'0': 1, '3': 5},
  'words_per_second': {'virtual': 400.0, 'measured': 133.3},
  'trace_sha256': '0' * 64,
  'provenance': {
    'commit': 'abc',
    'dirty': False,
    'command': 'python -m experiments.train',
    'seed': 0,
    'versions': {'jax': '1'},
    'device': 'cpu',
    'pool': 'virtual',
    'started_utc': '2026-01-01T00:00:00+00:00',
    'seconds': 30.0,
  },
}
