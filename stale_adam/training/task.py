"""What the training loop needs of a task, and how long it trains."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from stale_adam import checks
from stale_adam.problem import Params, Problem


class Evaluation(NamedTuple):
  """What a task says of parameters in the end.

  Attributes:
    scores: by the test set's name; higher is better.
    examples: a few inputs with what the model makes of them.
    signature: how the scores were computed, as fields of the record.
  """

  scores: Mapping[str, float]
  examples: Sequence[Mapping[str, str]] = ()
  signature: Mapping[str, Any] = {}


class Task(Protocol):
  """A problem whose parameters can be judged.

  Attributes:
    problem: what is minimised.
    metric: name of the score, such as 'bleu'; higher is better.
    unit: what training counts, such as 'target_words'.
    rate: name of the speed in units, such as 'words_per_second'.
    units_per_epoch: units of one pass over the training data.
  """

  problem: Problem
  metric: str
  unit: str
  rate: str
  units_per_epoch: int

  def units(self, batch_id: int) -> int:
    """Units of a batch."""

  def validation_loss(self, params: Params) -> float:
    """The loss that decides when training stops."""

  def validation_score(self, params: Params) -> float:
    """The metric that decides which parameters are kept."""

  def test(self, params: Params) -> Evaluation:
    """Scores and examples of the final parameters."""


@dataclasses.dataclass(frozen=True)
class Budget:
  """How long to train, as in the paper's section 4.1.

  Attributes:
    epochs: stop after this many.
    validate_every: units between two validations.
    patience: stop after this many validations in a row without a lower loss.

  Raises:
    ValueError: if a number is not finite and positive; if the latter two are
      not whole.
  """

  epochs: float = 8
  validate_every: int = 100_000
  patience: int = 5

  def __post_init__(self) -> None:
    checks.real('epochs', self.epochs, 0, 1e6, above=True)
    checks.whole('validate_every', self.validate_every)
    checks.whole('patience', self.patience)
