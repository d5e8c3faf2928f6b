"""Runs that are being made, for a browser on this machine."""

import functools
import http.server
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from experiments.page import site
from experiments.render import charts
from experiments.render.report import label
from stale_adam.trace import used_staleness
from stale_adam.training import record as record_lib
from stale_adam.training import resume

_SHOWN = 40  # Runs, the newest first.
_RENEWED_SECONDS = 90.0  # A lock that is older is of a process that has ended.
_TYPES = {'.css': 'text/css', '.js': 'text/javascript'}


def state(folder: Path) -> list[dict[str, Any]]:
  """What is known of the runs below a directory, the newest first.

  An unfinished run tells what its last saved state does.
  """
  begun = {path.parent for path in folder.rglob('run.json')}
  changed = lambda out: max(p.stat().st_mtime for p in out.iterdir())
  newest = sorted(begun, key=changed, reverse=True)[:_SHOWN]
  found = [about(out) for out in newest]
  return [run for run in found if run]


def about(out: Path) -> dict[str, Any] | None:
  """One run; None if its files cannot be read, or are being replaced."""
  try:
    run = json.loads((out / 'run.json').read_text('utf-8'))['run']
    if (out / 'record.json').exists():
      return _finished(run, record_lib.read(out / 'record.json'))
    return _unfinished(run, out)
  except (OSError, ValueError):
    return None


def _finished(
  run: Mapping[str, Any], record: Mapping[str, Any]
) -> dict[str, Any]:
  told = f'finished; staleness {record["mean_staleness"]:.2f}'
  return _shown(run, 1.0, told, record['curve'])


def _unfinished(run: Mapping[str, Any], out: Path) -> dict[str, Any]:
  lock = out / '.lock'
  ours = lock.exists() and time.time() - lock.stat().st_mtime < _RENEWED_SECONDS
  status = 'training' if ours else 'stopped: repeat its command to resume'
  saved = max((p.stat().st_mtime for p in out.glob('resume-*.npz')), default=0)
  known = _saved(out, saved)
  if known is None:
    return _shown(run, 0.0, f'{status}; nothing saved yet', [])
  curve, units, seconds, staleness = known
  config = run['config']
  total = config['budget']['epochs'] * config['words_per_epoch']
  speed = units / max(seconds, 1e-9)
  told = f'{status}; {speed:,.0f} target words/s; staleness {staleness:.2f}'
  if ours:
    left = round(max(0.0, total - units) / max(speed, 1e-9))
    told += f'; about {left // 60}:{left % 60:02d} left'
  return _shown(run, min(1.0, units / total), told, curve)


@functools.lru_cache(maxsize=2 * _SHOWN)
def _saved(out: Path, changed: float) -> tuple[list, int, float, float] | None:
  """(curve, units, seconds, mean staleness) of the state saved then."""
  del changed
  captured = resume.newest(out)
  if captured is None:
    return None
  header = captured.header
  columns = {k: captured.arrays[i] for k, i in header['columns'].items()}
  staleness = used_staleness(columns)
  mean = float(np.mean(staleness)) if staleness.size else 0.0
  return header['curve'], header['units'], header['loop_seconds'], mean


def _shown(
  run: Mapping[str, Any], share: float, told: str, curve: list
) -> dict[str, Any]:
  """What the page shows of a run; `chart` if it was validated."""
  found = {
    'name': f'{run["scale"]} {run["run"]}',
    'share': share,
    'told': f'{100 * share:.0f}%: {told}',
  }
  if curve:
    _, _, unit, *_, metric = curve[-1]  # As `Course.validate` orders them.
    x = [point[unit] for point in curve]
    y = [point[metric] for point in curve]
    (chart,) = charts.lines(
      {'': {'validation': (x, y)}}, unit.replace('_', ' '), label(metric)
    )
    found['chart'] = charts.rounded(chart)
  return found


def handler(folder: Path) -> type[http.server.BaseHTTPRequestHandler]:
  """What answers a browser: the page, its parts, and the state as JSON."""
  loader = jinja2.FileSystemLoader(site.HERE / 'templates')
  templates = jinja2.Environment(loader=loader, autoescape=True)
  page = templates.get_template('live.html').render(
    root='', pages=[], folder=str(folder)
  )

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
      name = self.path.partition('?')[0].lstrip('/')
      # Another site's name for this address must not read it.
      host = self.headers.get('Host', '').rpartition(':')[0]
      if host not in ('127.0.0.1', 'localhost'):
        self.send_error(403)
      elif name == '':
        self._send(page.encode(), 'text/html; charset=utf-8')
      elif name == 'state.json':
        self._send(json.dumps(state(folder)).encode(), 'application/json')
      elif name in (*site.ASSETS, site.PLOTLY):
        kind = _TYPES[Path(name).suffix]
        self._send(site.asset(name), f'{kind}; charset=utf-8')
      else:
        self.send_error(404)

    def _send(self, body: bytes, kind: str) -> None:
      self.send_response(200)
      self.send_header('Content-Type', kind)
      self.send_header('Content-Length', str(len(body)))
      self.send_header('Cache-Control', 'no-store')
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
      """Says nothing."""

  return Handler


def server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
  """A server on this machine's own address; `serve_forever` runs it.

  Args:
    folder: with runs below it.
    port: 0 for any that is free.

  Raises:
    OSError: if the port is taken.
  """
  return http.server.ThreadingHTTPServer(('127.0.0.1', port), handler(folder))
