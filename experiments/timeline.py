"""Draws where the time of a run went: who computed, pushed and waited.

  python -m experiments.timeline --trace=runs/en-de/trace.npz

writes runs/en-de/timeline.json; open it in https://ui.perfetto.dev. The server
has a track with counters of staleness, version and loss, every worker has a
track, and an arrow leads from each pull to the push made from it. Prints which
share of the time workers and server were busy. Takes a few seconds.
"""

import sys
from pathlib import Path

from absl import flags

from experiments import launch
from stale_adam import timeline
from stale_adam.trace import Trace, busy_share

TRACE = flags.DEFINE_string(
  'trace', None, 'File trace.npz that a run left.', required=True
)
OUT = flags.DEFINE_string(
  'out', None, 'JSON file to write; by default timeline.json beside the trace.'
)


def main(_):
  try:
    trace = Trace.load(TRACE.value)
    out = Path(OUT.value or Path(TRACE.value).with_name('timeline.json'))
    timeline.write(out, trace)
    busy = busy_share(trace, int(trace.worker.max(initial=0)) + 1)
  except (ValueError, OSError) as error:
    sys.exit(str(error))
  seconds = trace.seconds.max(initial=0)
  print(
    f'{len(trace):,} pushes in {seconds:.2f} seconds; busy: workers '
    f'{100 * busy["workers"]:.1f}%, the server {100 * busy["server"]:.1f}%'
  )
  print(f'open in https://ui.perfetto.dev: {out}')


if __name__ == '__main__':
  launch.main(main)
