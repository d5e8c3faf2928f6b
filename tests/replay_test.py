"""A run of real threads, replayed: the tiny Transformer, dropout on."""

import itertools

import jax
import numpy as np
import pytest
import toys

import stale_adam as sa
from experiments import grammar
from experiments.ledger import scales
from stale_adam.nmt import translation
from stale_adam.nmt.data import vocabulary

PUSHES = 30


@pytest.fixture(scope='module')
def problem():
  """As `experiments.train --scale=tiny`, with dropout, on fewer sentences."""
  text = grammar.corpus(train=800, validation=8, test=8)
  settings = scales.settings('tiny', 'transformer')
  sizes = settings.sizes | {'dropout': 0.1}
  pieces = vocabulary.train(text.train, settings.vocabulary)
  model = translation.Model('transformer', pieces, sizes)
  return translation.Translation(model, text, settings.shape).problem


@pytest.mark.slow
def test_a_threaded_run_of_the_transformer_replays_bit_for_bit(
  problem, tmp_path
):
  """From the file, by the compiled simulation and on a virtual clock."""
  numbers = sa.Communication(4, global_accumulation=2)
  optimizer = sa.adam(sa.inverse_sqrt(0.003, 20))
  with sa.pools.Threads(jax.devices()[:2]) as pool:
    arrivals = sa.serve(problem, optimizer, numbers, pool, seed=3)
    pushes, states = zip(*itertools.islice(arrivals, PUSHES), strict=True)
  sa.Trace.of(pushes).save(tmp_path / 'trace.npz')
  trace = sa.Trace.load(tmp_path / 'trace.npz')
  run = sa.simulate(
    problem, optimizer, numbers, trace, 3, devices=jax.devices()[:1]
  )
  with sa.pools.Virtual(trace) as pool:
    *_, (_, last) = sa.serve(problem, optimizer, numbers, pool, seed=3)
  for params in (run.params, last.params):
    jax.tree.map(np.testing.assert_array_equal, params, states[-1].params)
  np.testing.assert_array_equal(run.loss, [push.loss for push in pushes])
  assert run.staleness.tolist() == [push.staleness for push in pushes]
  # What the same arrivals would have led to, had the server not summed.
  other = sa.simulate(
    *(problem, optimizer, sa.Communication(4), trace, 3),
    devices=jax.devices()[:1],
    counterfactual=True,
  )
  assert np.mean(other.staleness) > np.mean(run.staleness)
  assert not np.array_equal(other.loss, run.loss)


CHANGED = {'pulled_version': 3, 'staleness': 1}


@pytest.mark.parametrize('name', CHANGED)
def test_a_changed_column_is_noticed(name):
  """A trace says what its order leads to, and a replay compares it."""
  numbers = sa.Communication(2, global_accumulation=2)
  order, run = [0, 1, 0, 1, 0, 1], (toys.PROBLEM, sa.adam(0.1), numbers)
  found = sa.simulate(*run, order)
  columns = {
    'pulled_version': np.array(found.pulled_version),
    'staleness': np.array(found.staleness),
  }
  trace = sa.Trace(order, np.arange(6.0), columns)
  again = sa.simulate(*run, trace)
  jax.tree.map(np.testing.assert_array_equal, again.params, found.params)
  columns[name][4] += CHANGED[name]
  changed = sa.Trace(order, np.arange(6.0), columns)
  wanted = f'push 5 of the trace has {name} .*counterfactual=True'
  with pytest.raises(ValueError, match=wanted):
    sa.simulate(*run, changed)
  sa.simulate(*run, changed, counterfactual=True)
  if name == 'pulled_version':  # All that a pool knows.
    with sa.pools.Virtual(changed) as pool:
      with pytest.raises(ValueError, match=wanted):
        list(sa.serve(*run, pool))
  with sa.pools.Virtual(changed, counterfactual=True) as pool:
    assert len(list(sa.serve(*run, pool))) == 6
