"""JoeyNMT's side: its own command for training, its own search."""

import sys
from collections.abc import Iterator
from typing import Any

from experiments.benchmarks.peers.inside import child


class _Counted:
  """A data loader whose batches are counted; its end interrupts training."""

  def __init__(self, loader: Any, meter: child.Meter):
    self._loader, self._meter = loader, meter
    self.batch_sampler = loader.batch_sampler

  def __iter__(self) -> Iterator[Any]:
    words = lambda batch: batch.ntokens  # Without padding and begin.
    yield from self._meter.until_full(self._loader, words)
    if self._meter.full:
      raise KeyboardInterrupt  # JoeyNMT then saves, and returns.


def train(job: dict[str, Any], progress: Any) -> dict[str, Any]:
  """Trains as `joeynmt train` does, for the job's number of words."""
  child.with_torch(job)
  from joeynmt import __main__, datasets

  make_iter = datasets.BaseDataset.make_iter
  meters = []

  def counted(self, *args, **options):
    loader = make_iter(self, *args, **options)
    if self.split != 'train':
      return loader
    meters.append(child.Meter(job, progress))
    return _Counted(loader, meters[-1])

  datasets.BaseDataset.make_iter = counted
  sys.argv = ['joeynmt', 'train', job['config'], '--skip-test']
  __main__.main()
  return meters[-1].result()


def decode(job: dict[str, Any], progress: Any) -> dict[str, Any]:
  """Translates the test sentences as `joeynmt test` does."""
  child.with_torch(job)
  from joeynmt import config, prediction

  settings = config.load_config(job['config'])
  args = config.parse_global_args(settings, mode='test')
  model, _, _, data = prediction.prepare(args, rank=0, mode='test')

  def translate():
    found = prediction.predict(
      model,
      data,
      args.device,
      args.n_gpu,
      args=args.test,
      autocast=args.autocast,
    )
    return found[2]

  return child.timed(translate, progress)


if __name__ == '__main__':
  child.run({'train': train, 'decode': decode})
