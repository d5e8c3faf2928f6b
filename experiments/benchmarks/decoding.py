"""Seconds to translate a test set by beam search, after compilation.

  python -m experiments.benchmarks.decoding --data_dir=data/multi30k

Translates 1,000 source sentences twice with the `small` Transformer, of fresh
parameters unless --model names a run's directory, and times the second pass.
Fresh parameters never end a sentence, so that theirs is the worst case: every
translation runs to its limit. Takes about three minutes.
"""

import time

import jax
from absl import flags

from experiments.ledger import execute as experiment
from experiments.ledger import scales
from stale_adam.policy import Communication

DATA_DIR = flags.DEFINE_string('data_dir', None, 'As in experiments.train.')
PAIR = flags.DEFINE_string('pair', 'en-de', 'Source-target.')
MODEL = flags.DEFINE_string('model', None, "A run's directory.")
BEAM = flags.DEFINE_integer('beam', 4, 'Hypotheses a sentence.', 1)
SENTENCES = flags.DEFINE_integer('sentences', 1000, 'How many.', 1)


def main(_):
  text = scales.load(
    'small' if DATA_DIR.value else 'tiny', PAIR.value, DATA_DIR.value
  )
  sentences = next(iter(text.tests.values())).source
  sentences = (sentences * SENTENCES.value)[: SENTENCES.value]
  if MODEL.value:
    model, params = experiment.load(MODEL.value)
  else:
    settings = scales.settings('small', 'transformer', Communication(4))
    model = experiment.task(settings, text).model
    params = model.init(jax.random.key(0))
  for name in ('with compilation', 'compiled'):
    began = time.perf_counter()
    model.translate(params, sentences, BEAM.value)
    seconds = time.perf_counter() - began
    print(
      f'{name}: {seconds:.1f} s for {len(sentences)} sentences, beam '
      f'{BEAM.value}',
      flush=True,
    )


if __name__ == '__main__':
  experiment.main(main)
