"""Our side: the server and its workers, as experiments.train runs them."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

import stale_adam as sa
from experiments.benchmarks.peers import recipe
from experiments.benchmarks.peers.inside import child
from stale_adam.nmt import translation
from stale_adam.training import checkpoint, flat_problem


def train(job: dict[str, Any], progress: Any) -> dict[str, Any]:
  """Trains for the job's number of words, and keeps the last parameters."""
  settings = recipe.settings(job['pair'])
  task = recipe.task(settings, job['data_dir'])
  optimizer = settings.transformation()
  form = flat_problem.form(task.problem, optimizer)  # As training.loop does.
  meter, version = child.Meter(job, progress), 0
  with sa.pools.Virtual(threads=job['cores']) as pool:
    arrivals = sa.serve(
      form.problem,
      optimizer,
      settings.communication,
      pool,
      settings.seed,
    )
    for push, server in arrivals:
      words = sum(task.units(batch_id) for batch_id in push.ids)
      meter.add(words, server.version - version)
      version = server.version
      if meter.full:
        break
  out = Path(job['out'])
  task.model.vocabulary.save(out / translation.VOCABULARY)
  params = jax.tree.map(np.asarray, form.params(server.params))
  checkpoint.save(out / 'params.npz', params, task.model.metadata())
  return meter.result()


def decode(job: dict[str, Any], progress: Any) -> dict[str, Any]:
  """Translates the test sentences; the result is text."""
  model, params = translation.load(job['out'])
  pairs = recipe.test(job['pair'], job['data_dir'])
  translate = lambda: model.translate(params, pairs.source, job['beam'])
  return child.timed(translate, progress)


if __name__ == '__main__':
  child.run({'train': train, 'decode': decode})
