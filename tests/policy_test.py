"""What the server refuses of a policy."""

import dataclasses

import optax
import pytest

import stale_adam as sa
from stale_adam import policy
from stale_adam.policy import Decision


@dataclasses.dataclass(frozen=True)
class Fixed:
  """Decides the same whatever arrives."""

  decision: Decision
  workers: int = 2
  local_accumulation: int = 1

  def decide(self, arrival):
    return self.decision


@pytest.mark.parametrize(
  'decision, message',
  [
    (Decision(reply=(7,)), 'answers worker 7, who does not wait'),
    (Decision(reply=(0, 0)), 'answers worker 0, who does not wait'),
    (Decision(), 'leaves all 2 workers waiting'),
    (Decision(False, True, reply=(0,)), 'update before any push was used'),
    (
      Decision(reply=(0,), restart=(0,)),
      'restarts worker 0, who does not comp',
    ),
    (Decision(reply=(0,), restart=(1, 1)), 'restarts worker 1, .* once each'),
  ],
)
def test_impossible_decisions_are_refused(linear, scripted, decision, message):
  arrivals = sa.serve(
    linear, optax.sgd(0.1), Fixed(decision), scripted([0, 0, 0])
  )
  with pytest.raises(ValueError, match=message):
    for _ in arrivals:
      pass


def test_a_policy_is_a_dataclass():
  class Loose:
    workers, local_accumulation = 2, 1

  with pytest.raises(TypeError, match='Loose.*frozen dataclass'):
    policy.settings(Loose())
  assert policy.settings(sa.Communication(3)) == {
    'name': 'Communication',
    'workers': 3,
    'local_accumulation': 1,
    'global_accumulation': 1,
    'synchronous': False,
    'pull_every': 1,
  }


def test_a_version_that_is_not_published_is_not_pulled(linear, scripted):
  """Decision.publish alone is artificial staleness: as pull_every."""

  @dataclasses.dataclass(frozen=True)
  class Held(Fixed):
    decision: Decision = Decision()

    def decide(self, arrival):
      publish = arrival.version % 3 == 2
      return Decision(True, True, publish, (arrival.worker,))

  optimizer, draws = optax.sgd(0.1), [0, 1, 1, 0, 0, 1, 0, 0, 1]
  ours = sa.serve(linear, optimizer, Held(), scripted(draws))
  paper = sa.Communication(2, pull_every=3)
  theirs = sa.serve(linear, optimizer, paper, scripted(draws))
  for _, (push, _), (wanted, _) in zip(draws, ours, theirs, strict=False):
    assert push.pulled_version == wanted.pulled_version
    assert push.staleness == wanted.staleness
    assert push.pulled_version % 3 == 0
