"""Downloads WMT's text and converts it, once, for --scale=paper.

  pip install -e '.[wmt]'
  python -m experiments.prepare_wmt --pair=en-de --data_dir=data/wmt

Needs the extra `wmt`, which is TensorFlow (2.3 GB): TensorFlow Datasets unpacks
its downloads with it. Reading what is left here, as experiments.train does with
the same --data_dir, takes no TensorFlow. A pair and its reverse share data.

  en-de  WMT17: Europarl, Common Crawl, News Commentary, Rapid; in all 5.9
         million pairs.
  en-fi  WMT18: Europarl, ParaCrawl, Rapid, Wikipedia headlines.
  en-ru  WMT18: Common Crawl, News Commentary, ParaCrawl, the UN corpus (most of
         it), Wikipedia headlines; not Yandex's, which is fetched by hand only.

Each comes with its newstests; `stale_adam.nmt.data.corpus.wmt` says which year
validates. Takes hours, and prints how many pairs each split has.
"""

import sys

from absl import app, flags

from stale_adam.nmt.data import wmt

PAIR = flags.DEFINE_enum(
  'pair',
  None,
  ['en-de', 'en-fi', 'en-ru', 'de-en', 'fi-en', 'ru-en'],
  'Languages to fetch.',
)
DATA_DIR = flags.DEFINE_string(
  'data_dir', None, 'Directory to fill; what it has already is kept.'
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
  app.run(main)
