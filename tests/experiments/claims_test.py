"""The paper's claims: what records make of them, and how it is shown."""

import dataclasses
import re
import shutil

import pytest
from invented import ALL, RESULTS, Invented, record

from experiments.ledger import runs, scales
from experiments.ledger.store import Stored
from experiments.paper import claims, verdicts
from experiments.paper import printed as paper
from experiments.paper.as_records import Printed
from experiments.paper.ratios import Outcome

# What the paper prints decides; the others need its figures.
FIGURES = (claims.artificial, claims.batch_size)
DECIDED = [c for c in claims.CLAIMS if c.compare not in FIGURES]
NAMES = [claim.compare.__name__ for claim in claims.CLAIMS]


@pytest.mark.parametrize('claim', DECIDED, ids=lambda c: c.compare.__name__)
def test_every_claim_holds_in_the_paper(claim):
  parts = list(claim.compare(Printed()))
  assert parts and verdicts.verdict(parts).startswith('holds'), parts
  assert all(part.outcome is Outcome.HOLDS for part in parts)


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
    for part in claim.compare(Invented(dead)):
      assert part.outcome is Outcome.FAILS, part


@pytest.mark.parametrize('claim', claims.CLAIMS, ids=NAMES)
def test_a_claim_stays_open_while_a_run_is_missing(claim):
  assert verdicts.verdict(list(claim.compare(Invented({})))).startswith('open')


class Seeds(Invented):
  """Invented records by (whether it is synchronous, seed)."""

  def get(self, run):
    return self._invented.get((run.communication.synchronous, run.seed))


def timed(synchronous, summed):
  """Records whose runs take these seconds to the same BLEU, by seed."""
  return Seeds(
    {
      (kind, seed): record(30.0, 1.0, [(0.0, 0.0), (seconds, 30.0)])
      for kind, of in ((True, synchronous), (False, summed))
      for seed, seconds in enumerate(of)
    }
  )


@pytest.mark.parametrize(
  'mean, slope, outcome',
  [
    # Seeds that are slow in one run and fast in the other. With r = 20 / mean
    # the residuals are -(1 + r), 0 and 1 + r: 2 errors are
    # 2 (1 + r) / (mean sqrt(3)), here 0.148, 0.135, 0.107 and 0.088.
    (17.0, -1.0, Outcome.HOLDS),  # r is 1.176.
    (18.0, -1.0, Outcome.UNDECIDED),  # 1.111.
    (21.0, -1.0, Outcome.UNDECIDED),  # 0.952.
    (24.0, -1.0, Outcome.FAILS),  # 0.833.
    # Alike in both, residuals have the size 1 - r: 2 errors are 0.007.
    (18.0, 1.0, Outcome.HOLDS),
    (20.0, 1.0, Outcome.FAILS),  # Equal is not faster.
  ],
)
def test_faster_is_more_than_chance(mean, slope, outcome):
  times = [mean - slope, mean, mean + slope]
  part, _ = claims.faster(timed([19.0, 20.0, 21.0], times))
  assert part.outcome is outcome and part.seeds == 3
  error = 2 * abs(1 - slope * 20 / mean) / (mean * 3**0.5)
  assert f'= **{20 / mean:.2f} ± {error:.2f} times**' in part.found


def test_a_target_that_one_seed_never_reaches_is_not_reached_faster():
  records = timed([20.0] * 3, [1.0] * 2)
  part, _ = claims.faster(records)
  assert part.outcome is Outcome.HOLDS and part.seeds == 2
  records._invented[False, 2] = record(9.0, 1.0, [(0.0, 0.0), (1.0, 9.0)])
  part, _ = claims.faster(records)
  assert part.outcome is Outcome.FAILS and part.seeds == 3
  assert part.found.endswith('1 of 3 never')


def test_one_seed_is_judged_by_its_number():
  for seconds, outcome in ((19.0, Outcome.HOLDS), (21.0, Outcome.FAILS)):
    part, _ = claims.faster(timed([20.0], [seconds]))
    assert part.outcome is outcome and part.seeds == 1
    assert part.found.endswith(f' = **{20 / seconds:.2f} times**')


def shared(ours, theirs, **bounds):
  """A comparison of scores by seed."""
  run, other = runs.base('rnn', paper.SYNC), runs.base('rnn', paper.ASYNC)
  found = {(True, seed): record(bleu) for seed, bleu in ours.items()}
  found |= {(False, seed): record(bleu) for seed, bleu in theirs.items()}
  return verdicts.share(Seeds(found), 'what', run, other, **bounds)


def test_only_seeds_that_both_have_are_compared():
  part = shared({0: 10.0, 1: 90.0}, {0: 20.0, 2: 1.0}, low=0.5)
  assert part.outcome is Outcome.HOLDS and part.seeds == 1
  assert part.found == '10.0 / 20.0 = 50.0%'
  assert part.claimed == 'at least 50%'
  part = shared({0: 10.0, 1: 90.0}, {0: 20.0}, low=0.51)
  assert part.outcome is Outcome.FAILS
  assert shared({0: 10.0}, {1: 20.0}).outcome is Outcome.MISSING


def test_every_seed_that_a_run_can_have_is_compared():
  ten = dict.fromkeys(range(10), 10.0)
  assert shared(ten, ten).seeds == runs.MOST_SEEDS == 10
  assert shared({9: 10.0, 4: 10.0}, ten).seeds == 2
  declared = [run.seed for run in ALL]
  assert max(declared) < runs.MOST_SEEDS


@pytest.mark.parametrize(
  'bounds, outcome',
  [
    # 50%, and 2 / (20 sqrt(3)) = 5.77% to both sides.
    ({'low': 0.44}, Outcome.HOLDS),
    ({'low': 0.45}, Outcome.UNDECIDED),
    ({'low': 0.55}, Outcome.UNDECIDED),
    ({'low': 0.56}, Outcome.FAILS),
    ({'high': 0.44}, Outcome.FAILS),
    ({'high': 0.45}, Outcome.UNDECIDED),
    ({'high': 0.55}, Outcome.UNDECIDED),
    ({'high': 0.56}, Outcome.HOLDS),
  ],
)
def test_the_whole_interval_decides(bounds, outcome):
  ours, theirs = {0: 9.0, 1: 10.0, 2: 11.0}, dict.fromkeys(range(3), 20.0)
  part = shared(ours, theirs, **bounds)
  assert part.outcome is outcome and part.seeds == 3
  assert part.found == '10.0 / 20.0 = 50.0 ± 5.8%'


def test_a_run_without_use_fails_in_any_number_of_seeds():
  for seeds in (1, 3):
    part = shared(
      dict.fromkeys(range(seeds), 9.0), dict.fromkeys(range(seeds), 0.5)
    )
    assert part.outcome is Outcome.FAILS and part.seeds == seeds
    assert part.found == '9.0 / 0.5, too low to compare'


@pytest.mark.parametrize(
  'outcomes, said',
  [
    ('✓✓', 'holds'),
    ('✓✗', 'holds in part, 1 of 2'),
    ('✓✗??', 'holds in part, 1 of 4; 2 undecided'),
    ('✓?', 'holds in part, 1 of 2; 1 undecided'),
    ('✗✗', 'does not hold here'),
    ('✗??', 'fails in 1 of 3; 2 undecided'),
    ('??', 'undecided'),
    ('✓✗-', 'open, 1 of 2; 1 not run yet'),
    ('✓?--', 'open, 1 of 2; 1 undecided; 2 not run yet'),
    ('-', 'open, not run yet'),
    ('', 'open, not run yet'),
  ],
)
def test_verdicts(outcomes, said):
  marks = [Outcome(mark.replace('-', '')) for mark in outcomes]
  parts = [verdicts.Part('', '', '', mark) for mark in marks]
  assert verdicts.verdict(parts) == said
  fitted = [part._replace(fitted=True) for part in parts]
  fixed = ', fixed by the clock' if said == 'holds' else ''
  assert verdicts.verdict(fitted) == said + fixed


def test_every_outcome_has_its_mark():
  marks = dict.fromkeys(Outcome, '')
  for outcome in Outcome:
    parts = [verdicts.Part('what', 'claimed', 'found', outcome)]
    claim = verdicts.Claim('It works', 'Table', lambda _, p=parts: iter(p))
    table = verdicts.report([claim], [Invented({})])
    marks[outcome] = re.search(r'([^ ]*) found \|', table)[1]
  assert list(marks.values()) == ['✓', '✗', '?', '']


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
