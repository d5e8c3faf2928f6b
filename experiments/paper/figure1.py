"""Figure 1: batch size alone does not explain the loss.

  python -m experiments.paper.figure1 --scale=tiny

Claim (section 4.2): an update from four batches improves the model more than
one from a single batch. Still, asynchronous training with four batches per
update (4x local accumulation) stays below synchronous training, even with one
batch per update. The RNN is hardly affected. Synchronous training with one
batch per update (the paper's 10 GB) has a single worker. 8 runs, 6 of them also
in Table 3; about 20 minutes on two processor cores at `tiny`.
"""

import functools

from experiments import command
from experiments.ledger import runs
from experiments.paper import printed as paper
from experiments.render.report import draw as draw_curves
from experiments.render.report import summary
from stale_adam.policy import Communication

LINES = {
  model: {
    'synchronous, 4 batches': runs.base(model, paper.SYNC),
    'synchronous, 1 batch': runs.base(model, Communication(workers=1)),
    'asynchronous, 4 batches': runs.base(model, paper.LOCAL),
    'asynchronous, 1 batch': runs.base(model, paper.ASYNC),
  }
  for model in paper.LEARNING_RATE
}
RUNS = [run for lines in LINES.values() for run in lines.values()]
report = functools.partial(summary, lines=LINES)
draw = functools.partial(
  draw_curves, lines=LINES, until='synchronous, 4 batches'
)

if __name__ == '__main__':
  command.main(__name__)
