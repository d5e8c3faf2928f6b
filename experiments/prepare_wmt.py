"""Downloads WMT's text and converts it, once, for --scale=paper.

  pip install -e '.[wmt]'
  python -m experiments.prepare_wmt --pair=en-de --data_dir=data/wmt

Needs the extra `wmt`, which installs TensorFlow (2.3 GB): TensorFlow Datasets
unpacks its downloads with it. Commands that read the result, such as
experiments.train with the same --data_dir, do not need TensorFlow. A pair and
its reverse share their data.

  en-de  WMT17: Europarl, Common Crawl, News Commentary, Rapid; in all 5.9
         million pairs.
  en-fi  WMT18: Europarl, ParaCrawl, Rapid, Wikipedia headlines.
  en-ru  WMT18: Common Crawl, News Commentary, ParaCrawl, the UN corpus (most of
         it), Wikipedia headlines. Yandex's corpus is left out: it cannot be
         downloaded automatically.

Each comes with its newstests; `help(stale_adam.nmt.data.corpus.wmt)` says which
year is for validation. Takes hours; prints the number of pairs in each split.
"""

import sys

from absl import flags

from experiments import launch
from stale_adam.nmt.data import wmt

PAIR = flags.DEFINE_enum(
  'pair',
  None,
  ['en-de', 'en-fi', 'en-ru', 'de-en', 'fi-en', 'ru-en'],
  'Source and target language.',
)
DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  'Directory for the data; files that it already has are kept.',
)
flags.mark_flags_as_required(['pair', 'data_dir'])


def main(_):
  try:
    wmt.prepare(PAIR.value, DATA_DIR.value)
  except ImportError as error:
    sys.exit(str(error))
  builder = wmt.prepared(PAIR.value, DATA_DIR.value)
  print(builder.data_path)
  for name, split in builder.info.splits.items():
    print(f'  {name}: {split.num_examples:,} pairs')


if __name__ == '__main__':
  launch.main(main)
