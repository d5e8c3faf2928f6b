"""Where a run's time went, for Perfetto to show: who computed, pushed, waited.

  python -m experiments.timeline --trace=runs/en-de/trace.npz

writes runs/en-de/timeline.json, which https://ui.perfetto.dev opens: a track
for the server, with counters of staleness, version and loss, and one for each
worker; an arrow leads from each pull to the push made from it. Prints the share
of their time that workers and server were busy. A few seconds.
"""

import sys
from pathlib import Path

from absl import flags

from experiments.ledger import execute as experiment
from stale_adam import timeline
from stale_adam.trace import Trace, busy_share

TRACE = flags.DEFINE_string('trace', None, 'trace.npz of a run.', required=True)
OUT = flags.DEFINE_string(
  'out', None, 'JSON file to write; timeline.json beside the trace by default.'
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
  experiment.main(main)
