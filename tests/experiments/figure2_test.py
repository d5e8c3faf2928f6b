"""Figure 2's artificial staleness, by the server and by `sa.hold`."""

import itertools

import jax
import numpy as np
import optax
import pytest
import toys

import stale_adam as sa
from experiments.paper import figure2
from experiments.paper import printed as paper

HELD = {
  run.communication
  for lines in figure2.LINES.values()
  for run in lines.values()
  if run.communication.pull_every > 1
}


def test_the_figure_has_the_papers_staleness():
  assert {c.pull_every for c in HELD} == set(paper.PULL_EVERY.values())
  for staleness, updates in paper.PULL_EVERY.items():
    assert (updates - 1) / 2 == staleness


@pytest.mark.slow
@pytest.mark.parametrize('communication', HELD, ids=str)
def test_it_is_hold_in_an_ordinary_loop(communication):
  """One worker, the sum of the same four batches, snapshots held U updates."""
  count, per_update = 20, communication.batches_per_update
  with sa.pools.Virtual(sa.Clock()) as pool:
    arrivals = sa.serve(toys.PROBLEM, sa.adam(0.05), communication, pool)
    *_, (_, server) = itertools.islice(arrivals, count * per_update)
  optimizer = sa.hold(sa.adam(0.05), communication.pull_every)
  params = toys.PROBLEM.init(None)
  state = optimizer.init(params)

  @jax.jit
  def update(params, state, batches):
    at = sa.pulled_params(state)
    loss = lambda p: sum(toys.PROBLEM.loss(p, b, None) for b in batches)
    gradient = jax.grad(loss)(at)
    change, state = optimizer.update(gradient, state, params, pulled=at)
    return optax.apply_updates(params, change), state

  for number in range(count):
    ids = range(number * per_update, (number + 1) * per_update)
    params, state = update(params, state, [*map(toys.PROBLEM.batch, ids)])
  assert server.version == count
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    server.params,
    params,
  )
