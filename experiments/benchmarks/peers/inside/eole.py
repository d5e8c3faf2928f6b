"""eole's side: its own command for training, its own engine for search."""

import sys
from typing import Any

from experiments.benchmarks.peers.inside import child


def train(job: dict[str, Any], progress: Any) -> dict[str, Any]:
  """Trains as `eole train` does, for the job's number of words."""
  child.with_torch(job)
  from eole import trainer
  from eole.bin import main

  batches_of = trainer.Trainer._accum_batches
  meters = []

  def words(several):
    batches, _ = several  # Lengths count the begin of a sentence, too.
    return sum(int((batch['tgtlen'] - 1).sum()) for batch in batches)

  def counted(self, iterator):
    meters.append(child.Meter(job, progress))
    return meters[-1].until_full(batches_of(self, iterator), words)

  trainer.Trainer._accum_batches = counted
  sys.argv = ['eole', 'train', '-config', job['config']]
  main.main()
  return meters[-1].result()


def decode(job: dict[str, Any], progress: Any) -> dict[str, Any]:
  """Translates the test sentences with eole's engine."""
  child.with_torch(job)
  from eole import inference_engine
  from eole.config import run

  engine = inference_engine.InferenceEnginePY(
    run.PredictConfig(
      model_path=f'{job["out"]}/model', src='unused', **job['search']
    )
  )
  with open(job['source'], encoding='utf-8') as file:
    sentences = file.read().splitlines()

  def translate():
    _, _, found = engine.infer_list(sentences)
    return [best for best, *_ in found]

  return child.timed(translate, progress)


if __name__ == '__main__':
  child.run({'train': train, 'decode': decode})
