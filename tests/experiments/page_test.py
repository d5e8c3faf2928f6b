"""The page of results: its files, and what a browser shows of them."""

import copy
import importlib.util
import json
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import invented
import pytest

import stale_adam as sa
from experiments.benchmarks.injected import states
from experiments.benchmarks.injected import toys as injected
from experiments.ledger import runs, scales
from experiments.ledger.store import DIGITS, Stored
from experiments.page import live, reference, site, timelines
from experiments.paper import headline, table1
from experiments.render import charts
from experiments.render.report import render
from stale_adam.training import record as record_lib

CHROMIUM = shutil.which('chromium')
browser = pytest.mark.skipif(
  CHROMIUM is None or importlib.util.find_spec('playwright') is None,
  reason='needs Chromium and playwright',
)
# Without its network, which is closed anyway.
OPTIONS = (
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
)
SCRIPT = '<script>document.title = "run"</script> & <b>bold</b>'
MODULES = (headline, table1)


def records(folder):
  """Records of the headline's runs, with a script in a translation."""
  for i, run in enumerate(headline.RUNS[:3]):
    name = runs.name('tiny', run)
    made = copy.deepcopy(invented.RECORD)
    made['run'] = name
    settings = runs.at('tiny', run)
    made['config'] = settings.config() | {'clock': {'compute_seconds': 0.5 + i}}
    made['examples'] = [
      {
        'source': f'S {k}',
        'reference': f'R {k}',
        'translation': f'{SCRIPT} {i}',
      }
      for k in range(3)
    ]
    digits = made['text']['sha256'][:DIGITS]
    place = folder / 'records' / 'tiny'
    place.mkdir(parents=True, exist_ok=True)
    record_lib.write(place / f'{name}.{digits}.json', made)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """A page: (results, its directory)."""
  results = tmp_path_factory.mktemp('page') / 'results'
  records(results)
  every = [Stored(scale, results) for scale in scales.SCALES]
  for module in MODULES:
    render(module, results, every)
  (results / 'README.md').write_text('# Results\n\n[1](table1.md)\n')
  out = results.parent / 'out'
  site.build(results, out, MODULES, every)
  return results, out


def links(path):
  """What a page refers to, on this disk."""
  text = path.read_text('utf-8')
  found = re.findall(r'(?:href|src)="([^"#]+)', text)
  return [link for link in found if not re.match(r'(https?|data):', link)]


def test_every_link_goes_somewhere_and_nothing_comes_from_a_network(built):
  _, out = built
  pages = [*out.rglob('*.html')]
  assert len(pages) == 4 + len(MODULES) + 3  # The runs are last.
  for page in pages:
    for link in links(page):
      assert (page.parent / link).exists(), (page.name, link)
    loaded = re.findall(r'<(?:script|link|img)[^>]*https?:', page.read_text())
    assert not loaded


def test_text_of_a_record_is_text(built):
  _, out = built
  for page in out.rglob('*.html'):
    assert '<script>document' not in page.read_text('utf-8')
  told = (out / 'translations.js').read_text('utf-8')
  assert '<' not in told and 'document.title' in told
  assert site.script('</script>\u2028') == '"\\u003c/script\\u003e\\u2028"'


def test_charts_have_the_numbers_of_the_records(built):
  _, out = built
  (page,) = out.glob('runs/*sync-4-*-seed0.*.html')
  data = re.search(r'id="charts">(.*?)</script>', page.read_text(), re.DOTALL)
  score, losses, histogram, timeline = json.loads(data[1])['run']
  curve = invented.RECORD['curve']
  assert score['x']['updates'] == [point['updates'] for point in curve]
  assert score['lines'][0]['y'] == [point['bleu'] for point in curve]
  assert [line['label'] for line in losses['lines']] == [
    'train loss',
    'validation loss',
  ]
  assert sum(histogram['y']) == sum(
    invented.RECORD['staleness_histogram'].values()
  )
  workers = [row[0] for row in timeline['slices']]
  assert workers == sorted(workers) and {*workers} == {0, 1, 2, 3}


def test_every_public_name_has_its_docstring_on_the_page(built):
  text = (built[1] / 'reference.html').read_text('utf-8')
  found = reference.names()
  assert {name.path for name in found['sa']} == {
    f'sa.{name}' for name in sa.__all__ if name not in ('methods', 'pools')
  }
  assert {'sa.pools', 'sa.methods'} < {*found}
  for name in (name for of in found.values() for name in of):
    assert f'id="{name.path}"' in text
    assert name.first, name.path


def test_a_run_of_real_time_has_no_timeline():
  made = copy.deepcopy(invented.RECORD)
  made['provenance']['pool'] = 'threads'
  assert timelines.charts(made) == []


def test_a_directory_that_is_no_page_is_not_replaced(built, tmp_path):
  results, out = built
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'precious').write_text('')
  every = [Stored('tiny', results)]
  with pytest.raises(FileExistsError, match='holds no page'):
    site.build(results, tmp_path / 'other', MODULES, every)
  before = sorted(p.name for p in out.rglob('*'))
  site.build(results, out, MODULES, every)  # A page is.
  assert sorted(p.name for p in out.rglob('*')) == before


def test_a_page_is_replaced_after_an_interruption(built, tmp_path, monkeypatch):
  results, out, every = built[0], tmp_path / 'page', [Stored('tiny', built[0])]
  shutil.copytree(built[1], out)
  remove = shutil.rmtree

  def interrupted(path, **options):
    if (Path(path) / 'page.js').exists():
      (path / 'page.js').unlink()  # And no further.
      raise KeyboardInterrupt
    remove(path, **options)

  monkeypatch.setattr(shutil, 'rmtree', interrupted)
  with pytest.raises(KeyboardInterrupt):
    site.build(results, out, MODULES, every)
  monkeypatch.undo()
  site.build(results, out, MODULES, every)
  assert (out / 'page.js').exists()
  assert [path.name for path in tmp_path.iterdir()] == ['page']


def test_numbers_of_charts_are_what_json_holds():
  found = charts.rounded({'a': [1 / 3, float('nan'), 7], 'b': (1e9, True)})
  assert found == {'a': [0.3333, None, 7], 'b': [1e9, True]}


def test_settings_are_shown_in_groups():
  shape = {'rows': 2, 'speeds': [0.5, 2.0], 'clock': {'spread': 1 / 3}}
  assert site.told(shape) == 'rows 2, speeds 0.5, 2, clock spread 0.333333'
  told = [site.told(value) for value in (True, None, 'adam')]
  assert told == ['true', 'null', 'adam']


@pytest.fixture(scope='module')
def tab(built):
  """A tab of a browser, and what its console said."""
  from playwright.sync_api import sync_playwright

  said = []
  with sync_playwright() as library:
    window = library.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
    page = window.new_page(viewport={'width': 1200, 'height': 900})
    page.on('console', lambda message: said.append(message.text))
    page.on('pageerror', lambda error: said.append(str(error)))
    yield page, said
    window.close()


def opened(tab, path):
  """Opens a file and waits for its charts."""
  page, said = tab
  page.goto(path.resolve().as_uri())
  page.wait_for_function(
    'document.querySelectorAll(".plot").length'
    ' === document.querySelectorAll(".js-plotly-plot").length'
  )
  return page, said


@browser
def test_every_page_opens_without_an_error(built, tab):
  for path in sorted(built[1].rglob('*.html')):
    page, said = opened(tab, path)
    assert not said, path.name
    for width in (1200, 390):
      page.set_viewport_size({'width': width, 'height': 900})
      fits = f'document.documentElement.scrollWidth <= {width}'
      page.wait_for_function(fits)  # Charts are drawn anew.
  page.set_viewport_size({'width': 1200, 'height': 900})


@browser
@pytest.mark.parametrize('scheme, width', [('light', 390), ('dark', 1200)])
def test_everyone_can_read_every_page(built, tab, scheme, width):
  from axe_playwright_python.sync_playwright import Axe

  page, _ = tab
  page.emulate_media(color_scheme=scheme)
  page.set_viewport_size({'width': width, 'height': 900})
  for path in sorted(built[1].rglob('*.html')):
    opened(tab, path)
    # To preload is to ask for the style sheet, which a file may not.
    found = Axe().run(page, options={'preload': False})
    assert not found.response['violations'], found.generate_report()
  page.set_viewport_size({'width': 1200, 'height': 900})


@browser
def test_a_keyboard_is_enough(built, tab):
  (path,) = built[1].glob('runs/*sync-4-*-seed0.*.html')
  page, _ = opened(tab, path)
  focus = lambda what: page.evaluate(f'document.activeElement.{what}')
  page.keyboard.press('Tab')
  assert focus('className') == 'skip'
  page.keyboard.press('Enter')
  page.wait_for_function('location.hash === "#main"')
  reached = set()
  for _ in range(60):
    page.keyboard.press('Tab')
    reached.add(focus('name') or focus('id') or focus('tagName'))
    if focus('tagName') == 'SELECT' and focus('id') != 'add':
      page.keyboard.press('ArrowDown')
  assert {'x-log', 'y-log', 'add'} <= reached
  axis = 'document.querySelector(".plot").layout.xaxis.title.text'
  assert page.evaluate(axis) == 'target words'


@browser
def test_hovering_shows_the_number_of_the_record(built, tab):
  (path,) = built[1].glob('runs/*sync-4-*-seed0.*.html')
  page, _ = opened(tab, path)
  plot = page.locator('.plot').first
  mark = plot.locator('.points path').last
  mark.scroll_into_view_if_needed()
  box = mark.bounding_box()
  page.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
  hover = plot.locator('.hovertext')
  hover.wait_for()
  last = invented.RECORD['curve'][-1]
  assert f'{last["bleu"]:g}' in hover.text_content().replace(',', '')


@browser
def test_axes_can_be_chosen(built, tab):
  (path,) = built[1].glob('runs/*sync-4-*-seed0.*.html')
  page, said = opened(tab, path)
  shown = lambda what: page.evaluate(f'document.querySelector(".plot").{what}')
  curve = invented.RECORD['curve']
  for name in ('virtual_seconds', 'updates'):
    page.locator('.controls select').first.select_option(name)
    assert shown('data[0].x') == [point[name] for point in curve]
  page.locator('.controls input[name=y-log]').first.check()
  page.wait_for_function(
    'document.querySelector(".plot").layout.yaxis.type === "log"'
  )
  assert not said


@browser
def test_translations_of_runs_stand_side_by_side_as_text(built, tab):
  (path,) = built[1].glob('runs/*sync-4-*-seed0.*.html')
  page, _ = opened(tab, path)
  title = page.title()
  select = page.locator('#add')
  other = select.locator('option').last.get_attribute('value')
  select.select_option(other)
  cells = page.locator('#translations tbody tr').first.locator('td')
  assert cells.count() == 4
  assert SCRIPT in cells.nth(2).inner_text()
  assert page.title() == title
  assert page.locator('#translations b').count() == 0


@browser
def test_runs_are_found_by_their_names(built, tab):
  page, _ = opened(tab, built[1] / 'runs.html')
  visible = page.locator('#runs tbody tr:visible')
  assert visible.count() == 3
  page.fill('#filter', 'tiny ' + Path(site.__file__).stem)
  assert visible.count() == 0
  page.fill('#filter', 'tiny sync-4')
  assert 1 <= visible.count() <= 3
  visible.first.locator('a').click()
  assert 'Settings' in page.locator('main').inner_text()


@pytest.fixture(scope='module')
def served(tmp_path_factory):
  """Runs that were begun, and the address where they are shown."""
  folder = tmp_path_factory.mktemp('live')
  config = {'budget': {'epochs': 12}, 'words_per_epoch': 1000}
  for name in ('fails', 'begins', 'ends', 'other'):
    (folder / name).mkdir()
    run = {'scale': 'toy', 'run': name, 'config': config}
    if name != 'other':
      text = json.dumps({'run': run})
      (folder / name / 'run.json').write_text(text)
  with pytest.raises(OSError, match='cannot be read'):
    states.train(folder / 'fails', injected.Regression(fails_at=900))
  record_lib.write(folder / 'ends' / 'record.json', invented.RECORD)
  with live.server(folder, 0) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()
    thread.join()


def test_runs_that_are_being_made_are_told(served):
  folder, address = served
  with urllib.request.urlopen(address + 'state.json') as answer:
    found = {run['name']: run for run in json.load(answer)}
  assert {*found} == {'toy fails', 'toy begins', 'toy ends'}
  fails, ends = found['toy fails'], found['toy ends']
  assert 0.3 < fails['share'] < 1 and 'stopped: repeat' in fails['told']
  assert 'examples' == fails['chart']['axes']['x']
  assert fails['chart']['y_label'] == 'score'
  assert ends['share'] == 1 and 'staleness 2.50' in ends['told']
  scores = [point['bleu'] for point in invented.RECORD['curve']]
  assert ends['chart']['lines'][0]['y'] == scores
  assert 'nothing saved yet' in found['toy begins']['told']
  (folder / 'fails' / '.lock').write_text('{}')
  told = live.about(folder / 'fails')['told']
  assert re.search(r'training; [\d,]+ target words/s; .* \d+:\d\d left', told)
  os.utime(folder / 'fails' / '.lock', (0, time.time() - 600))
  assert 'stopped' in live.about(folder / 'fails')['told']


@pytest.mark.parametrize(
  'path, host, status',
  [
    ('', 'another.example:80', 403),
    ('state.json', 'another.example', 403),
    ('../setup.py', None, 404),
    ('run.json', None, 404),
  ],
)
def test_nothing_else_is_served(served, path, host, status):
  headers = {'Host': host} if host else {}
  request = urllib.request.Request(served[1] + path, headers=headers)
  with pytest.raises(urllib.error.HTTPError) as refused:
    urllib.request.urlopen(request)
  assert refused.value.code == status


@browser
def test_a_browser_shows_runs_that_are_being_made(served, tab):
  page, said = tab
  page.goto(served[1])
  page.locator('.js-plotly-plot').nth(1).wait_for()
  assert page.locator('section').count() == 3
  assert '3 runs' in page.locator('#updated').inner_text()
  assert not said
