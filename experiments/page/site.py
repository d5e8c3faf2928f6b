"""Builds the page: every table, figure and run of a directory of results."""

import base64
import functools
import gzip
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jinja2
import markdown_it
from markupsafe import Markup, escape

from experiments.ledger.store import DIGITS, Stored
from experiments.page import reference, timelines
from experiments.paper.verdicts import FIRST, LAST
from experiments.render import charts
from experiments.render.report import label
from stale_adam import files
from stale_adam.training import record as record_lib

HERE = Path(__file__).parent
ASSETS, PLOTLY = ('page.css', 'page.js'), 'plotly.js'
# Fields of a point of the curve that a run's page shows.
_FIELDS = ('updates', 'target_words', 'virtual_seconds', 'seconds')
_LOSSES = ('train_loss', 'validation_loss')


class Run(NamedTuple):
  """A record and where its page is.

  Attributes:
    key: its name on the page, unique.
    record: as it was read.
  """

  key: str
  record: Mapping[str, Any]

  @property
  def href(self) -> str:
    return f'runs/{self.key}.html'


class Shown(NamedTuple):
  """A table or figure.

  Attributes:
    name: of its file.
    title: its heading.
    html: the rest of it.
    charts: by the name of the picture that they replace.
  """

  name: str
  title: str
  html: str
  charts: Mapping[str, Sequence[charts.Chart]]


def build(
  results: Path,
  out: Path,
  experiments: Sequence[ModuleType],
  every: Sequence[Stored],
) -> Path:
  """Write the page into a directory of its own, which is replaced.

  Args:
    results: directory of Markdown and records.
    out: directory to write.
    experiments: modules whose figures can be explored.
    every: the records of every scale.

  Returns:
    The file to open.

  Raises:
    OSError: if the directory cannot be written to, or holds something else.
  """
  check(out)
  made = out.with_name(out.name + '.partial')
  shutil.rmtree(made, ignore_errors=True)
  (made / 'runs').mkdir(parents=True)
  Writer(results, made, experiments, every).all()
  # Aside first: a page of which half is removed would be refused as none.
  replaced = out.with_name(out.name + '.replaced')
  shutil.rmtree(replaced, ignore_errors=True)
  if out.exists():
    out.rename(replaced)
  made.rename(out)
  shutil.rmtree(replaced, ignore_errors=True)
  return out / 'index.html'


def check(out: Path) -> None:
  """Refuse a directory that is no page, before anything is lost.

  Raises:
    FileExistsError: naming it.
  """
  files.check_writable(out.parent)
  if out.exists() and not (out.is_dir() and (out / 'page.js').exists()):
    if not (out.is_dir() and not any(out.iterdir())):
      raise FileExistsError(
        f'{out} exists and holds no page: name another directory, or remove it'
      )


class Writer:
  """Writes all files of a page; arguments as of `build`."""

  def __init__(
    self,
    results: Path,
    out: Path,
    experiments: Sequence[ModuleType],
    every: Sequence[Stored],
  ):
    self._results, self._out = results, out
    self._modules = {Path(m.__file__).stem: m for m in experiments}
    self._every = {records.scale: records for records in every}
    self._markdown = markdown_it.MarkdownIt('js-default')
    loader = jinja2.FileSystemLoader(HERE / 'templates')
    self._templates = jinja2.Environment(
      loader=loader,
      autoescape=True,
      undefined=jinja2.StrictUndefined,
      trim_blocks=True,
      lstrip_blocks=True,
    )
    self._templates.filters |= {'number': number, 'plain': plain, 'told': told}
    self.runs = list(read(results / 'records'))
    self.shown = [self._shown(p) for p in self._written()]

  def _written(self) -> list[Path]:
    """Markdown files: those of experiments may have a folder of their own."""
    found = {*self._results.glob('*.md'), *self._results.glob('*/*.md')}
    return sorted(found, key=lambda path: path.stem)

  def all(self) -> None:
    """Everything; pages of runs last."""
    self._assets()
    for shown in self.shown:
      self._write(f'{shown.name}.html', 'shown.html', shown=shown)
    front = next((s for s in self.shown if s.name == 'headline'), None)
    when = next((s for s in self.shown if s.name == 'clusters'), None)
    verdicts = self._verdicts()
    known = {'front': front, 'when': when, 'verdicts': verdicts}
    self._write('index.html', 'index.html', **known)
    self._write('reference.html', 'reference.html', names=reference.names())
    self._write('runs.html', 'runs.html', runs=self.runs, rows=rows(self.runs))
    for run in self.runs:
      self._write(run.href, 'run.html', run=run, **about(run.record))

  def _write(self, path: str, template: str, **known: Any) -> None:
    known |= {'root': '../' * path.count('/'), 'pages': self.shown}
    text = self._templates.get_template(template).render(**known)
    (self._out / path).write_text(text, encoding='utf-8')

  def _assets(self) -> None:
    for name in (*ASSETS, PLOTLY):
      (self._out / name).write_bytes(asset(name))
    self._script('translations.js', 'TRANSLATIONS', translations(self.runs))

  def _script(self, name: str, variable: str, value: Any) -> None:
    """A file that a page from disk can read, unlike JSON."""
    text = f'window.{variable} = {script(value)};\n'
    (self._out / name).write_text(text, encoding='utf-8')

  def _shown(self, path: Path) -> Shown:
    """A Markdown file as HTML, its pictures as charts where that is known."""
    text = path.read_text('utf-8')
    heading, _, rest = text.lstrip('# ').partition('\n')
    drawn: dict[str, Sequence[charts.Chart]] = {}
    module = self._modules.get(path.stem)
    if module and hasattr(module, 'draw'):
      with tempfile.TemporaryDirectory() as folder:
        for scale, records in self._every.items():
          if any(map(records.all, module.RUNS)):
            data = Path(folder) / f'{scale}.json'
            module.draw(data, records)
            picture = f'{path.stem}-{scale}.png'
            drawn[picture] = json.loads(data.read_text('utf-8'))
    html = self._html(rest, drawn)
    name = 'results' if path.stem == 'README' else path.stem
    return Shown(name, heading, html, drawn)

  def _html(self, text: str, drawn: Mapping[str, Any]) -> str:
    """Markdown as HTML; a script in it is text."""
    html = self._markdown.render(text)
    for mark in (FIRST, LAST):  # Comments are text, too.
      html = html.replace(str(escape(mark)), '')
    html = re.sub(r'<th( style="[^"]*")?></th>', '<td></td>', html)
    html = html.replace('<table>', '<div class="wide"><table>')
    html = html.replace('</table>', '</table></div>')
    html = re.sub(r'href="README\.md', 'href="results.html', html)
    html = re.sub(r'href="(?!https?:)([\w/-]+)\.md', _link, html)

    def chart(match: re.Match[str]) -> str:
      name, alt = match[1], match[2]
      if name not in drawn:
        return f'<p class="missing">{alt}: see {name} in the results</p>'
      return (
        f'<div class="charts" data-charts="{name}" role="group" '
        f'aria-label="{alt}"></div>'
      )

    picture = r'<p><img src="([^"]+)" alt="([^"]*)"\s*/?></p>'
    return re.sub(picture, chart, html)

  def _verdicts(self) -> str:
    """The claims with their verdicts: the first table of the results."""
    path = self._results / 'README.md'
    text = path.read_text('utf-8') if path.exists() else ''
    _, _, rest = text.partition(FIRST)
    table = rest.strip().partition('\n\n')[0]
    return self._html(table, {}) if table else ''


@functools.cache
def asset(name: str) -> bytes:
  """A file that pages load.

  Plotly's is in its package. It is most of the page, so it is compressed, as
  text: a script is the only data that a page on a disk may read.
  """
  if name == PLOTLY:
    package = resources.files('plotly') / 'package_data'
    packed = gzip.compress((package / 'plotly.min.js').read_bytes(), mtime=0)
    return b"window.PLOTLY = '%b';\n" % base64.b64encode(packed)
  return (HERE / name).read_bytes()


def _link(match: re.Match[str]) -> str:
  """A table's page lies beside all others."""
  return f'href="{Path(match[1]).name}.html'


def read(folder: Path) -> Iterable[Run]:
  """All records, by scale and name; those that cannot be read are left out."""
  for path in sorted(folder.glob('*/*.json')):
    try:
      record = record_lib.read(path)
    except (OSError, ValueError):
      continue
    digits = record['text']['sha256'][:DIGITS]
    key = re.sub(r'[^\w.=+-]', '_', f'{record["scale"]}-{record["run"]}')
    yield Run(f'{key}.{digits}', record)


def rows(runs: Iterable[Run]) -> list[dict[str, Any]]:
  """What the list of runs shows of each."""
  return [
    {
      'run': run,
      'best': record_lib.best(run.record),
      'staleness': run.record['mean_staleness'],
      'speed': record_lib.virtual_speed(run.record),
      'seconds': run.record['curve'][-1]['virtual_seconds'],
    }
    for run in runs
  ]


def about(record: Mapping[str, Any]) -> dict[str, Any]:
  """What the page of a run shows."""
  curve, metric = record['curve'], record_lib.metric(record)
  column = lambda name: [point.get(name) for point in curve]
  axes = {name: name.replace('_', ' ') for name in _FIELDS if name in curve[0]}
  x = {name: column(name) for name in axes}
  line = lambda name, shown: {'label': shown, 'y': column(name)}
  drawn = lambda title, y_label, of: {
    'kind': 'lines',
    'title': title,
    'axes': axes,
    'y_label': y_label,
    'log': False,
    'lines': of,
  }
  name = label(metric)
  losses = [line(loss, loss.replace('_', ' ')) for loss in _LOSSES]
  histogram = {
    'kind': 'bars',
    'title': 'Staleness of pushes',
    'x_label': 'staleness, in updates',
    'y_label': 'pushes',
    'x': [int(s) for s in record['staleness_histogram']],
    'y': list(record['staleness_histogram'].values()),
  }
  made = [
    drawn(f'Validation {name}', name, [line(metric, name)]) | {'x': x},
    drawn('Losses', 'loss', losses),  # Over the same x.
    histogram,
    *timelines.charts(record),
  ]
  return {
    'drawn': {'run': charts.rounded(made)},
    'metric': name,
    'best': record_lib.best(record),
    'tests': record_lib.tests(record),
    'speed': record_lib.virtual_speed(record),
  }


def translations(every: Iterable[Run]) -> dict[str, Any]:
  """Translations of all runs; sentences and references once for each text."""
  texts: dict[str, int] = {}
  found = {}
  of = lambda run, name: [one.get(name, '') for one in run.record['examples']]
  for run in every:
    text = json.dumps({name: of(run, name) for name in ('source', 'reference')})
    found[run.key] = {
      'name': f'{run.record["scale"]} {run.record["run"]}',
      'text': texts.setdefault(text, len(texts)),
      'translation': of(run, 'translation'),
    }
  return {'texts': [json.loads(text) for text in texts], 'runs': found}


def told(value: Any) -> str:
  """Settings as people read them: a line for each group of them."""
  if isinstance(value, Mapping):
    return ', '.join(f'{name} {told(item)}' for name, item in value.items())
  if isinstance(value, list | tuple):
    return ', '.join(map(told, value))
  if isinstance(value, float):
    return f'{value:.6g}'
  return value if isinstance(value, str) else json.dumps(value)


def script(value: Any) -> str:
  """JSON that may stand in a script element."""
  text = json.dumps(value, ensure_ascii=False, separators=(',', ':'))
  for character in '<>&\u2028\u2029':
    text = text.replace(character, f'\\u{ord(character):04x}')
  return text


def plain(value: Any) -> Markup:
  """The same for templates."""
  return Markup(script(value))


def number(value: float, digits: int = 1) -> str:
  """A number as people read it."""
  return f'{value:,.{digits}f}'
