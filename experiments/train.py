"""Trains one model with stale gradients, from parallel text to BLEU.

  python -m experiments.train --scale=small --data_dir=data/multi30k \\
    --pair=en-de --model=transformer --communication=asynchronous \\
    --workers=4 --global_accumulation=4 --out=runs/en-de-global4

Prints what was read, a progress bar, and the scores. Leaves in --out the result
record (record.json), the best parameters (params.npz) and their vocabulary,
which experiments.translate reads, the order of arrivals with all times
(trace.npz), which experiments.timeline draws, and TensorBoard events.

--pool=threads trains on host threads, one for each device, by the real clock;
--pool=ray on a Ray cluster, one actor for each worker: run it on a machine of
the cluster with --ray_address=auto, or anywhere without, to start Ray here.
Any run can be replayed in its order of arrivals:

  python -m experiments.train --replay=runs/en-de/trace.npz

repeats it with its recorded flags, and ends with "equal bit for bit", or with
the first push that differs and exit status 1. Add
--counterfactual and other flags to see what the same order of arrivals gives
with another learning rate, accumulation or seed.

`tiny` needs no files and takes about three minutes on two cores. `small`
reads text files; with Multi30k it takes 14 minutes on one core. `paper` reads
WMT, prepared once by experiments.prepare_wmt, and needs GPUs.

Ctrl-C and SIGTERM save the state of the run; a killed run has that of the last
validation, or of --save_seconds before. Repeat the same command, and the run
resumes by itself, with gradients in flight: on the virtual clock, its result is
bit for bit that of an unbroken run. An unfinished run with other settings or
text is refused. A finished run is replaced only by --overwrite. One process at
a time uses a directory.
"""

import contextlib
import dataclasses
import math
import sys
from pathlib import Path

import jax
from absl import flags

from experiments import launch, options
from experiments.ledger import (
  compiled,
  directory,
  execute,
  replay,
  scales,
  texts,
)
from experiments.ledger.settings import Settings, completed
from experiments.ledger.store import DIGITS
from experiments.render.report import label
from stale_adam import checks, files, measure, pools
from stale_adam import policy as policy_lib
from stale_adam.compiled import decisions
from stale_adam.nmt import translation
from stale_adam.pools import contract
from stale_adam.trace import Trace
from stale_adam.training import record as record_lib

SCALE = options.scale()
DATA_DIR = options.data_dir()
SETTINGS = options.settings()
POOL = flags.DEFINE_enum(
  'pool',
  'virtual',
  ['virtual', 'threads', 'ray'],
  'Where the workers run: on a virtual clock, on host threads, or on a Ray '
  'cluster, one actor each.',
)
RAY_ADDRESS = flags.DEFINE_string(
  'ray_address',
  None,
  'With --pool=ray: host:port of the cluster, as `ray start --head` prints it, '
  'or auto for the one that this machine is part of. By default Ray starts on '
  'this machine alone, for this run.',
)
GPUS_PER_WORKER = flags.DEFINE_float(
  'gpus_per_worker',
  1.0,
  'With --pool=ray on a cluster that has GPUs: how many each worker gets; 0.5 '
  'has two workers share one.',
)
TIMEOUT_SECONDS = flags.DEFINE_float(
  'timeout_seconds',
  None,
  'How long a worker may take, compilation included. With --pool=threads the '
  'run ends then; the state is saved and the worker named. With --pool=ray '
  'another worker gets its work. By default wait for any time.',
)
flags.register_multi_flags_validator(
  ['timeout_seconds', 'pool'],
  lambda given: (
    given['timeout_seconds'] is None
    or (1 <= given['timeout_seconds'] <= 1e6 and given['pool'] != 'virtual')
  ),
  '--timeout_seconds takes 1 to 1000000 seconds, and needs --pool=threads or '
  '--pool=ray',
)
flags.register_multi_flags_validator(
  ['ray_address', 'pool'],
  lambda given: given['ray_address'] is None or given['pool'] == 'ray',
  '--ray_address needs --pool=ray',
)
MEASURE = flags.DEFINE_bool(
  'measure',
  False,
  'Measure every push: the distance of its snapshot, its cosine to the last '
  "update, Adam's noise by layer. Trace and events have the values. Training "
  'takes longer.',
)
REPLAY = flags.DEFINE_string(
  'replay',
  None,
  'File trace.npz of the run to replay, in its order of arrivals. Flags that '
  'are not given have their recorded values.',
)
COUNTERFACTUAL = flags.DEFINE_bool(
  'counterfactual',
  False,
  'Allow flags that differ from those recorded in the trace.',
)
OUT = options.out(
  None,
  'Directory for the results; by default '
  'runs/<scale>/<name of the run>.<first digits of the SHA-256 of the text>.',
)
OVERWRITE = options.overwrite()
SAVE_SECONDS = options.save_seconds()

_THREADS = 256  # Devices that a CPU is divided into, at most.
# Flags that determine a run's numbers; the trace keeps them.
RECORDED = (SCALE, DATA_DIR, *SETTINGS.values())


def run_name(settings: Settings) -> str:
  """The name of the run, with the pool if it is not the virtual clock."""
  parts = [scales.name(SCALE.value, settings)]
  if POOL.value != 'virtual':
    parts.append(POOL.value)
  if REPLAY.value:
    parts.append('counterfactual' if COUNTERFACTUAL.value else 'replay')
  return '-'.join(parts)


def recall(trace: Trace) -> None:
  """Set every flag that is not given to its recorded value.

  Raises:
    ValueError: if a flag cannot have the value.
  """
  recorded = trace.settings.get('flags', {})
  # What settings were before there was a flag for them.
  earlier = {
    field.name: field.default
    for field in dataclasses.fields(Settings)
    if isinstance(field.default, str | bool | int | float)
  }
  if not isinstance(recorded, dict):
    raise ValueError(
      f'{REPLAY.value}: its flags are {checks.shown(recorded)}, no object by '
      'name; record the run again'
    )
  for flag in (flags.FLAGS[flag.name] for flag in RECORDED):
    value = recorded.get(flag.name, earlier.get(flag.name))
    if value is not None and flag.using_default_value:
      text = ','.join(map(str, value)) if isinstance(value, list) else value
      try:
        flag.parse(str(text))
      except flags.IllegalFlagValueError as error:
        said = checks.cut(str(error))
        raise ValueError(
          f'{REPLAY.value} recorded what is not allowed: {said}'
        ) from None


def place(settings: Settings) -> Path:
  """The directory for the results; its default is named after run and text.

  Raises:
    ValueError: if it is the directory of the trace to replay.
    OSError: if it cannot be written to, or holds a finished run.
  """
  if OUT.value:
    files.check_writable(OUT.value)
    out = Path(OUT.value)
  else:
    runs = Path('runs') / SCALE.value
    files.check_writable(runs)
    text = texts.sha256(SCALE.value, settings.pair, DATA_DIR.value)
    out = runs / f'{run_name(settings)}.{text[:DIGITS]}'
  if REPLAY.value and out.resolve() == Path(REPLAY.value).resolve().parent:
    raise ValueError(
      f'--out={out} holds the trace to replay, which would be lost: name '
      'another directory'
    )
  if not OVERWRITE.value:
    directory.check_unfinished(out)
  return out


def check(
  trace: Trace, settings: Settings, task: translation.Translation
) -> None:
  """Check that a trace can be replayed, before anything is written.

  Raises:
    ValueError: if settings, text or staleness differ from those recorded and
      the run is not counterfactual; if the order is impossible.
  """
  if not COUNTERFACTUAL.value:
    # Compares settings, not flags: a flag may be given its recorded value.
    policy = policy_lib.settings(settings.policy)
    here = {'policy': policy, 'seed': settings.seed}
    here |= execute.trace_settings(settings, task)
    recorded = dict(trace.settings)
    if 'problem' in recorded:  # Perhaps by a version with fewer settings.
      recorded['problem'] = completed(recorded['problem'], here['problem'])
    dataclasses.replace(trace, settings=recorded).check(recorded | here)
  found = decisions.record(settings.policy, trace.worker)
  if not COUNTERFACTUAL.value:
    trace.check_staleness(found.pulled_version, found.staleness)


def pool(trace: Trace | None) -> contract.Pool | None:
  """Where the workers run; None for the virtual clock of the settings.

  Raises:
    ConnectionError: if there is no cluster.
  """
  if trace is not None:
    return pools.Virtual(trace, counterfactual=COUNTERFACTUAL.value)
  if POOL.value == 'threads':
    return pools.Threads(timeout_seconds=TIMEOUT_SECONDS.value)
  if POOL.value == 'ray':
    given = RAY_ADDRESS, TIMEOUT_SECONDS, GPUS_PER_WORKER
    return pools.Ray(*(flag.value for flag in given))
  return None


def load_trace() -> Trace | None:
  """The trace to replay, if any; sets flags and devices as it was recorded.

  Raises:
    ValueError: if flags contradict each other, or the trace is damaged.
    OSError: if there is no such file.
  """
  if REPLAY.value is None:
    if COUNTERFACTUAL.value:
      raise ValueError('--counterfactual replays a run: name it by --replay')
    return None
  if POOL.value != 'virtual':
    raise ValueError(
      f'--replay decides who arrives when: leave out --pool={POOL.value}'
    )
  trace = Trace.load(REPLAY.value)
  if not len(trace):
    raise ValueError(
      f'{REPLAY.value} has no arrivals: nothing can be replayed; name the '
      'trace of a run that trained'
    )
  recall(trace)
  # XLA splits sums by the number of devices: equal numbers round equally.
  devices = trace.settings.get('devices', 1)
  checks.whole(f'{REPLAY.value}: devices', devices, 1, _THREADS)
  jax.config.update('jax_num_cpu_devices', devices)
  return trace


def report(record: dict, trace: Trace | None, out: Path) -> None:
  """Print scores, staleness and speed."""
  name = label(record_lib.metric(record))
  if not math.isfinite(record['curve'][-1]['validation_loss']):
    print('the model diverged: its last validation loss is not a number')
  print(f'best validation {name} {record_lib.best(record):.2f}')
  for test, score in record_lib.tests(record).items():
    print(f'{test} {name} {score:.2f} ({record["sacrebleu_signature"]})')
  speed = record['words_per_second']
  print(
    f'mean staleness {record["mean_staleness"]:.2f}; target words a second: '
    f"{speed['virtual']:.0f} by the pool's clock, {speed['measured']:.0f} "
    'measured'
  )
  if busy := record['busy_share']:
    print(
      f'busy: workers {100 * busy["workers"]:.0f}% of their time, the server '
      f'{100 * busy["server"]:.0f}%'
    )
  print(f'record, parameters, trace and events: {out}')
  if trace and not COUNTERFACTUAL.value:
    found = replay.differs(trace, Trace.load(out / 'trace.npz'))
    if found:
      sys.exit(f'the replay is not equal to {REPLAY.value}: {found}')
    print(f'equal bit for bit to {REPLAY.value}: {len(trace)} pushes')


def prepare(
  held: contextlib.ExitStack,
) -> tuple[Trace | None, Settings, translation.Translation, Path]:
  """What to replay, the settings, their task, and the directory, now held.

  Raises:
    ValueError, OSError: with a message for the user; nothing is written then.
  """
  trace = load_trace()
  values = {name: flag.value for name, flag in SETTINGS.items()}
  settings = options.chosen(SCALE.value, values)
  if POOL.value == 'threads':  # A CPU is one device unless told otherwise.
    workers = settings.communication.workers
    if workers > _THREADS:
      raise ValueError(
        f'--workers={workers}: --pool=threads has a host thread and a device '
        f'for each; use at most {_THREADS}, or the virtual clock'
      )
    jax.config.update('jax_num_cpu_devices', workers)
  execute.check_model(settings)  # The first use of devices.
  out = place(settings)
  held.enter_context(directory.hold(out))
  text = texts.load(SCALE.value, settings.pair, DATA_DIR.value)
  task = execute.make_task(settings, text)
  if trace is not None:
    check(trace, settings, task)
  return trace, settings, task, out


def main(_):
  compiled.use()
  with contextlib.ExitStack() as held:
    try:
      trace, settings, task, out = prepare(held)
    except (ValueError, OSError) as error:
      sys.exit(str(error))
    asked = {
      'pool': POOL.value,
      'measure': MEASURE.value,
      'replay': trace and trace.digest(),
    }
    try:
      record = execute.execute(
        settings,
        task,
        out,
        'train',
        SCALE.value,
        run_name(settings),
        pool(trace),
        measure.Measure() if MEASURE.value else None,
        {'flags': {flag.name: flag.value for flag in RECORDED}},
        asked,
        OVERWRITE.value,
        SAVE_SECONDS.value,
      )
    except (ValueError, OSError, ImportError) as error:
      sys.exit('; '.join([str(error), *getattr(error, '__notes__', [])]))
    report(record, trace, out)


if __name__ == '__main__':
  launch.main(main, resumes=True)
