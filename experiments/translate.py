"""Translates text with a trained model.

  echo 'The old man reads a book.' | \\
    python -m experiments.translate --model=runs/demo/synchronous
  python -m experiments.translate --model=runs/x --input=a.en --output=a.de

Needs a model that experiments.train or experiments.demo left. Each line gives
one line; an empty line stays empty. Give it one sentence in a line: longer
lines than those of training are translated badly. The `small` model translates
a thousand sentences in about six seconds on two processor cores.
"""

import gzip
import itertools
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from experiments import launch, options
from stale_adam import checks
from stale_adam.nmt import translation

MODEL = flags.DEFINE_string(
  'model',
  None,
  'Directory that a run left (--out of experiments.train), with params.npz and '
  'vocabulary.model.',
)
INPUT = flags.DEFINE_string(
  'input',
  '-',
  'Text file to read, one sentence in a line, or its .gz; - is stdin.',
)
OUTPUT = flags.DEFINE_string(
  'output', '-', 'Text file to write, one translation in a line; - is stdout.'
)
BEAM = options.number('beam', 4, 'Beam size; 1 is greedy search.', int)
flags.mark_flag_as_required('model')

_LINES = 1024  # Translated together.


def main(_):
  try:
    checks.whole('--beam', BEAM.value, 1, 1000)
    if not (Path(MODEL.value) / 'params.npz').exists():
      raise FileNotFoundError(
        f'--model={MODEL.value}: no params.npz there; name the directory of a '
        'run, which is --out of experiments.train'
      )
    model, params = translation.load(MODEL.value)
    if not (Path(MODEL.value) / 'record.json').exists():
      print(
        f'--model={MODEL.value}: this run has not finished; these are its best '
        'parameters so far',
        file=sys.stderr,
      )
    if INPUT.value == OUTPUT.value != '-':
      raise ValueError(f'--input and --output are both {INPUT.value}')
    source, target = sys.stdin, sys.stdout
    if INPUT.value != '-':
      opener = gzip.open if INPUT.value.endswith('.gz') else open
      source = opener(INPUT.value, 'rb')
    if OUTPUT.value != '-':
      target = open(OUTPUT.value, 'wb')
  except (OSError, ValueError) as error:
    sys.exit(str(error))
  source = getattr(source, 'buffer', source)
  target = getattr(target, 'buffer', target)
  numbered = _read(enumerate(source, start=1))
  while block := list(itertools.islice(numbered, _LINES)):
    texts = model.translate(params, [_decode(*n) for n in block], BEAM.value)
    target.write(''.join(text + '\n' for text in texts).encode())
    target.flush()


def _read(numbered: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
  try:
    yield from numbered
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    sys.exit(f'--input={INPUT.value}: damaged gzip: {error}')


def _decode(number: int, line: bytes) -> str:
  try:
    return line.decode().strip()
  except UnicodeDecodeError as error:
    print(
      f'{INPUT.value}:{number}: not UTF-8 ({error.reason}); the bytes in '
      'question become U+FFFD',
      file=sys.stderr,
    )
    return line.decode(errors='replace').strip()


if __name__ == '__main__':
  launch.main(main)
