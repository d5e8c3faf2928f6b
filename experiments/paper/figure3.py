"""Figure 3: the same as Figure 2, at twice the learning rate.

  python -m experiments.paper.figure3 --scale=tiny

Claim (section 4.3 and the figure): parameters move twice as far, so staleness
3, artificial or real, leaves the Transformer nothing. The RNN learns in all
cases. 33 runs, with three seeds of the Transformer, and ten where a verdict
needs them; 4 of them also in Tables 1 and 5. About an hour on two processor
cores at `tiny`.
"""

import functools

from experiments import command
from experiments.ledger import runs
from experiments.paper import figure2
from experiments.render.report import draw as draw_curves
from experiments.render.report import summary

LINES = figure2.lines(2)
CLOSE = ('synchronous', 'asynchronous, 4 batches')
RUNS = figure2.wanted(LINES) + runs.seeds(
  (LINES['transformer'][label] for label in CLOSE), runs.MORE_SEEDS
)
report = functools.partial(summary, lines=LINES)
draw = functools.partial(draw_curves, lines=LINES)

if __name__ == '__main__':
  command.main(__name__)
