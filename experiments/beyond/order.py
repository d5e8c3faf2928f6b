"""Beyond the paper: one recorded order of real threads, and every method on it.

  python -m experiments.beyond.order --scale=tiny

Question: what does a method change if nothing else does? Four workers on real
host threads train plainly asynchronously; the order of their arrivals is kept
(`order/<scale>.npz`). Then each method that leaves workers and policy alone
trains on the same batches in the same order, from the same parameters, with the
schedule of `methods` and the middle rate of its grid there: times what a method
multiplies it by, it is the same for all under Adam. So differences from the run
without a method, under Adam or momentum, are the method's. Three epochs.
"""

import dataclasses
import sys
from pathlib import Path

import jax

from experiments import command
from experiments.beyond.rows import (
  PLAIN,
  UNCHANGED,
  WITHOUT_ADAM,
  Row,
  short,
)
from experiments.ledger import compiled, directory, execute, runs, scales, work
from experiments.ledger.records import Records
from experiments.ledger.store import Stored
from experiments.render import figures
from experiments.render.report import render
from stale_adam import files, pools
from stale_adam.trace import Trace
from stale_adam.training.record import best

# The middle of every grid.
LINES = {
  name: short(row.run(row.rates[1]))
  for name, row in ({'none': Row('none')} | UNCHANGED | WITHOUT_ADAM).items()
  if row.communication == PLAIN
}
RUNS = list(LINES.values())
WITHOUT = LINES['none']
MOMENTUM = LINES['asynchronous momentum']


def report(records: Records) -> str:
  """BLEU and loss of every method, and the difference from none."""
  orders = {r['trace_sha256'] for r in map(records.get, RUNS) if r}
  if len(orders) > 1:
    raise ValueError(
      f'{records.scale}: the records are of {len(orders)} orders of arrivals: '
      'repeat the command without --plot_only, which makes those of others anew'
    )
  last = lambda record: record['curve'][-1]['validation_loss']
  rows = []
  for name, run in LINES.items():
    row, found = [name, *[records.missing] * 4], records.get(run)
    base = records.get(MOMENTUM if name in WITHOUT_ADAM else WITHOUT)
    if found and base:
      row[1::2] = f'{best(found):.1f}', f'{last(found):.3f}'
      row[2::2] = (
        f'{best(found) - best(base):+.1f}',
        f'{last(found) - last(base):+.3f}',
      )
    rows.append(row)
  header = ['method', 'BLEU', 'difference', 'validation loss', 'difference']
  return figures.table(header, rows)


def recorded(
  scale: str, folder: Path, root: Path, data_dir: str | None = None
) -> Trace:
  """The order of arrivals: of threads, unless it is there already."""
  path = folder / f'{scale}.npz'
  if not path.exists():
    out = root / 'threads'
    with directory.hold(out):
      settings = runs.at(scale, WITHOUT)
      task = work.task_of(scale, settings, data_dir)
      execute.execute(
        *(settings, task, out, 'order', scale, 'threads'),
        pools.Threads(jax.devices()[: PLAIN.workers]),
        asked={'pool': 'threads'},
        overwrite=True,
      )
    found = Trace.load(out / 'trace.npz')
    dataclasses.replace(found, columns={}).save(path)
  return Trace.load(path)


def complete(
  records: Stored, order: Trace, root: Path, data_dir: str | None = None
) -> None:
  """Trains what is missing on the order, and what was made on another one."""
  made = lambda run: (records.get(run) or {}).get('trace_sha256')
  for run in (run for run in RUNS if made(run) != order.digest()):
    scale, name = records.scale, runs.name(records.scale, run)
    settings, out = runs.at(scale, run), root / name
    print(f'\n{name}', flush=True)
    with directory.hold(out):
      records.add(
        run,
        execute.execute(
          settings,
          work.task_of(scale, settings, data_dir),
          out,
          *('order', scale, name),
          pools.Virtual(order, counterfactual=True),
          asked={'replay': order.digest()},
          overwrite=True,
        ),
      )


def run() -> None:
  """Trains what is missing, then renders."""
  scale, folder = command.SCALE.value, command.directory() / 'order'
  training = not command.PLOT_ONLY.value
  files.check_writable(folder)
  data_dir = command.DATA_DIR.value
  records = Stored(scale, folder, data_dir, training)
  if training:
    jax.config.update('jax_num_cpu_devices', PLAIN.workers)
    root = command.root() / 'order' / scale
    compiled.use(command.root() / '.compiled')
    trace = recorded(scale, folder, root, data_dir)
    complete(records, trace, root, data_dir)
  every = [
    records if name == scale else Stored(name, folder) for name in scales.SCALES
  ]
  print('\n' + render(sys.modules[__name__], folder, every))


if __name__ == '__main__':
  command.start(run)
