"""Writes all results as a page to look at.

  python -m experiments.page                    # runs/page/index.html
  python -m experiments.page --results=runs/again   # runs/again/page/index.html

Reads Markdown and records of --results, as `experiments.paper.reproduce` leaves
them, and writes a directory that any browser opens from disk, without a
network: every table and figure with the paper's numbers beside ours, figures
that can be explored, and a page for every run with its curve, staleness,
timeline, settings, origin and translations. The directory is replaced.

  python -m experiments.page --serve=runs       # http://127.0.0.1:8000/

shows the runs below a directory while they are made: curve, staleness, speed
and time left, as of their last saved states. Only this machine can connect.
Ctrl-C ends it.
"""

import sys
from pathlib import Path

from absl import flags

from experiments import command, launch
from experiments.ledger import scales
from experiments.ledger.store import Stored
from experiments.page import live, site
from experiments.paper import reproduce

RESULTS = command.RESULTS
flags.declare_key_flag('results')
OUT = flags.DEFINE_string(
  'out',
  None,
  'Directory to write; by default runs/page, or page in --results if that is '
  'given.',
)
SERVE = flags.DEFINE_string(
  'serve', None, 'Directory whose runs are shown while they are made.'
)
PORT = flags.DEFINE_integer(
  'port', 8000, 'With --serve: port on this machine; 0 for any.', 0, 65535
)


def serve(folder: Path) -> None:
  """Shows runs until Ctrl-C.

  Raises:
    OSError: if there is no such directory, or the port is taken.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f'--serve={folder}: there is no such directory')
  try:
    made = live.server(folder, PORT.value)
  except OSError as error:
    raise OSError(f'--port={PORT.value}: {error}; name another one') from None
  with made:
    print(f'open http://127.0.0.1:{made.server_port}/', flush=True)
    made.serve_forever()


def main(_):
  if SERVE.value:
    try:
      serve(Path(SERVE.value))
    except OSError as error:
      sys.exit(str(error))
  results = Path(RESULTS.value or 'results')
  try:
    if not any(results.glob('records/*/*.json')):
      raise FileNotFoundError(
        f'--results={results}: no records, as experiments.paper.reproduce '
        'leaves them; for runs of experiments.train, use --serve'
      )
    every = [Stored(scale, results) for scale in scales.SCALES]
    out = Path(OUT.value) if OUT.value else reproduce.place(results)
    path = site.build(results, out, reproduce.EXPERIMENTS, every)
  except (ValueError, OSError) as error:
    sys.exit(str(error))
  print(f'open {path}')


if __name__ == '__main__':
  launch.main(main)
