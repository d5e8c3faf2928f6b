"""One run: from settings and a corpus to a result record."""

import dataclasses
import itertools
import logging
import os
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from absl import app

from stale_adam import clock, optimizer, pools, trace
from stale_adam import measure as measure_lib
from stale_adam.nmt import translation
from stale_adam.nmt.data import batches
from stale_adam.nmt.data import corpus as corpus_lib
from stale_adam.nmt.data import vocabulary as vocabulary_lib
from stale_adam.policy import Communication
from stale_adam.problem import Params
from stale_adam.training import checkpoint
from stale_adam.training import loop as train_lib
from stale_adam.training import record as results

EXAMPLES = 10  # Sentences of a test that a record shows with translations.


@dataclasses.dataclass(frozen=True)
class Settings:
  """Everything that decides a run's numbers, beside its corpus.

  Attributes:
    model: 'transformer' or 'rnn'.
    sizes: the model's; see `Transformer` and `Rnn`.
    vocabulary: pieces of the joint vocabulary.
    shape: of every batch.
    communication: how workers and server talk.
    learning_rate: its peak.
    warmup_updates: updates until the peak.
    decay_after: updates until the inverse square root decay.
    words_per_second: measured target words a second that the virtual clock is
      fitted to: asynchronous; with 4x local accumulation; synchronous.
    budget: how long to train.
    beam: of the test's translations.
    validation_beam: of the validation's.
    smoothing: of the labels.
    optimizer: one of `stale_adam.optimizer.NAMED`.
    start_on_zero: run the optimizer once on a zero gradient first, and
    ticks_per_update: let the schedule count so many for every update: what the
      paper's own code does when asynchronous, the latter with L.
    seed: of everything random.
  """

  model: str
  sizes: Mapping[str, Any]
  vocabulary: int
  shape: batches.Shape
  communication: Communication
  learning_rate: float
  warmup_updates: int
  decay_after: int
  words_per_second: tuple[float, float, float]
  budget: train_lib.Budget
  beam: int = 4
  validation_beam: int = 1
  smoothing: float = 0.1
  optimizer: str = 'adam'
  start_on_zero: bool = False
  ticks_per_update: int = 1
  seed: int = 0

  def transformation(self) -> optax.GradientTransformation:
    """The optimizer with these rates; by default, Adam as the paper has it."""
    schedule = optimizer.inverse_sqrt(
      self.learning_rate, self.warmup_updates, self.decay_after
    )
    schedule = optimizer.ticking(schedule, self.ticks_per_update)
    made = optimizer.NAMED[self.optimizer](schedule)
    return optimizer.start_on_zero(made) if self.start_on_zero else made

  def as_dict(self) -> dict[str, Any]:
    """Everything, as JSON has it."""
    return dataclasses.asdict(self) | {'shape': self.shape._asdict()}


def task(
  settings: Settings, corpus: corpus_lib.Corpus
) -> translation.Translation:
  """The vocabulary, model and batches of a run; prints what was read."""
  print(corpus_lib.describe(corpus), flush=True)
  vocabulary = vocabulary_lib.train(corpus.train, settings.vocabulary)
  made = translation.Translation(
    translation.Model(settings.model, vocabulary, settings.sizes),
    corpus,
    settings.shape,
    settings.smoothing,
    settings.validation_beam,
    settings.seed,
  )
  count = made.batches.first_epoch
  padding = batches.padding(made.batches, min(count, 200))
  print(
    f'{count} batches an epoch, {made.words_per_epoch / count:.0f} target '
    f'words each; padding {100 * padding:.1f}%; longer than a row and left '
    f'out: {made.batches.skipped} training sentences, '
    f'{made.validation.skipped} of the validation loss',
    flush=True,
  )
  return made


def size(settings: Settings) -> tuple[int, int]:
  """Parameters of a run's model, and bytes that one gradient of it takes.

  Reads no corpus and trains nothing: the gradient is compiled, for the device
  at hand, at the nominal size of the vocabulary. The bytes are those of the
  parameters, the batch, the gradient, and everything in between.
  """
  pieces = types.SimpleNamespace(size=settings.vocabulary)
  model = translation.Model(settings.model, pieces, settings.sizes)
  key = jax.random.key(0)
  params = jax.eval_shape(model.init, key)
  rows, source, target = settings.shape
  ids = lambda width: jax.ShapeDtypeStruct((rows, width), np.int32)
  batch = {
    'source': ids(source),
    'source_segments': ids(source),
    'target': ids(target),
    'target_segments': ids(target),
  }
  loss = lambda p, b, k: model.losses(p, b, k, settings.smoothing)[0]
  gradient = jax.jit(jax.value_and_grad(loss)).lower(params, batch, key)
  memory = gradient.compile().memory_analysis()
  taken = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
  )
  return sum(leaf.size for leaf in jax.tree.leaves(params)), taken


def virtual_clock(
  settings: Settings, learning: translation.Translation
) -> clock.Clock:
  """The paper's cluster: four workers, timed for batches of this size."""
  words = learning.words_per_epoch / learning.batches.first_epoch
  plain, local, synchronous = settings.words_per_second
  fitted = clock.fit(plain, local, 4, synchronous, 4, target_words=words)
  return dataclasses.replace(fitted, seed=settings.seed)


def config(
  settings: Settings, learning: translation.Translation
) -> dict[str, Any]:
  """All that decides a run's numbers, as the record and the trace keep it."""
  return settings.as_dict() | {
    'corpus': learning.corpus.name,
    'words_per_epoch': learning.words_per_epoch,
    'clock': dataclasses.asdict(virtual_clock(settings, learning)),
  }


def about(
  settings: Settings, learning: translation.Translation
) -> dict[str, Any]:
  """What decides a run's parameters, with its order: kept in its trace."""
  problem = config(settings, learning)
  communication, seed = problem.pop('communication'), problem.pop('seed')
  return {'communication': communication, 'seed': seed, 'problem': problem}


def run(
  settings: Settings,
  learning: translation.Translation,
  out: Path,
  experiment: str,
  scale: str,
  name: str,
  pool: Any = None,
  measure: measure_lib.Measure | None = None,
  more: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, list[str]]]:
  """Trains, tests the best parameters, and writes `out/record.json`.

  Args:
    settings: of the run.
    learning: what `task` returned for these settings.
    out: directory for the record, parameters, vocabulary, trace and events;
      those of an earlier run are removed.
    experiment: the record's field.
    scale: the record's field.
    name: the record's field `run`.
    pool: where the workers run; the paper's cluster on a virtual clock if None.
    measure: as of `serve`.
    more: to keep in the trace.

  Returns:
    (record, translations of every test set).
  """
  pool = pool or pools.Virtual(virtual_clock(settings, learning))
  devices = jax.devices()
  device = f'{len(devices)} x {devices[0].device_kind}, {os.cpu_count()} cores'
  kind = type(pool).__name__.lower()
  origin = results.provenance(settings.seed, kind, device)
  began = time.monotonic()
  _clear(out)
  learning.model.vocabulary.save(out / 'vocabulary.model')
  outcome = train_lib.train(
    learning,
    settings.transformation(),
    settings.communication,
    pool,
    settings.budget,
    settings.seed,
    out,
    {'model': settings.model, 'sizes': dict(settings.sizes)},
    name,
    measure,
  )
  arrivals = dataclasses.replace(
    outcome.trace,
    settings=about(settings, learning)
    | {'device': device, 'devices': len(devices)}
    | dict(more or {}),
  )
  arrivals.save(out / 'trace.npz')
  scores, signature, texts = {}, '', {}
  for test, pairs in learning.corpus.tests.items():
    scores[test], signature, texts[test] = learning.bleu(
      outcome.best_params, pairs, settings.beam
    )
  record = {
    'experiment': experiment,
    'scale': scale,
    'run': name,
    'config': config(settings, learning),
    'curve': outcome.curve,
    'best_bleu': outcome.best['bleu'],
    'test_bleu': scores,
    'sacrebleu_signature': signature,
    'examples': _examples(learning.corpus.tests, texts),
    **_summary(arrivals, settings.communication.workers),
    'words_per_second': outcome.words_per_second(),
    'provenance': origin | {'seconds': time.monotonic() - began},
  }
  results.write(out / 'record.json', record)
  return record, texts


def _clear(out: Path) -> None:
  """Makes the directory, and removes what an earlier run left there."""
  out.mkdir(parents=True, exist_ok=True)
  names = ['params.npz', 'record.json', 'trace.npz']
  for path in [*(out / name for name in names), *out.glob('events.out*')]:
    path.unlink(missing_ok=True)


def _examples(
  tests: Mapping[str, corpus_lib.Pairs], texts: Mapping[str, list[str]]
) -> list[dict[str, str]]:
  """The first sentences of the first test: scores alone hide much."""
  test, pairs = next(iter(tests.items()))
  columns = zip(pairs.source, pairs.target, texts[test], strict=True)
  names = ('source', 'reference', 'translation')
  shown = itertools.islice(columns, EXAMPLES)
  return [dict(zip(names, line, strict=True)) for line in shown]


def _summary(arrivals: trace.Trace, workers: int) -> dict[str, Any]:
  """What the record says of a run's arrivals."""
  staleness = arrivals.columns['staleness'].tolist()
  busy = None  # A replay has no times of its own.
  if 'computed' in arrivals.columns:
    busy = trace.busy_share(arrivals, workers)
  return {
    'mean_staleness': float(np.mean(staleness)),
    'staleness_histogram': trace.staleness_histogram(staleness),
    'busy_share': busy,
    'trace_sha256': arrivals.digest(),
  }


def load(
  directory: str | os.PathLike,
) -> tuple[translation.Model, Params]:
  """The model that a run left in its directory, and its best parameters.

  Raises:
    OSError: if a file is missing.
    ValueError: if a file is damaged.
  """
  params, about = checkpoint.load(Path(directory) / 'params.npz')
  if not {'model', 'sizes'} <= set(about):
    raise ValueError(
      f'{directory}/params.npz does not say which model it is of: name a '
      'directory that a run left'
    )
  pieces = vocabulary_lib.Vocabulary.load(Path(directory) / 'vocabulary.model')
  return translation.Model(about['model'], pieces, about['sizes']), params


def main(function: Callable[[list[str]], Any]) -> None:
  """Runs a command line as `absl.app.run` does, on large memory pages.

  A small model can spend a fifth of its time on page faults (run
  experiments.benchmarks.gradient with and without): the C library
  returns every large buffer to the kernel and takes a fresh one for the next.
  With transparent huge pages that is nearly free. The C library reads the
  setting when the process begins, hence a process that lacks it begins anew.
  """
  wanted = 'glibc.malloc.hugetlb=1'
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  if sys.platform == 'linux' and 'glibc.malloc.hugetlb' not in tunables:
    os.environ['GLIBC_TUNABLES'] = ':'.join(filter(None, [tunables, wanted]))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
  # At INFO, jax reports every kind of accelerator that is not there.
  logging.getLogger('jax._src.xla_bridge').setLevel(logging.WARNING)

  def run_command(arguments: list[str]) -> Any:
    if len(arguments) > 1:
      sys.exit(f'unexpected argument {arguments[1]!r}: flags begin with --')
    return function(arguments)

  app.run(run_command)
