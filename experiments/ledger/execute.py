"""Executes a run: builds its task from its settings, trains and tests."""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from experiments.ledger import directory
from experiments.ledger.settings import Settings
from stale_adam import measure as measure_lib
from stale_adam import pools, update
from stale_adam.clock import Clock
from stale_adam.methods import local
from stale_adam.nmt import translation
from stale_adam.nmt.data import batches
from stale_adam.nmt.data import corpus as corpus_lib
from stale_adam.nmt.data import vocabulary as vocabulary_lib
from stale_adam.server import replied
from stale_adam.training import record as record_lib
from stale_adam.training.run import run

_PARAMETERS = 2**30  # Of a model, at most.
# The settings that a task depends on; runs with the same ones share a task.
TASK_FIELDS = (
  'pair',
  'sizes',
  'vocabulary',
  'shape',
  'smoothing',
  'validation_beam',
  'beam',
  'seed',
)


def check_model(settings: Settings) -> None:
  """Check the sizes of a run's model, before any text is read.

  Raises:
    ValueError: naming the size that does not go with the others.
  """
  pieces = types.SimpleNamespace(size=settings.vocabulary)
  model = translation.Model(settings.model, pieces, settings.sizes)
  try:
    shapes = jax.eval_shape(model.init, jax.random.key(0))
  except ValueError as error:
    raise ValueError(f'--sizes: {error}') from None
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  if count > _PARAMETERS:
    raise ValueError(
      f'--sizes, --vocabulary: the model has {count:,} parameters, which the '
      f'sizes and the vocabulary make; use at most {_PARAMETERS:,}'
    )


def make_task(
  settings: Settings, corpus: corpus_lib.Corpus
) -> translation.Translation:
  """Make the task of a run with its vocabulary, and print what was read.

  Raises:
    ValueError: if the text has too few pieces, or no sentence fits into a row.
  """
  print(corpus_lib.describe(corpus), flush=True)
  try:
    vocabulary = vocabulary_lib.train(corpus.train, settings.vocabulary)
  except ValueError as error:
    shown = f'--vocabulary={settings.vocabulary}'
    raise ValueError(f'{shown}, training text: {error}') from error
  task = translation.Translation(
    translation.Model(settings.model, vocabulary, settings.sizes),
    corpus,
    settings.shape,
    settings.smoothing,
    settings.validation_beam,
    settings.seed,
    settings.beam,
  )
  count = task.batches.first_epoch
  padding = batches.padding(task.batches, min(count, 200))
  print(
    f'{count} batches in an epoch, {_words(task):.0f} target words in each, '
    f'{100 * padding:.1f}% padding; left out because they are longer than a '
    f'row: {task.batches.skipped} training sentences, '
    f'{task.validation.skipped} sentences of the validation loss',
    flush=True,
  )
  if found := task.shortened:
    listed = ', '.join(f'{n} of {part}' for part, n in found.items())
    print(
      f'sources of which only the first {task.longest} tokens are translated: '
      f'{listed}',
      flush=True,
    )
  return task


def _words(task: translation.Translation) -> float:
  """Mean target words of a batch."""
  return task.units_per_epoch / task.batches.first_epoch


def virtual_clock(settings: Settings, task: translation.Translation) -> Clock:
  """The clock of the settings for batches of this task."""
  return settings.clock(_words(task))


def config(settings: Settings, task: translation.Translation) -> dict[str, Any]:
  """The settings and what follows from them, as a record has them."""
  return settings.config() | {
    'words_per_epoch': task.units_per_epoch,
    'clock': dataclasses.asdict(virtual_clock(settings, task)),
  }


def trace_settings(
  settings: Settings, task: translation.Translation
) -> dict[str, Any]:
  """What decides a run's parameters besides policy, seed and arrival order."""
  problem = config(settings, task) | {'text': task.text}
  del problem['communication'], problem['seed']  # The server's trace has them.
  return {'problem': problem}


def identity(
  settings: Settings, task: translation.Translation, scale: str, name: str
) -> dict[str, Any]:
  """What has to be equal for two runs to be the same."""
  return {
    'scale': scale,
    'run': name,
    'text': task.text['sha256'],
    'config': directory.as_json(config(settings, task)),
  }


def program() -> dict[str, Any]:
  """What makes a run: the commit, and the versions of packages."""
  found = record_lib.provenance(0, '', '')
  return {name: found[name] for name in ('commit', 'dirty', 'versions')}


def finished(
  settings: Settings,
  task: translation.Translation,
  out: Path,
  scale: str,
  name: str,
) -> dict[str, Any] | None:
  """The record of this run, if the directory has it from this very program.

  With changes that are not committed, nobody knows whether it is the same.
  """
  try:
    found = record_lib.read(out / directory.RECORD)
  except (OSError, ValueError):
    return None
  text = found.get('text', {}).get('sha256')
  here = identity(settings, task, scale, name) | program()
  there = found | found['provenance'] | {'text': text}
  same = all(there.get(key) == here[key] for key in here)
  return found if same and not here['dirty'] else None


def execute(
  settings: Settings,
  task: translation.Translation,
  out: Path,
  experiment: str,
  scale: str,
  name: str,
  pool: Any = None,
  measure: measure_lib.Measure | None = None,
  more: Mapping[str, Any] | None = None,
  asked: Mapping[str, Any] | None = None,
  overwrite: bool = False,
  save_seconds: float = 60.0,
) -> dict[str, Any]:
  """Train, test the best parameters, and write everything to a directory.

  The caller holds the directory: see `directory.hold`.

  Args:
    settings: of the run.
    task: from `make_task` for these settings.
    out: directory for the record, parameters, vocabulary, trace and events.
    experiment: the record's field.
    scale: the record's field.
    name: the record's field `run`.
    pool: where the workers run; the settings' cluster on a virtual clock if
      None.
    measure: as in `serve`.
    more: further entries for the trace's settings.
    asked: what else distinguishes the run, such as its pool.
    overwrite: replace a run that the directory holds; see `directory.begin`.
    save_seconds: least time between two saved states; as of `run`.

  Returns:
    The record.

  Raises:
    FileExistsError: if the directory holds a finished run, or an unfinished
      one with other settings.
    OSError: if the directory can no longer be written to; names what is saved.
  """
  known, made_by = identity(settings, task, scale, name), program()
  directory.begin(out, known | dict(asked or {}), made_by, overwrite)
  try:
    task.model.vocabulary.save(out / translation.VOCABULARY)
    return run(
      task,
      settings.transformation(),
      settings.policy,
      pool or pools.Virtual(virtual_clock(settings, task)),
      settings.budget,
      out,
      {'experiment': experiment} | known | {'text': task.text},
      seed=settings.seed,
      settings=trace_settings(settings, task) | made_by | dict(more or {}),
      metadata=task.model.metadata(),
      save_seconds=save_seconds,
      measure=measure,
      **settings.arguments(),
    )
  except OSError as error:
    said = '; '.join([str(error), *getattr(error, '__notes__', [])])
    raise OSError(f'{said}; {directory.left(out)}') from error
  finally:
    # They are compiled for this run alone; all else serves later runs.
    update.update.clear_cache()
    if settings.method != 'none':
      for made in (update.start, update.add, replied, *local.PROGRAMS):
        made.clear_cache()
