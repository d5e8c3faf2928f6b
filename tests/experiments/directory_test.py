"""What a run's directory holds decides: begin, resume, refuse or replace."""

import json

import pytest

from experiments.ledger import directory

RUN = {'text': 'abc', 'config': {'rate': 0.1, 'shape': (1, 48)}}
PROGRAM = {'commit': 'c0ffee', 'dirty': False, 'versions': {'jax': '1.0'}}
SHAPE = {'shape': [1, 48]}  # As JSON has it.
FOREIGN = ('notes.txt', 'model.npz', 'record.json.old')


def save(out, *names):
  for name in names:
    (out / name).write_bytes(b'content')


def names(out):
  return {path.name for path in out.iterdir()}


def test_an_empty_directory_is_begun(tmp_path):
  save(tmp_path, *FOREIGN)
  assert directory.begin(tmp_path, RUN, PROGRAM) is False
  assert names(tmp_path) == {*FOREIGN, 'run.json'}
  begun = json.loads((tmp_path / 'run.json').read_text('utf-8'))
  assert begun['run'] == {'text': 'abc', 'config': {'rate': 0.1} | SHAPE}


def test_a_finished_run_is_refused_and_left_as_it_is(tmp_path):
  directory.begin(tmp_path, RUN, PROGRAM)
  save(tmp_path, 'record.json', 'params.npz')
  before = {path: path.read_bytes() for path in tmp_path.iterdir()}
  for refuse in (
    lambda: directory.check_unfinished(tmp_path),
    lambda: directory.begin(tmp_path, RUN, PROGRAM),
  ):
    with pytest.raises(FileExistsError) as caught:
      refuse()
    for word in (str(tmp_path), 'finished run', '--out', '--overwrite'):
      assert word in str(caught.value)
  assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_overwrite_removes_the_run_and_nothing_else(tmp_path):
  directory.begin(tmp_path, RUN, PROGRAM)
  made = ('record.json', 'params.npz', 'trace.npz', 'resume-0.npz')
  save(tmp_path, *FOREIGN, *made, 'events.out.tfevents.1', '.a.partial')
  assert directory.begin(tmp_path, RUN, PROGRAM, overwrite=True) is False
  assert names(tmp_path) == {*FOREIGN, 'run.json'}


def test_an_unfinished_run_is_continued(tmp_path, capsys):
  directory.begin(tmp_path, RUN, PROGRAM)
  save(tmp_path, 'resume-1.npz', 'params.npz', '.resume-0.npz.1.partial')
  for overwrite in (False, True):  # The state is that of the same run.
    assert directory.begin(tmp_path, RUN, PROGRAM, overwrite) is True
    assert names(tmp_path) == {'run.json', 'resume-1.npz', 'params.npz'}
  printed = capsys.readouterr()
  assert 'continues the unfinished run' in printed.out and not printed.err


def test_an_unfinished_run_without_a_state_begins_anew(tmp_path, capsys):
  directory.begin(tmp_path, RUN, PROGRAM)
  save(tmp_path, *FOREIGN, 'params.npz')
  assert directory.begin(tmp_path, RUN, PROGRAM) is False
  assert names(tmp_path) == {*FOREIGN, 'run.json'}
  assert 'begins anew' in capsys.readouterr().out


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'text': 'xyz'}, 'text: "abc" there, "xyz" here'),
    ({'config': {'rate': 0.2} | SHAPE}, 'config.rate: 0.1 there, 0.2 here'),
    ({'config': {'rate': 0.1}}, 'config.shape: [1, 48] there, null here'),
    ({'pool': 'threads'}, 'pool: null there, "threads" here'),
  ],
)
def test_an_unfinished_run_of_something_else_is_refused(
  changes, said, tmp_path
):
  directory.begin(tmp_path, RUN, PROGRAM)
  save(tmp_path, 'resume-0.npz')
  with pytest.raises(FileExistsError) as caught:
    directory.begin(tmp_path, RUN | changes, PROGRAM)
  assert f'({said})' in str(caught.value)
  assert '--overwrite' in str(caught.value)
  assert names(tmp_path) == {'run.json', 'resume-0.npz'}
  assert directory.begin(tmp_path, RUN | changes, PROGRAM, True) is False
  assert names(tmp_path) == {'run.json'}


@pytest.mark.parametrize('text', [None, '', '{"run"', '[]', '{"run": {}}'])
def test_an_unfinished_run_of_unknown_settings_is_refused(text, tmp_path):
  save(tmp_path, 'params.npz')
  if text is not None:
    (tmp_path / 'run.json').write_text(text)
  with pytest.raises(FileExistsError, match='settings are unknown'):
    directory.begin(tmp_path, RUN, PROGRAM)
  assert 'params.npz' in names(tmp_path)


def test_another_program_is_warned_of(tmp_path, capsys):
  directory.begin(tmp_path, RUN, PROGRAM)
  save(tmp_path, 'resume-0.npz')
  later = {'commit': 'f00d', 'dirty': False, 'versions': {'jax': '1.1'}}
  assert directory.begin(tmp_path, RUN, later) is True
  (warning,) = capsys.readouterr().err.splitlines()
  assert 'commit: "c0ffee" there, "f00d" here' in warning
  assert 'versions.jax: "1.0" there, "1.1" here' in warning
  assert directory.begin(tmp_path, RUN, later, overwrite=True) is False
  assert names(tmp_path) == {'run.json'}
