"""The commands as a user meets them: a run, a translation, help and errors."""

import ast
import dataclasses
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import sacrebleu

from experiments import grammar, options
from stale_adam.nmt import identity
from stale_adam.nmt.data.corpus import directory
from stale_adam.trace import Trace
from stale_adam.training import checkpoint
from stale_adam.training import record as results

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# What a command sets, and begins anew for.
SET_UP = {
  'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
  'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false',
}

# What `python -m` does, for many command lines. The libraries, which take far
# longer to come and go than a mistake takes to be found, are imported once.
DRIVER = """
import json, os, runpy, sys, traceback
import experiments.ledger.execute
outcomes = []
for module, *arguments in json.load(sys.stdin):
  names = [f'{sys.argv[1]}/{len(outcomes)}.{i}' for i in (1, 2)]
  child = os.fork()
  if not child:
    for i, name in enumerate(names, start=1):
      os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), i)
    sys.argv = ['', *arguments]
    code = 0
    try:
      runpy.run_module('experiments.' + module, None, '__main__', True)
    except SystemExit as end:
      code = end.code if isinstance(end.code, int | None) else print(
        end.code, file=sys.stderr) or 1
    except BaseException:
      code = traceback.print_exc() or 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
  code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  outcomes.append([code, *(open(name).read() for name in names)])
print(json.dumps(outcomes))
"""


def files(folder):
  """A corpus of the tiny grammar as text files."""
  text = grammar.corpus(train=500, validation=8, test=8)
  parts = {'train': text.train, 'val': text.validation}
  for stem, pairs in (parts | {'test_x': text.tests['test']}).items():
    for language, side in zip(('en', 'de'), pairs, strict=True):
      (folder / f'{stem}.{language}').write_text('\n'.join(side) + '\n')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('commands')


@pytest.fixture(scope='module')
def environment(folder):
  """Our environment, with caches of its own and the usual devices."""
  # The runs share most of their programs; compiling is most of their time. A
  # command checks all that is in the directory: the tests' own are not in it.
  store = os.environ.get('JAX_COMPILATION_CACHE_DIR', folder)
  wanted = {
    'XDG_CACHE_HOME': str(folder / 'cache'),
    'JAX_COMPILATION_CACHE_DIR': str(Path(store) / 'commands'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  }
  dropped = ('XLA_FLAGS', 'GLIBC_TUNABLES')
  kept = {k: v for k, v in os.environ.items() if k not in dropped}
  return kept | wanted | {'JAX_PLATFORMS': 'cpu'}


def command(environment, module, *arguments, **more):
  return subprocess.run(
    [sys.executable, '-m', f'experiments.{module}', *map(str, arguments)],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    timeout=1200,
    check=False,
    **more,
  )


@pytest.fixture(scope='module')
def run(folder, environment):
  """A run of a few updates: (what it printed, its directory)."""
  (folder / 'data').mkdir()
  files(folder / 'data')
  out = folder / 'new' / 'run'
  done = command(
    environment | SET_UP,
    'train',
    f'--data_dir={folder / "data"}',
    f'--out={out}',
    '--communication=synchronous',
    '--workers=2',
    '--epochs=0.3',
    '--seed=3',
  )
  assert done.returncode == 0, done.stderr.decode()
  return done.stdout.decode(), out


def test_a_run_leaves_a_valid_record(run):
  printed, out = run
  record = results.read(out / 'record.json')
  assert (record['experiment'], record['scale']) == ('train', 'tiny')
  assert record['run'] == (
    'transformer-en-de-sync-2-local1-global2-rate0.0045-seed3-epochs0.3'
  )
  text = directory(out.parents[1] / 'data', 'en-de')
  assert record['text'] == identity.of(text)
  assert record['config']['communication']['workers'] == 2
  assert record['config']['communication']['synchronous'] is True
  assert record['config']['seed'] == record['provenance']['seed'] == 3
  words = record['provenance']['command']
  assert words.startswith('-m experiments.train ') and '--epochs=0.3' in words
  last = record['curve'][-1]
  assert last['updates'] >= 1 and last['epochs'] >= 0.3
  assert record['best_bleu'] == max(p['bleu'] for p in record['curve'])
  assert record['staleness_histogram'] == {'0': last['pushes']}
  assert f'test_x BLEU {record["test_bleu"]["test_x"]:.2f}' in printed
  assert record['sacrebleu_signature'] in printed
  # The whole test: ten sentences would be shown, it has eight.
  names = ('source', 'reference', 'translation')
  shown = [[line[name] for line in record['examples']] for name in names]
  read = lambda side: (out.parents[1] / f'data/test_x.{side}').read_text()
  assert shown[:2] == [read('en').splitlines(), read('de').splitlines()]
  score = sacrebleu.corpus_bleu(shown[2], shown[1:2]).score
  assert score == pytest.approx(record['test_bleu']['test_x'])
  assert str(out) in printed


def test_a_run_leaves_its_parameters_and_events(run):
  _, out = run
  params, metadata = checkpoint.load(out / 'params.npz')
  assert params and metadata['model'] == 'transformer'
  assert list(out.glob('events.out.tfevents.*'))
  assert (out / 'vocabulary.model').stat().st_size > 0
  assert not list(out.glob('*.partial'))


@pytest.fixture(scope='module')
def train(run, folder, environment):
  """Runs the training command into a directory of its own, which it returns."""

  def into(name, *arguments):
    out = folder / name
    done = command(environment | SET_UP, 'train', f'--out={out}', *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return out

  return into


@pytest.fixture(scope='module')
def threaded(train, folder):
  """The directory of a measured run on two host threads."""
  return train(
    'threaded',
    f'--data_dir={folder / "data"}',
    '--communication=asynchronous',
    '--workers=2',
    '--pool=threads',
    '--measure',
    '--epochs=0.15',
    '--exponential_smoothing=0',  # As before there was such a flag.
  )


@pytest.fixture(scope='module')
def replayed(train, threaded, folder):
  """Of a trace as an earlier version left it, which had fewer settings."""
  trace = Trace.load(threaded / 'trace.npz')
  problem = dict(trace.settings['problem'])
  flag = dict(trace.settings['flags'])
  del problem['exponential_smoothing'], flag['exponential_smoothing']
  known = trace.settings | {'problem': problem, 'flags': flag}
  earlier = dataclasses.replace(trace, settings=known)
  earlier.save(folder / 'earlier.npz')
  return train('replayed', f'--replay={folder / "earlier.npz"}')


@pytest.fixture(scope='module')
def counterfactual(train, threaded):
  return train(
    'counterfactual',
    f'--replay={threaded / "trace.npz"}',
    '--counterfactual',
    '--learning_rate=0.001',
  )


def outcome(out):
  """(record, trace, arrays of the best parameters) of a run."""
  record = results.read(out / 'record.json')
  trace = Trace.load(out / 'trace.npz')
  assert record['trace_sha256'] == trace.digest()
  params, _ = checkpoint.load(out / 'params.npz')
  return record, trace, jax.tree.leaves(params)


def test_threads_leave_their_times(threaded):
  record, trace, _ = outcome(threaded)
  assert record['provenance']['pool'] == 'threads'
  assert record['provenance']['device'].startswith('2 x ')
  assert record['busy_share'].keys() == {'workers', 'server'}
  assert all(0 < share <= 1 for share in record['busy_share'].values())
  assert len(trace) == record['curve'][-1]['pushes'] > 2
  assert set(trace.worker.tolist()) == {0, 1}
  assert np.all(np.diff(trace.seconds) >= 0)


def test_measures_are_in_the_trace_and_the_events(threaded):
  _, trace, _ = outcome(threaded)
  (events,) = threaded.glob('events.out.tfevents.*')
  written = events.read_bytes()
  layers = [name for name in trace.columns if name.startswith('noise/')]
  assert len(layers) > 2
  for name in ('distance', 'cosine', *layers):
    # Of the first push there is nothing to compare with yet.
    assert np.all(np.isfinite(trace.columns[name][1:])), name
    assert name.encode() in written
  assert np.all(trace.columns['distance'][trace.columns['staleness'] > 0] > 0)
  assert np.all(np.abs(trace.columns['cosine'][1:]) <= 1 + 1e-6)


def test_a_replay_is_the_run_bit_for_bit(threaded, replayed):
  record, trace, params = outcome(threaded)
  again, order, same = outcome(replayed)
  assert again['trace_sha256'] == record['trace_sha256']
  assert again['config'] == record['config']
  assert again['mean_staleness'] == record['mean_staleness']
  assert again['busy_share'] is None
  np.testing.assert_array_equal(order.columns['loss'], trace.columns['loss'])
  assert len(params) == len(same) > 0
  assert all(map(np.array_equal, params, same))


def test_a_counterfactual_run_differs_in_parameters_alone(
  threaded, counterfactual
):
  record, _, params = outcome(threaded)
  other, _, changed = outcome(counterfactual)
  assert other['trace_sha256'] == record['trace_sha256']
  assert other['staleness_histogram'] == record['staleness_histogram']
  assert other['config']['learning_rate'] == 0.001
  assert not all(map(np.array_equal, params, changed))


def test_translates_line_by_line(run, environment):
  lines = b'The old man reads a book.\n\nThe \xff woman sleeps.\n'
  done = command(environment, 'translate', f'--model={run[1]}', input=lines)
  assert done.returncode == 0, done.stderr.decode()
  found = done.stdout.decode().split('\n')
  assert len(found) == 4 and found[3] == ''
  assert re.search('-:3: not UTF-8', done.stderr.decode())
  assert found[1] == ''  # An empty line stays empty.
  packed = run[1].parent / 'lines.gz'
  packed.write_bytes(gzip.compress(lines))
  asked = ('translate', f'--model={run[1]}', f'--input={packed}')
  assert command(environment, *asked).stdout == done.stdout


COMMANDS = sorted(
  path.stem
  for path in (ROOT / 'experiments').glob('*.py')
  if '__main__' in path.read_text()
)
COMMANDS += ['paper.table3', 'beyond.workers', 'benchmarks.gradient']
# A command line that cannot work, and what the last lines say of it.
MISTAKES = [
  ('train --workers=4 --global_accumulation=3', r'global_accumulation=3.* 4'),
  ('train --scale=small', '--scale=small .*--data_dir'),
  ('train --scale=paper', '--scale=paper .*--data_dir'),
  ('train --data_dir=/nonexistent', '/nonexistent'),
  ('train --scale=small --data_dir=/nonexistent', '/nonexistent'),
  ('train --scale=paper --data_dir=/nonexistent', '/nonexistent'),
  ('train --pair=xx-yy', "'xx-yy'.*'en-de'"),
  ('train --learning_rate=-1', '^--learning_rate=-1.*from 0 up'),
  ('train --epochs=0', '^--epochs=0.*above 0'),
  ('train --epochs=inf', '^--epochs=inf.*finite'),
  ('train --workers=0', '^--workers=0.*from 1 to 65536'),
  ('train --workers=300 --pool=threads', '^--workers=300.*at most 256'),
  ('train --seed=-1', '^--seed=-1.*from 0 to 4294967295'),
  ('train --seed=4294967296', '^--seed=4294967296.*from 0 to 4294967295'),
  ('train --warmup_updates=1e9', 'warmup_updates=1e9: use a whole number'),
  ('train --sizes=heads=3', '^--sizes: size=64 .*heads=3'),
  ('train --vocabulary=99999', '^--vocabulary=99999.*use at most that many'),
  ('train --source=2', '^training text: .*source=2.*use longer rows'),
  ('demo --seed=-1', '^--seed=-1'),
  ('demo --learning_rate=nan', '^--learning_rate=nan'),
  ('paper.table3 --minutes=nan', '^--minutes=nan.*finite'),
  ('train --sizes=width=3', 'sizes=width=3.*size, hidden'),
  ('train --scale=huge', 'huge.*tiny'),
  ('train --no_such_flag=1', 'no_such_flag'),
  ('train --data_dir={folder}/data --out={folder}/file', '{folder}/file'),
  ('train --data_dir={folder}/data --out={run}', 'finished run.*--overwrite'),
  ('train --out=/proc/none', '/proc/none cannot be written to'),
  ('train --out=/dev/null/x', '/dev/null/x cannot be written to.*is a file'),
  ('demo --out=/proc/none', '/proc/none cannot be written to'),
  ('paper.table3 --scale=micro --results=/proc/none', '/proc/none cannot be'),
  ('train --save_seconds=-1', 'save_seconds.*-1.*0 or more'),
  ('train --save_seconds=nan', 'save_seconds.*nan.*0 or more'),
  ('paper.table3 --save_seconds=inf', 'save_seconds.*inf.*0 or more'),
  ('train --counterfactual', 'counterfactual.*--replay'),
  ('train --replay=/nonexistent', '/nonexistent'),
  ('train --replay={folder}/cut.npz', 'cut.npz is damaged'),
  (
    'train --replay={folder}/other.npz --data_dir={folder}/data',
    'recorded under other settings',
  ),
  (
    'train --replay={threaded}/trace.npz --learning_rate=0.001 '
    '--out={folder}/refused',
    'learning_rate: 0.0045 in the trace, 0.001 here.*counterfactual',
  ),
  (
    'train --replay={threaded}/trace.npz --workers=3 --seed=1 '
    '--out={folder}/refused',
    'policy.workers: 2 in the trace, 3 here.*seed: 0 in the trace, 1 here',
  ),
  (
    'train --replay={threaded}/trace.npz --counterfactual --workers=1 '
    '--out={folder}/refused',
    'worker 1, who has no work',
  ),
  (
    'train --replay={threaded}/trace.npz --out={threaded}',
    'holds the trace to replay',
  ),
  (  # The recorded rate may be named: what is wrong here is the directory.
    'train --replay={threaded}/trace.npz --learning_rate=0.0045 '
    '--out={folder}/file',
    '{folder}/file',
  ),
  (
    'train --replay={threaded}/trace.npz --data_dir={folder}/shuffled '
    '--out={folder}/refused',
    'problem.text.sha256: .* in the trace, .* here',
  ),
  (  # The third push of this trace has another loss.
    'train --replay={folder}/changed.npz --out={folder}/changed',
    r'not equal to .*changed.npz: push 3 of \d+ differs: loss 99.0 recorded',
  ),
  ('paper.table3 --scale=small', '--scale=small .*--data_dir'),
  ('paper.reproduce --scale=paper --data_dir=/nonexistent', '/nonexistent'),
  ('paper.figure2 --scale=huge', 'huge.*micro.tiny.small.paper'),
  ('paper.table1 --plot_only --results={folder}/file', '{folder}/file'),
  ('timeline', 'trace.*must'),
  ('timeline --trace=/nonexistent', '/nonexistent'),
  ('timeline --trace={folder}/cut.npz', 'cut.npz is damaged'),
  ('timeline --trace={replayed}/trace.npz', 'no columns.*replay'),
  (
    'timeline --trace={threaded}/trace.npz --out={folder}/file/x',
    '{folder}/file',
  ),
  ('translate', 'model.*must'),
  ('translate --model=/nonexistent', '/nonexistent'),
  ('translate --model={folder}/damaged', 'params.npz is damaged'),
  ('translate --model={folder}/foreign', 'foreign'),
  ('translate --model={folder}/swapped', 'is not the vocabulary of params'),
  ('translate --model={run} --input=/nonexistent', '/nonexistent'),
  (
    'translate --model={folder}/begun --input=/nonexistent',
    'begun: this run has not finished.* best parameters so far',
  ),
  ('translate --model={run} --output=/nonexistent/x', '/nonexistent/x'),
  ('translate --model={run} --input={folder}/text.gz', 'text.gz.*damaged gzip'),
  ('page --results=/nonexistent', '/nonexistent.*no records'),
  ('translate --model={run} --beam=0', '^--beam=0.*from 1 to 1000'),
]

TIMELINE = 'timeline --trace={threaded}/trace.npz'


@pytest.fixture(scope='module')
def filled(run, threaded, replayed, folder):
  """The place of the run, and beside it some that are none."""
  (folder / 'file').write_text('A file, no directory.')
  (folder / 'text.gz').write_text('This is not compressed.')
  for name in ('damaged', 'foreign'):
    (folder / name).mkdir()
    vocabulary = (run[1] / 'vocabulary.model').read_bytes()
    (folder / name / 'vocabulary.model').write_bytes(vocabulary)
  data = (run[1] / 'params.npz').read_bytes()
  (folder / 'damaged' / 'params.npz').write_bytes(data[: len(data) // 2])
  checkpoint.save(folder / 'foreign' / 'params.npz', {}, {'of': 'others'})
  (folder / 'begun').mkdir()
  for name in ('params.npz', 'vocabulary.model'):
    shutil.copy(run[1] / name, folder / 'begun')
  swapped = folder / 'swapped'
  swapped.mkdir()
  (swapped / 'params.npz').write_bytes((run[1] / 'params.npz').read_bytes())
  vocabulary = (run[1] / 'vocabulary.model').read_bytes()
  (swapped / 'vocabulary.model').write_bytes(vocabulary[:-1] + b'x')
  shutil.copytree(folder / 'data', folder / 'shuffled')
  for path in (folder / 'shuffled').glob('train.*'):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(''.join(lines[::-1]))
  trace = Trace.load(threaded / 'trace.npz')
  loss = trace.columns['loss'].copy()
  loss[2] = 99
  changed = dataclasses.replace(trace, columns=trace.columns | {'loss': loss})
  changed.save(folder / 'changed.npz')
  data = (threaded / 'trace.npz').read_bytes()
  (folder / 'cut.npz').write_bytes(data[: len(data) // 2])
  later = {'flags': {'no_such_flag': 1}}  # As a later version may have it.
  Trace([0, 1], [1.0, 2.0], settings=later).save(folder / 'other.npz')
  places = {'threaded': threaded, 'replayed': replayed}
  return places | {'folder': folder, 'run': run[1]}


@pytest.fixture(scope='module')
def outcomes(filled, environment, tmp_path_factory):
  """(exit status, stdout, stderr) by command line."""
  lines = [f'{name} --help' for name in COMMANDS]
  lines += ['train --helpfull', 'train --helpshort']
  lines += [line for line, _ in MISTAKES] + [TIMELINE]
  done = subprocess.run(
    [sys.executable, '-c', DRIVER, str(tmp_path_factory.mktemp('printed'))],
    input=json.dumps([line.format(**filled).split() for line in lines]),
    cwd=ROOT,
    env=environment | SET_UP,
    capture_output=True,
    text=True,
    timeout=1200,
    check=True,
  )
  return dict(zip(lines, json.loads(done.stdout), strict=True))


def test_a_refused_replay_leaves_nothing(outcomes, filled):
  assert not (filled['folder'] / 'refused').exists()
  names = {'params.npz', 'record.json', 'trace.npz', 'vocabulary.model'}
  assert names <= {path.name for path in filled['threaded'].iterdir()}


def test_timeline_writes_a_picture_beside_the_trace(outcomes, filled):
  code, printed, errors = outcomes[TIMELINE]
  assert code == 0, errors
  _, trace, _ = outcome(filled['threaded'])
  path = filled['threaded'] / 'timeline.json'
  events = json.loads(path.read_text('utf-8'))['traceEvents']
  names = {event['args'].get('name') for event in events if 'args' in event}
  assert {'server', 'worker 0', 'worker 1'} <= names
  computed = [e for e in events if (e['ph'], e['name']) == ('X', 'compute')]
  assert len(computed) == len(trace)
  assert f'{len(trace)} pushes' in printed and str(path) in printed
  assert re.search(r'busy: workers [\d.]+%, the server [\d.]+%', printed)


@pytest.mark.parametrize('flag', ['--helpfull', '--helpshort'])
def test_help_is_no_error(flag, outcomes):
  code, printed, errors = outcomes[f'train {flag}']
  assert (code, errors) == (0, '') and '--learning_rate' in printed


def source_of(name):
  """The file of a command."""
  return ROOT / 'experiments' / f'{name.replace(".", "/")}.py'


def flags_of(name):
  """The names of the flags that a command defines, from its source."""
  tree = ast.parse(source_of(name).read_text())
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
      name, of = node.func.attr, getattr(node.func.value, 'id', None)
      if name.startswith('DEFINE_'):
        found.add(node.args[0].value)
      elif (of, name) == ('options', 'settings'):
        found |= {option.name for option in options.options()}
      elif (of, name) == ('options', 'number'):
        found.add(node.args[0].value)
      elif of == 'options' and name not in ('chosen', 'named'):
        found.add(name)
  return found


@pytest.mark.parametrize('name', COMMANDS)
def test_help_explains_every_flag(name, outcomes):
  code, printed, errors = outcomes[f'{name} --help']
  assert code == 0 and errors == ''
  source = source_of(name).read_text()
  assert ast.get_docstring(ast.parse(source)).split('\n')[0] in printed
  texts = dict(re.findall(r'^ +--(?:\[no\])?(\w+): (.+)$', printed, re.M))
  # Behind the values that an enumeration allows.
  texts = {k: re.sub(r'^<.*?>: ', '', v) for k, v in texts.items()}
  shared = set() if name in COMMANDS[:-3] else flags_of('command')
  shared = set() if name.startswith('benchmarks') else shared
  assert flags_of(name) | shared <= texts.keys()
  assert all(re.search(r'\w', text) for text in texts.values())


def test_the_parser_of_help_finds_flags():
  assert {'scale', 'workers', 'pool', 'seed'} <= flags_of('train')
  assert {'data_dir', 'only', 'minutes'} <= flags_of('command')
  assert {'train', 'translate', 'demo'} <= set(COMMANDS)


@pytest.mark.parametrize('line, expected', MISTAKES)
def test_a_mistake_gets_one_clear_line(line, expected, outcomes, filled):
  code, _, errors = outcomes[line]
  assert code == 1
  assert 'Traceback' not in errors, errors
  last = [text for text in errors.split('\n') if text.strip()][-2:]
  wanted = expected.replace('{folder}', str(filled['folder']))
  assert any(re.search(wanted, text) for text in last), last
