"""Figure 2: artificial staleness of 2 and 3 beside real staleness.

  python -m experiments.paper.figure2 --scale=tiny

Claim (section 4.3): synchronous training loses much if workers pull only every
7 updates, a mean staleness of 3, and little if they pull every 5 updates, a
mean of 2. Asynchronous training with the same four batches per update is worse
than both. The RNN is less sensitive. In the text all workers pull after the
same update; in the authors' code one after the other. The Transformer has both.
33 runs, with three seeds of the Transformer, and ten where a verdict needs
them; 8 of them also in Table 3. About an hour on two processor cores at
`tiny`.
"""

import dataclasses
import functools

from experiments import command
from experiments.ledger import runs
from experiments.ledger.settings import Settings
from experiments.paper import printed as paper
from experiments.render.report import Lines, summary
from experiments.render.report import draw as draw_curves


def lines(times: float) -> Lines:
  """The curves of each model, at a multiple of the learning rate."""
  found = {}
  for model, rate in paper.LEARNING_RATE.items():
    run = lambda c, m=model, r=rate: runs.base(m, c, learning_rate=times * r)
    synchronous = run(paper.SYNC)
    found[model] = {'synchronous': synchronous}
    for staleness, updates in paper.PULL_EVERY.items():
      held = dataclasses.replace(synchronous.communication, pull_every=updates)
      label = f'synchronous, staleness {staleness}'
      found[model][label] = dataclasses.replace(synchronous, communication=held)
    if model == 'transformer':  # The last is staleness 3.
      label += ', staggered'
      found[model][label] = dataclasses.replace(
        run(paper.SYNC), communication=held, method='stagger_pulls'
      )
    found[model]['asynchronous, 4 batches'] = run(paper.LOCAL)
  return found


def wanted(curves: Lines) -> list[Settings]:
  """The runs of all curves, the Transformer's with every seed."""
  first, second = (list(of.values()) for of in curves.values())
  return [*runs.seeds(first), *second]


LINES = lines(1)
CLOSE = ('synchronous, staleness 3', 'asynchronous, 4 batches')
RUNS = wanted(LINES) + runs.seeds(
  (LINES['transformer'][label] for label in CLOSE), runs.MORE_SEEDS
)
report = functools.partial(summary, lines=LINES)
draw = functools.partial(draw_curves, lines=LINES)

if __name__ == '__main__':
  command.main(__name__)
