"""The paper's claims: what records make of them, and how it is shown."""

import dataclasses
import shutil

import pytest
from invented import ALL, RESULTS, Invented, record

from experiments.ledger import runs, scales
from experiments.ledger.store import Stored
from experiments.paper import claims, verdicts
from experiments.paper import printed as paper
from experiments.paper.as_records import Printed

# What the paper prints decides; the others need its figures.
FIGURES = (claims.artificial, claims.batch_size)
DECIDED = [c for c in claims.CLAIMS if c.compare not in FIGURES]
NAMES = [claim.compare.__name__ for claim in claims.CLAIMS]


@pytest.mark.parametrize('claim', DECIDED, ids=lambda c: c.compare.__name__)
def test_every_claim_holds_in_the_paper(claim):
  parts = list(claim.compare(Printed()))
  assert parts and verdicts.verdict(parts).startswith('holds'), parts
  assert all(part.holds for part in parts)


@pytest.mark.parametrize('claim', claims.CLAIMS, ids=NAMES)
def test_the_paper_has_every_comparison_once(claim, tmp_path):
  printed = [part.what for part in claim.compare(Printed())]
  assert len(set(printed)) == len(printed)
  for scale in scales.SCALES:
    ours = [part.what for part in claim.compare(Stored(scale, tmp_path))]
    assert set(ours) <= set(printed) and len(set(ours)) == len(ours)


def test_the_headline_is_the_papers():
  part, rnn = claims.faster(Printed())
  assert '**1.37 times**' in part.found and '**1.30 times**' in rnn.found


@pytest.mark.parametrize('claim', claims.CLAIMS, ids=NAMES)
def test_no_claim_holds_where_all_runs_are_equal(claim):
  curve = [(10.0, 20.0), (20.0, 30.0)]
  same = record(30.0, 5.0, curve)
  equal = {dataclasses.replace(run, seed=0): same for run in ALL}
  verdict = verdicts.verdict(list(claim.compare(Invented(equal))))
  harmless = ('recurrent', 'restored', 'robust')  # Nothing was lost.
  assert (verdict == 'holds') == (claim.compare.__name__ in harmless), verdict


@pytest.mark.parametrize('claim', claims.CLAIMS, ids=NAMES)
def test_no_claim_holds_where_nothing_is_learnt(claim):
  curve = [(10.0, 0.0), (20.0, 0.0)]
  for bleu in (0.0, 0.4):
    same = record(bleu, 5.0, curve)
    dead = {dataclasses.replace(run, seed=0): same for run in ALL}
    assert not any(part.holds for part in claim.compare(Invented(dead)))


@pytest.mark.parametrize('claim', claims.CLAIMS, ids=NAMES)
def test_a_claim_stays_open_while_a_run_is_missing(claim):
  assert verdicts.verdict(list(claim.compare(Invented({})))).startswith('open')


def test_faster_is_more_than_chance():
  """Two standard errors of three times 1 apart: 2 sqrt(1/3 + 1/3) = 1.63."""
  end = {True: (19.0, 20.0, 21.0)}

  class Some(Invented):
    def get(self, run):
      seconds = end[run.communication.synchronous][run.seed]
      return record(30.0, 1.0, [(0.0, 0.0), (seconds, 30.0)])

  for gain, faster in ((1.7, True), (1.5, False), (-1.7, False)):
    end[False] = tuple(x - gain for x in end[True])
    part = next(claims.faster(Some({})))
    assert part.holds is faster and part.seeds == 3
    assert f'= **{20 / (20 - gain):.2f} times**' in part.found
    assert ('two standard errors' in part.found) == (abs(gain) < 1.63)


def test_only_seeds_that_both_have_are_compared():
  run, other = runs.base('rnn', paper.SYNC), runs.base('rnn', paper.ASYNC)

  class Some(Invented):
    def get(self, run):
      return self._invented.get((run.communication.synchronous, run.seed))

  found = {(True, 0): record(10.0), (True, 1): record(90.0)}
  found[False, 0] = record(20.0)
  part = verdicts.share(Some(found), 'what', run, other, low=0.5)
  assert part.holds and part.seeds == 1
  assert part.found == '10.0 / 20.0 = 50.0%'
  assert part.claimed == 'at least 50%'
  assert (
    verdicts.share(Some(found), 'what', run, other, low=0.51).holds is False
  )
  del found[False, 0]
  assert verdicts.share(Some(found), 'what', run, other).holds is None


def test_verdicts():
  of = lambda *parts: verdicts.verdict(
    [verdicts.Part('', '', '', x) for x in parts]
  )
  assert of(True, False) == 'holds in part, 1 of 2'
  assert of(False) == 'does not hold here'
  assert of(True, False, None) == 'open, 1 of 2; 1 not run yet'
  assert of(None) == 'open, not run yet'
  assert of().startswith('open')


def test_a_readme_without_marks_is_left_alone(tmp_path):
  path = tmp_path / 'README.md'
  path.write_text(f'Ours.\n{verdicts.FIRST}\nNo end.\n')
  with pytest.raises(ValueError, match='put them back'):
    verdicts.write(claims.CLAIMS, tmp_path, [])
  assert path.read_text().endswith('No end.\n')


def test_the_committed_checklist_is_what_the_records_give(tmp_path):
  shutil.copy(RESULTS / 'README.md', tmp_path)
  before = (RESULTS / 'README.md').read_text('utf-8')
  every = [Stored(scale, RESULTS) for scale in scales.SCALES]
  assert verdicts.write(claims.CLAIMS, tmp_path, every) in before, (
    'run python -m experiments.paper.reproduce --plot_only'
  )
  assert (tmp_path / 'README.md').read_text('utf-8') == before
