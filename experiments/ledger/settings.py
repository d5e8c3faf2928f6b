"""The settings of a run: one dataclass, its defaults, and its flags' help."""

import copy
import dataclasses
import functools
import json
import typing
from collections.abc import Collection, Mapping
from typing import Any

import optax

from experiments.ledger import cluster as cluster_lib
from experiments.ledger import methods
from stale_adam import checks, clock, optimizer
from stale_adam.nmt.data.batches import Shape
from stale_adam.policy import Communication, Policy
from stale_adam.training.task import Budget
from stale_adam.transforms import smooth

MODELS = ('transformer', 'tfixup', 'rnn')
# What a recorded config has beside the settings: it follows from them and from
# the text.
_DERIVED = {'corpus', 'words_per_epoch', 'clock'}


def _setting(
  help_text: str | Mapping[str, str],
  default: Any = dataclasses.MISSING,
  **metadata: Any,
) -> Any:
  """A field whose metadata describe its flag, or a flag for each part."""
  return dataclasses.field(
    default=default,
    hash=metadata.pop('hash', None),
    metadata={'help': help_text, **metadata},
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """All settings that determine the numbers of a run, except the text itself.

  `help(Settings)` lists the fields; their meaning is in the metadata, which
  `python -m experiments.train --help` prints. `pair` chooses the text. It is
  not part of a recorded config: a record identifies its text by a digest.

  Raises:
    ValueError: if a value is not allowed; the message names the setting.
  """

  model: str = _setting('Model to train.', choices=MODELS)
  pair: str = _setting('Source and target language, such as en-de.', 'en-de')
  sizes: Mapping[str, float] = _setting(
    'Model sizes to change, such as depth=2,dropout=0.1.', hash=False
  )
  vocabulary: int = _setting(
    'Pieces of the joint vocabulary.', least=4, most=2**20
  )
  shape: Shape = _setting(
    {
      'rows': 'Rows of a batch; sentences are packed into rows.',
      'source': 'Source positions of a row.',
      'target': 'Target positions of a row.',
    }
  )
  communication: Communication = _setting(
    {
      'workers': 'Number of workers.',
      'local_accumulation': 'Gradients that a worker sums before it pushes.',
      'global_accumulation': 'Pushes that the server sums before it updates. '
      'A synchronous update always uses the pushes of all workers.',
      'synchronous': 'Whether workers wait for each other.',
      'pull_every': 'Updates between two snapshots; above 1 this is '
      'artificial staleness.',
    },
    Communication(4, synchronous=True),
  )
  learning_rate: float = _setting('Peak learning rate.', least=0.0, most=1e30)
  warmup_updates: int = _setting(
    'Updates until the peak; by default fewer if an update sums more than four '
    'batches.',
    least=0,
    most=checks.INT32,
  )
  decay_after: int = _setting(
    'Updates until the inverse square root decay begins.',
    least=0,
    most=checks.INT32,
  )
  words_per_second: tuple[float, float, float] = _setting(
    'Measured speeds that the virtual clock is fitted to, in target words per '
    'second: asynchronous, with 4x local accumulation, synchronous.'
  )
  budget: Budget = _setting(
    {
      'epochs': 'Passes over the training text, at most.',
      'validate_every': 'Target words between two validations.',
      'patience': 'Validations in a row without a lower loss until the run '
      'stops.',
    }
  )
  beam: int = _setting('Beam size for the tests.', 4, least=1, most=1000)
  validation_beam: int = _setting(
    'Beam size for validation.', 1, least=1, most=1000
  )
  smoothing: float = _setting(
    'Label smoothing in training.', 0.1, least=0.0, most=1.0
  )
  optimizer: str = _setting(
    'Optimizer that the server runs.', 'adam', choices=tuple(optimizer.NAMED)
  )
  method: str = _setting(
    'Method against staleness, with constants of its source where it has some '
    'that fit; see stale_adam.methods.',
    'none',
    choices=tuple(methods.NAMED),
  )
  clip_norm: float = _setting(
    'Largest norm of the gradient that an update uses, the sum over its '
    'batches: a longer one is scaled down to it before the optimizer. 0 for '
    'none.',
    0.0,
    least=0.0,
    most=1e30,
  )
  start_on_zero: bool = _setting(
    'Run the optimizer once on a zero gradient before the first update, as '
    "the paper's own code does in asynchronous runs.",
    False,
  )
  ticks_per_update: int = _setting(
    "Ticks of the learning rate schedule per update; the paper's own code "
    'ticks once for each local gradient.',
    1,
    least=1,
    most=2**16,
  )
  exponential_smoothing: float = _setting(
    'How far exponentially smoothed parameters move to the new parameters at '
    'each update, such as 0.0001; further in early updates. The smoothed ones '
    'are validated, kept and tested; updates do not change. 0 for none.',
    0.0,
    least=0.0,
    most=1.0,
  )
  cluster: str = _setting(
    'Cluster that the virtual clock times. Each differs from that of '
    '--words_per_second (paper) in one respect: compute times are '
    'gamma-distributed with this coefficient of variation (gamma0.5); one of '
    'four workers is half as fast (half); speeds are 2.6 : 2 : 1.3 : 1 '
    '(mixed); push and pull take this share of the compute time (exchange0.5).',
    cluster_lib.PAPER,
    choices=tuple(cluster_lib.CLUSTERS),
  )
  seed: int = _setting(
    'Seed of parameters, dropout, order of sentences and virtual clock.', 0
  )

  def __post_init__(self):
    kinds = _kinds(type(self))
    for field in dataclasses.fields(self):
      _check(getattr(self, field.name), field, kinds[field.name])
    checks.seed(self.seed)
    _check_shape(self.shape)
    _check_sizes(self.sizes)
    methods.check(self.method, self.communication, self.optimizer)
    if self.start_on_zero and self.method != 'none':
      raise ValueError(
        f'start_on_zero=True, method={self.method}: a zero gradient has no '
        'staleness, which methods ask for; use one of the two'
      )
    shown = ','.join(map(str, self.words_per_second))
    try:
      self.clock(1.0)
    except (TypeError, ValueError) as error:
      raise ValueError(f'words_per_second={shown}: {error}') from None

  def transformation(
    self, learning_rate: Any = None
  ) -> optax.GradientTransformation:
    """The optimizer with its schedule, clipping, and smoothed parameters.

      g <- g min(1, clip_norm / |g|)

    before the optimizer, where g is the sum over all batches of an update, and
    |g| the norm over all parameters.

    Args:
      learning_rate: in place of the run's own; it may be traced.
    """
    made = self._method(learning_rate)['optimizer']
    if self.clip_norm > 0:
      made = optax.chain(optax.clip_by_global_norm(self.clip_norm), made)
    if self.start_on_zero:
      made = optimizer.start_on_zero(made)
    smooths = self.exponential_smoothing > 0
    return smooth(made, self.exponential_smoothing) if smooths else made

  def _method(self, learning_rate: Any = None) -> dict[str, Any]:
    """Arguments of `serve`, of the method or usual."""
    peak = self.learning_rate if learning_rate is None else learning_rate
    spans = self.warmup_updates, self.decay_after
    schedule = optimizer.inverse_sqrt(peak, *spans)
    schedule = optimizer.ticking(schedule, self.ticks_per_update)
    made = optimizer.NAMED[self.optimizer](schedule)
    # A worker's own updates last as many batches as a synchronous run's.
    batches = methods.batches_per_update(self.method, self.communication)
    share = max(4, batches) / self.communication.workers
    local = optimizer.inverse_sqrt(peak, *(round(share * x) for x in spans))
    local = optimizer.ticking(local, self.ticks_per_update)
    known = made, schedule, local, peak, self.warmup_updates
    run = methods.Run(self.communication, *known)
    return methods.arguments(self.method, run)

  @property
  def policy(self) -> Policy:
    """Who is used, when to update, and who is answered."""
    return self._method()['policy']

  def arguments(self) -> dict[str, Any]:
    """What `serve` needs besides the policy and `transformation`, by name."""
    known = ('policy', 'optimizer')
    return {k: x for k, x in self._method().items() if k not in known}

  def clock(self, words: float) -> clock.Clock:
    """The cluster's clock, for batches of `words` target words.

    The speeds that it is fitted to are of the paper's four workers.
    """
    fitted = dataclasses.replace(
      _fitted(*self.words_per_second, words), seed=self.seed
    )
    return cluster_lib.CLUSTERS[self.cluster](fitted)

  def with_seed(self, seed: int) -> 'Settings':
    """The same settings with another seed; nothing else is checked again.

    Raises:
      ValueError: if it is not a whole number from 0 to 2**32 - 1.
    """
    checks.seed(seed)
    made = copy.copy(self)
    object.__setattr__(made, 'seed', seed)
    return made

  def config(self) -> dict[str, Any]:
    """The settings in JSON's types, as a record has them."""
    made = json.loads(json.dumps(dataclasses.asdict(self)))
    del made['pair']
    return made | {'shape': self.shape._asdict()}


@functools.cache  # Every declaration of a run asks for one.
def _fitted(
  plain: float, local: float, synchronous: float, words: float
) -> clock.Clock:
  """The clock of the paper's four workers at these speeds."""
  return clock.fit(plain, local, 4, synchronous, 4, target_words=words)


@functools.cache
def _kinds(settings: type) -> Mapping[str, Any]:
  """The type of every field."""
  return typing.get_type_hints(settings)


def _check(value: Any, field: dataclasses.Field, kind: Any) -> None:
  """Checks the value of a field by its type and its metadata."""
  name, rule = field.name, field.metadata
  if 'choices' in rule and value not in rule['choices']:
    raise ValueError(
      f'{name}={checks.shown(value)}: use one of {", ".join(rule["choices"])}'
    )
  if kind in (str, bool) and not isinstance(value, kind):
    word = 'text' if kind is str else 'True or False'
    raise ValueError(f'{name}={checks.shown(value)}: use {word}')
  if 'least' in rule:
    check = checks.whole if kind is int else checks.real
    check(name, value, rule['least'], rule['most'])


def _check_shape(shape: Shape) -> None:
  """Checks the lengths of a batch; an attention mask of one must fit."""
  for name, value in shape._asdict().items():
    checks.whole(name, value, 1, 2**14)
  longest = max(shape.source, shape.target)
  if shape.rows * longest > 2**20:
    raise ValueError(
      f'rows={shape.rows}: {shape.rows} rows of {longest} positions are more '
      f'than {2**20} in a batch; use at most {2**20 // longest} rows'
    )


def _check_sizes(sizes: Mapping[str, float]) -> None:
  """Checks the sizes of a model; the model checks them together."""
  for name, value in sizes.items():
    if name == 'dropout':
      checks.real(f'sizes={name}', value, 0.0, 0.99)
    else:
      checks.whole(f'sizes={name}', value, 1, 100 if 'depth' in name else 2**14)


def agrees(config: Mapping[str, Any], settings: Settings) -> bool:
  """Whether a recorded config equals the settings.

  A field that the record lacks counts as its default: a setting that is added
  later does not invalidate older records. Nested dataclasses too.
  """
  kept = {k: v for k, v in config.items() if k not in _DERIVED}
  return _agrees(kept | {'pair': settings.pair}, settings)


def _agrees(recorded: Any, value: Any) -> bool:
  if dataclasses.is_dataclass(value) and isinstance(recorded, Mapping):
    fields = {field.name: field for field in dataclasses.fields(value)}
    return recorded.keys() <= fields.keys() and all(
      _agrees(recorded.get(name, field.default), getattr(value, name))
      for name, field in fields.items()
    )
  if hasattr(value, '_asdict') and isinstance(recorded, Mapping):
    value = value._asdict()
  return recorded == (list(value) if isinstance(recorded, list) else value)


def completed(recorded: Any, names: Collection[str]) -> Any:
  """A recorded config, with the settings that it lacks at their defaults.

  Args:
    recorded: as a trace has it: perhaps no mapping.
    names: of the settings to add if they are missing and have a default.
  """
  if not isinstance(recorded, Mapping):
    return recorded
  usual = {
    field.name: field.default
    for field in dataclasses.fields(Settings)
    if field.name in names and field.default is not dataclasses.MISSING
  }
  return usual | dict(recorded)


def leaves(settings: Settings) -> dict[str, Any]:
  """Every value of the settings by name, without nesting."""
  found = {}
  for field in dataclasses.fields(settings):
    value = getattr(settings, field.name)
    if dataclasses.is_dataclass(value):
      value = dataclasses.asdict(value)
    elif hasattr(value, '_asdict'):
      value = value._asdict()
    found |= value if isinstance(value, Mapping) else {field.name: value}
  return found
