"""Records on disk, found by run and by text; shared by all tables.

results/records/<scale>/<name of the run>.<digits>.json

The digits are the first of the text's SHA-256. A record counts if its settings
are those of the run and its text is the one that was asked for. One of less
patience counts if its run spent its epochs all the same. Records of several
texts can lie side by side.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments.ledger import runs, scales, texts
from experiments.ledger.records import Record, Records, seconds
from experiments.ledger.settings import Settings, agrees
from stale_adam.training import record as record_lib

DIGITS = 8  # Of the digest, in file names and reports.


class Stored(Records):
  """The records of a scale in a directory.

  If no text is named, the records determine it: they have one text for each
  language pair.

  Args:
    scale: a name in scales.py.
    directory: what --results names.
    data_dir: directory of the text, as in `texts.load`.
    training: whether runs will be made: then a scale with a grammar uses its
      text, even if the records have another.
  """

  def __init__(
    self,
    scale: str,
    directory: Path,
    data_dir: str | None = None,
    training: bool = False,
  ):
    super().__init__(scale)
    self.directory = directory / 'records' / scale
    self._data_dir = data_dir
    embedded = scales.SCALES[scale].embedded is not None
    self._named = data_dir is not None or (training and embedded)
    self._found: dict[Settings, Record | None] = {}
    self._damaged: set[Path] = set()
    self._digests: dict[str, str | None] = {}

  def text(self, pair: str) -> str | None:
    """The digest of the text whose records count, for a pair of this scale.

    Returns:
      The SHA-256; None if no text is named and there is no record.

    Raises:
      ValueError: if no text is named and there are records of several.
    """
    if self._digests.get(pair) is None:
      self._digests[pair] = self._text(pair)
    return self._digests[pair]

  def _text(self, pair: str) -> str | None:
    if self._named:
      return texts.sha256(self.scale, pair, self._data_dir)
    found = self._texts(pair)
    if len(found) > 1 and scales.SCALES[self.scale].embedded:
      return texts.sha256(self.scale, pair, None)
    if len(found) > 1:
      listed = ', '.join(f'{n} ({d[:DIGITS]})' for d, n in found.items())
      raise ValueError(
        f'{self.directory} has records of several texts for {pair}: {listed}; '
        f'name the one to show by --scale={self.scale} and --data_dir'
      )
    return next(iter(found), None)

  def corpora(self, pairs: Iterable[str]) -> dict[str, str]:
    """Names of the texts in use for the paper's pairs, by their digests."""
    found = {}
    for pair in filter(None, map(self.pair, pairs)):
      digest = self.text(pair)
      found |= {d: n for d, n in self._texts(pair).items() if d == digest}
    return found

  def _texts(self, pair: str) -> dict[str, str]:
    """Names of the texts that have records of a pair, by their digests."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(self.directory.glob(f'*-{pair}-*.json')):
      groups.setdefault(path.name.split('.')[-2], []).append(path)
    found = {}
    for paths in groups.values():
      record = next(filter(None, map(self._read, paths)), None)
      if record:
        found[record['text']['sha256']] = record['text']['name']
    return found

  def path(self, run: Settings, digest: str) -> Path:
    """The file of a run's record of the text with this digest."""
    name = runs.name(self.scale, run)
    return self.directory / f'{name}.{digest[:DIGITS]}.json'

  def get(self, run: Settings) -> Record | None:
    """The record of a run with these settings and text, or None."""
    if self._found.get(run) is None:
      self._found[run] = self._matching(run)
    return self._found[run]

  def add(self, run: Settings, record: Record) -> None:
    """Write a record and remember it."""
    path = self.path(run, record['text']['sha256'])
    record_lib.write(path, record)
    self._found[run] = record_lib.read(path)

  def exists(self, run: Settings) -> bool:
    """Whether there is a file for the run, even if it does not count."""
    digest = self.pair(run.pair) and self.text(self.pair(run.pair))
    return bool(digest) and self.path(run, digest).exists()

  def _matching(self, run: Settings) -> Record | None:
    if not self.exists(run):
      return None
    digest = self.text(self.pair(run.pair))
    record = self._read(self.path(run, digest))
    wanted = (self.scale, runs.name(self.scale, run), digest)
    if record is None:
      return None
    own = record['scale'], record['run'], record['text']['sha256']
    same = _counts(record, runs.at(self.scale, run))
    return record if same and own == wanted else None

  def _read(self, path: Path) -> Record | None:
    """A record; None, and a line on stderr, if the file is damaged."""
    try:
      record = record_lib.read(path)
      if 'text' not in record:
        raise ValueError(f"{path}: record field 'text' is missing")
    except (ValueError, OSError) as error:
      if path not in self._damaged:
        self._damaged.add(path)
        print(
          f'skipped a damaged record: {error}. Delete {path} to rerun it.',
          file=sys.stderr,
        )
      return None
    return record

  def durations(self, model: str) -> list[float]:
    """Seconds an epoch that each finished run of a model took."""
    found = map(self._read, sorted(self.directory.glob(f'{model}-*.json')))
    took = [(seconds(r), r['curve'][-1]['epochs']) for r in found if r]
    return [one / epochs for one, epochs in took if one is not None and epochs]


def _counts(record: Record, run: Settings) -> bool:
  """Whether a record has the settings of a run, or those of an equal run.

  More patience changes nothing in a run that spent its epochs.
  """
  config, patience = record['config'], run.budget.patience
  budget = config.get('budget')
  spent = record['curve'][-1]['epochs'] >= run.budget.epochs
  if spent and isinstance(budget, Mapping):
    if budget.get('patience') in range(patience):
      config = config | {'budget': budget | {'patience': patience}}
  return agrees(config, run)
