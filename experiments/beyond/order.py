"""Beyond the paper: one recorded order of real threads, and every method on it.

  python -m experiments.beyond.order --scale=tiny

Question: what does a method change if nothing else does? Four workers on real
host threads train plainly asynchronously; the order of their arrivals is kept
(`order/<scale>.npz`). Then each method that leaves workers and policy alone
trains on the same batches in the same order, from the same parameters, for
three epochs with the schedule of `methods`. Nothing is tuned. Under Adam all
have the same rate, divided by what a method multiplies it by: the middle of the
grid, which suits synchronous training, or the next below the grid, which suits
asynchronous training. So the differences from the run without a method, under
Adam or momentum, are the method's. 50 runs, one after the other; at `tiny` they
take 45 minutes on one processor core.
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping
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
from experiments.ledger.records import Records, spread
from experiments.ledger.settings import Settings
from experiments.ledger.store import Stored
from experiments.render import figures
from experiments.render.report import render
from stale_adam import files, pools
from stale_adam.trace import Trace
from stale_adam.training.record import best


def _lines(
  rows: Mapping[str, Row], rate: Callable[[Row], float]
) -> dict[str, Settings]:
  """The run of every row that communicates plainly."""
  return {
    name: short(row.run(rate(row)))
    for name, row in rows.items()
    if row.communication == PLAIN
  }


_ADAM = {'none': Row('none')} | UNCHANGED
_middle = lambda row: row.rates[1]
# By heading; the first run of each is the one without a method.
TABLES = {
  'Adam, the middle of the grid': _lines(_ADAM, _middle),
  'Adam, the rate below the grid': _lines(_ADAM, lambda r: r.beyond(0)[0]),
  'Without Adam, the middle of the grid': _lines(WITHOUT_ADAM, _middle),
}
RUNS = [run for lines in TABLES.values() for run in lines.values()]
WITHOUT = RUNS[0]


def report(records: Records) -> str:
  """BLEU and loss of every method, and the difference from none."""
  orders = {r['trace_sha256'] for r in map(records.get, RUNS) if r}
  if len(orders) > 1:
    raise ValueError(
      f'{records.scale}: the records are of {len(orders)} orders of arrivals: '
      'repeat the command without --plot_only, which makes those of others anew'
    )
  tables = [
    f'{heading}:\n\n{_table(records, lines)}'
    for heading, lines in TABLES.items()
  ]
  return '\n\n'.join([*_staleness(records), *tables])


def _staleness(records: Records) -> list[str]:
  """What the order makes of plain asynchronous training."""
  if not (record := records.get(WITHOUT)):
    return []
  counts = {int(k): n for k, n in record['staleness_histogram'].items()}
  return [
    f'Staleness {min(counts)} to {max(counts)}, '
    f'{record["mean_staleness"]:.1f} in the mean.'
  ]


def _table(records: Records, lines: Mapping[str, Settings]) -> str:
  """The best first, and what is missing last."""
  last = lambda record: record['curve'][-1]['validation_loss']
  found = {name: records.get(run) for name, run in lines.items()}
  base = next(iter(found.values()))
  bleu = {name: best(record) for name, record in found.items() if record}
  rows = []
  for name in sorted(lines, key=lambda name: -bleu.get(name, -1.0)):
    rate = runs.at(records.scale, lines[name]).learning_rate
    row = [name, f'{rate:.3g}', *[records.missing] * 4]
    if (record := found[name]) and base:
      loss, less = last(record), bleu[name] - best(base)
      row[2::2] = f'{bleu[name]:.1f}', spread([loss], 3)
      row[3::2] = f'{less:+.1f}', '-'
      if math.isfinite(change := loss - last(base)):
        row[5] = f'{change:+.3f}'
    rows.append(row)
  loss, difference = 'validation loss', 'difference'
  header = ['method', 'learning rate', 'BLEU', difference, loss, difference]
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
  todo = [run for run in RUNS if made(run) != order.digest()]
  for i, run in enumerate(todo, 1):
    scale, name = records.scale, runs.name(records.scale, run)
    settings, out = runs.at(scale, run), root / name
    print(f'\n[{i}/{len(todo)}] {name}', flush=True)
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
