"""Seconds to translate a test set by beam search, after compilation.

  python -m experiments.benchmarks.decoding --data_dir=data/multi30k

Translates 1,000 source sentences twice with the `small` Transformer, with fresh
parameters unless --model names a run's directory, and times the second pass.
Fresh parameters are the worst case: they never end a sentence, so every
translation runs to its limit. Takes about three minutes.
"""

import time

import jax
from absl import flags

from experiments import launch, options
from experiments.ledger import execute, scales, texts
from stale_adam.nmt import translation

DATA_DIR, PAIR = options.data_dir(), options.pair()
MODEL = flags.DEFINE_string(
  'model', None, 'Directory of a finished run; by default fresh parameters.'
)
BEAM = flags.DEFINE_integer('beam', 4, 'Beam size.', 1)
SENTENCES = flags.DEFINE_integer('sentences', 1000, 'Number of sentences.', 1)


def main(_):
  scale = 'small' if DATA_DIR.value else 'tiny'
  text = texts.load(scale, PAIR.value, DATA_DIR.value)
  sentences = next(iter(text.tests.values())).source
  sentences = (sentences * SENTENCES.value)[: SENTENCES.value]
  if MODEL.value:
    model, params = translation.load(MODEL.value)
  else:
    settings = scales.settings('small', 'transformer', pair=PAIR.value)
    model = execute.make_task(settings, text).model
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
  launch.main(main)
