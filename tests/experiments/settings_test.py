"""One declaration of a run: its flags, its name, and what a record keeps."""

import dataclasses
import itertools
import json
import re
import typing

import absl.flags
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
from invented import ALL

from experiments import options
from experiments.ledger import methods, runs, scales, settings
from experiments.paper import printed as paper
from stale_adam import pools, serve, transforms
from stale_adam.nmt.data.batches import Shape
from stale_adam.policy import Communication
from stale_adam.training.task import Budget

BASE = scales.settings('tiny', 'transformer')
OPTIONS = list(options.options())
# Another value for each option, as a flag has it, and what it comes to.
OTHER = {
  'model': ('rnn', 'rnn'),
  'pair': ('de-en', 'de-en'),
  'sizes': (['dropout=0.25'], 0.25),
  'words_per_second': (['2', '3', '1'], (2.0, 3.0, 1.0)),
  'communication': ('asynchronous', False),
  'optimizer': ('lion', 'lion'),
  'smoothing': (0.25, 0.25),
  'exponential_smoothing': (0.125, 0.125),
  'start_on_zero': (True, True),
  'cluster': ('gamma1', 'gamma1'),
  'method': ('fadas', 'fadas'),
  'global_accumulation': (4, 1),  # Means the same while synchronous.
}
OTHER |= {option.name: (7, 7) for option in OPTIONS if option.name not in OTHER}


def test_every_value_has_one_option_with_help():
  names = {option.part or option.field for option in OPTIONS}
  assert len({option.name for option in OPTIONS}) == len(OPTIONS)
  own = settings.leaves(BASE).keys() - BASE.sizes.keys()
  assert names == own | {'sizes'}
  assert all(option.help.endswith('.') for option in OPTIONS)


def test_help_has_the_default_of_every_scale():
  order = ' / '.join(scales.SCALES)
  flags = absl.flags.FlagValues()
  options.settings(flags)
  by_scale = 0
  for option in (o for o in OPTIONS if o.kind in (int, float)):
    text = flags[option.name].help
    usual, rnn = re.search(
      r'Default(?:, [a-z/ ]+)?: (.+?)(?:; of an RNN (.+))?\.$', text
    ).groups()
    by_scale += f'Default, {order}: ' in text
    for model, text in (('transformer', usual), ('rnn', rnn or usual)):
      shown = text.split(' / ')
      made = [scale.models[model] for scale in scales.SCALES.values()]
      shown *= len(made) if len(shown) == 1 else 1
      found = [settings.leaves(m)[option.part or option.field] for m in made]
      assert list(map(float, shown)) == found, option.name
  assert by_scale > 5


@pytest.mark.parametrize('option', OPTIONS, ids=lambda option: option.name)
def test_an_option_changes_its_setting_alone(option):
  value, expected = OTHER[option.name]
  fields = options.changed(BASE, {option.name: value, 'none': None})
  changed = settings.leaves(dataclasses.replace(BASE, **fields))
  before = settings.leaves(BASE)
  name = {'sizes': 'dropout'}.get(option.name, option.part or option.field)
  assert changed[name] == expected
  differing = {key for key in before if before[key] != changed[key]}
  assert differing == ({name} if before[name] != expected else set())


@pytest.mark.parametrize('option', OPTIONS, ids=lambda option: option.name)
def test_a_name_tells_a_changed_setting(option):
  value, expected = OTHER[option.name]
  if option.name == 'global_accumulation':
    return
  fields = options.changed(BASE, {option.name: value})
  name = scales.name('tiny', dataclasses.replace(BASE, **fields))
  assert name != scales.name('tiny', BASE)
  if option.name not in ('model', 'pair', 'communication', 'optimizer'):
    assert f'{expected}'.strip('(').split(',')[0].removesuffix('.0') in name


def test_the_names_that_results_quote():
  run = runs.base('transformer', paper.GLOBAL)
  assert runs.name('tiny', run) == (
    'transformer-en-de-async-4-local1-global4-rate0.0045-seed0'
  )
  held = dataclasses.replace(BASE.communication, pull_every=7)
  made = dataclasses.replace(
    BASE,
    communication=held,
    budget=dataclasses.replace(BASE.budget, epochs=2.5),
    optimizer='lion',
  )
  assert scales.name('tiny', made) == (
    'transformer-en-de-sync-4-local1-global4-pull7-lion-rate0.0045-seed0'
    '-epochs2.5'
  )


@pytest.mark.parametrize(
  'values, message',
  [
    ({'seed': -1}, 'seed=-1: use a whole number from 0 to 4294967295'),
    ({'seed': 2**32}, 'seed=4294967296: use a whole number'),
    ({'seed': True}, 'seed=True: use a whole number'),
    ({'seed': '1'}, "seed='1': use a whole number"),
    ({'beam': 0}, 'beam=0: use a whole number from 1 to 1000'),
    ({'learning_rate': float('nan')}, 'learning_rate=nan: use a finite'),
    ({'learning_rate': float('inf')}, 'learning_rate=inf: use a finite'),
    ({'exponential_smoothing': 1.5}, '=1.5: use a .* from 0 up, at most 1'),
    ({'learning_rate': -1}, 'learning_rate=-1: use a finite number from 0 up'),
    ({'learning_rate': 10**400}, 'learning_rate=10+[.]+: use a finite'),
    ({'warmup_updates': 10**12}, '=1000000000000: use a whole .* 2147483647'),
    ({'shape': Shape(2**14, 2**14, 1)}, 'rows=16384: .* use at most 64 rows'),
    ({'sizes': {'dropout': 1.0}}, 'sizes=dropout=1.0: use a finite number'),
    ({'words_per_second': (1.0, 2.0, 3.0)}, 'words_per_second=1.0,2.0,3.0: '),
    ({'start_on_zero': 'no'}, "start_on_zero='no': use True or False"),
    ({'optimizer': 'sgd'}, "optimizer='sgd': use one of adam"),
  ],
)
def test_a_value_that_is_not_allowed(values, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(BASE, **values)


@pytest.mark.parametrize(
  'items, message',
  [
    (['width=3'], 'width=3: use name=number, of size, hidden'),
    (['depth=two'], "depth=two: 'two' is not a number"),
    (['depth=1.5'], 'sizes=depth=1.5: use a whole number'),
    (['depth=inf'], 'sizes=depth=inf: use a whole number'),
  ],
)
def test_a_size_that_cannot_be_read(items, message):
  with pytest.raises(ValueError, match=message):
    options.changed(BASE, {'sizes': items})


@pytest.mark.parametrize(
  'wanted',
  [
    *runs.COMMUNICATIONS.values(),
    Communication(8, 3, 5, pull_every=2),
    Communication(8, 2, 8, synchronous=True),
  ],
  ids=str,
)
def test_flags_can_ask_for_any_communication(wanted):
  word = 'synchronous' if wanted.synchronous else 'asynchronous'
  values = {**vars(wanted), 'communication': word}
  assert options.chosen('tiny', values).communication == wanted


def test_parts_are_checked_too():
  with pytest.raises(ValueError, match='epochs=0: use a finite number above 0'):
    options.changed(BASE, {'epochs': 0})


# What a later version may look like: new settings at their defaults.
Longer = dataclasses.make_dataclass(
  'Longer', [('minutes', float, 60.0)], bases=(Budget,), frozen=True
)
Later = dataclasses.make_dataclass(
  'Later',
  [
    ('clip', typing.Any, dataclasses.field(default=None, kw_only=True)),
    ('nested', Budget, dataclasses.field(default=Budget(), kw_only=True)),
  ],
  bases=(settings.Settings,),
  frozen=True,
)


def later(made, **changes):
  fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
  fields['budget'] = Longer(**vars(made.budget))
  return dataclasses.replace(Later(**fields), **changes)


def test_smoothed_parameters_are_a_setting():
  """Around everything else: they begin as the parameters, not one ahead."""
  params = {'x': jnp.ones(2)}
  made = dataclasses.replace(
    BASE, exponential_smoothing=0.125, start_on_zero=True
  )
  state = made.transformation().init(params)
  assert isinstance(state, transforms.SmoothState) and state.count == 0
  optimizer = made.transformation(learning_rate=0.5)
  updates, state = optimizer.update({'x': jnp.ones(2)}, state, params)
  raw = params['x'] + updates['x']
  wanted = 1 + 0.9 * (raw - 1)  # The first update has the rate 9 / 10.
  assert transforms.smoothed_params(state)['x'] == pytest.approx(wanted)
  plain = dataclasses.replace(made, exponential_smoothing=0.0)
  with pytest.raises(ValueError, match='found 0 states'):
    transforms.smoothed_params(plain.transformation().init(params))


@pytest.mark.parametrize('clip, factor', [(0.0, 1.0), (9.0, 1.0), (2.6, 0.2)])
def test_the_norm_of_the_whole_gradient_is_clipped(clip, factor):
  """(3, 4) and 12 have the norm 13; SGD shows it, which Adam would hide."""
  made = dataclasses.replace(
    BASE, optimizer='momentum', clip_norm=clip, warmup_updates=0, decay_after=99
  )
  made = dataclasses.replace(made, start_on_zero=True)
  gradient = {'a': jnp.array([3.0, 4.0]), 'b': jnp.array(12.0)}
  if clip == 9.0:  # It is short enough.
    gradient = {'a': gradient['a'], 'b': jnp.array(0.0)}
  optimizer = made.transformation(learning_rate=0.5)
  updates, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
  for name, of in gradient.items():
    assert updates[name] == pytest.approx(-0.5 * factor * of)


def test_a_setting_that_is_added_later_voids_no_record():
  for run in dict.fromkeys(ALL):
    if run.pair in scales.SCALES['tiny'].pairs:
      made = runs.at('tiny', run)
      config = json.loads(json.dumps(made.config()))
      assert settings.agrees(config, made)
      assert settings.agrees(config, later(made))


def test_a_config_of_an_earlier_version_is_completed():
  config = dataclasses.replace(BASE, exponential_smoothing=0.0).config()
  earlier = {k: v for k, v in config.items() if k != 'exponential_smoothing'}
  assert settings.completed(earlier, config) == config
  assert settings.completed(earlier, ['beam']) == earlier
  other = config | {'exponential_smoothing': 0.5}
  assert settings.completed(other, config) == other
  assert settings.completed([1], config) == [1]  # Damaged; refused elsewhere.


def test_a_setting_that_differs_from_its_default_tells_runs_apart():
  config = BASE.config()
  assert not settings.agrees(config, later(BASE, clip=1.0))
  assert not settings.agrees(config, later(BASE, nested=Budget(3)))
  minutes = Longer(**vars(BASE.budget) | {'minutes': 5.0})
  assert not settings.agrees(config, later(BASE, budget=minutes))
  # And the other way round: a record of a later version.
  assert not settings.agrees(later(BASE, clip=1.0).config(), BASE)


@pytest.mark.parametrize('option', OPTIONS, ids=lambda option: option.name)
def test_a_record_of_another_value_does_not_agree(option):
  value, expected = OTHER[option.name]
  made = dataclasses.replace(
    BASE, **options.changed(BASE, {option.name: value})
  )
  # The text's digest tells languages apart.
  same = option.name == 'pair' or made == BASE
  assert settings.agrees(BASE.config(), made) is same


def test_large_updates_warm_up_over_the_same_words():
  for run in (r for r in ALL if r.pair in scales.SCALES['tiny'].pairs):
    made = runs.at('tiny', run)
    usual = scales.SCALES['paper'].models[run.model]
    if run.warmup_updates != usual.warmup_updates:
      continue
    batches = methods.batches_per_update(run.method, run.communication)
    plain = scales.settings('tiny', run.model)
    spanned = made.warmup_updates * max(4, batches)
    # Except for the part of an update that 4 x 1600 batches may leave.
    rest = 4 * plain.warmup_updates - spanned
    assert 0 <= rest < max(4, batches)


def test_a_longer_warm_up_delays_the_decay():
  made = scales.settings('tiny', 'transformer', warmup_updates=5000)
  assert made.decay_after == made.warmup_updates == 5000


@pytest.mark.slow
@pytest.mark.parametrize('name', methods.NAMED)
def test_every_method_trains(name):
  """A few pushes of four workers, of a problem with a matrix and a vector."""
  made = scales.settings(
    'micro',
    'transformer',
    communication=Communication(4),
    method=name,
    exponential_smoothing=0.01,
    clip_norm=1.0,
  )
  with pools.Virtual() as pool:
    arrivals = serve(
      *(toys.PROBLEM, made.transformation(), made.policy, pool),
      **made.arguments(),
    )
    pushes, servers = zip(*itertools.islice(arrivals, 12), strict=True)
  assert servers[-1].version > 0
  assert all(np.isfinite(push.loss) for push in pushes)
  assert json.loads(json.dumps(made.config()))['method'] == name


def test_warm_up_follows_the_method_and_the_worker():
  """By hand: 1,600 updates of four batches; a worker of four makes as many."""
  of = lambda method, workers, local=1: scales.settings(
    'tiny',
    'transformer',
    communication=Communication(workers, local),
    method=method,
  )
  assert of('none', 16).warmup_updates == 1600
  assert of('OneRoundLate', 16).warmup_updates == 400
  assert of('BackupWorkers', 17).warmup_updates == 400
  assert of('softsync', 16).warmup_updates == 800
  seen = []
  spy = methods.Method(lambda run: seen.append(run) or {})
  for workers, local, pushes in ((4, 1, 1), (4, 4, 1), (4, 4, 4), (16, 1, 1)):
    numbers = Communication(workers, local, pushes)
    made = scales.settings('tiny', 'transformer', communication=numbers)
    run = methods.Run  # The schedules of a method that notes what it gets.
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(methods, 'NAMED', {**methods.NAMED, 'none': spy})
      made.transformation()
    assert isinstance(seen[-1], run)
    peak = 6400 // workers  # In updates of a worker.
    schedule = seen[-1].local_schedule
    assert schedule(peak - 1) == pytest.approx(0.0045)
    assert schedule(peak // 2 - 1) == pytest.approx(0.00225)


def test_a_worker_that_keeps_what_it_drops_has_the_rate_of_the_server(
  monkeypatch,
):
  """It updates on its own pushes: one of 4, or 16, updates of the server."""
  made = []
  adam = lambda schedule, **_: made.append(schedule) or optax.sgd(schedule)
  monkeypatch.setattr(methods, '_own_adam', adam)
  for numbers, each in (
    (Communication(4), 4),
    (Communication(16), 16),
    (Communication(4, 1, 4), 1),
  ):
    for ticks in (1, 4):
      settings = scales.settings(
        *('tiny', 'transformer'),
        communication=numbers,
        method='keep_dropped',
        ticks_per_update=ticks,
      )
      settings.transformation()
      # By hand: after 400 updates of the server, and one more.
      rate = 0.0045 * min(1, (400 * ticks + 1) / 1600)
      assert made[-1](400 // each) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(
  'method, numbers, optimizer, message',
  [
    ('OneRoundLate', Communication(4, 1, 4), 'adam', 'global_accumulation=4'),
    ('DropStale', Communication(4, pull_every=2), 'adam', 'pull_every=2'),
    ('apply_own_push', Communication(4, 2), 'adam', 'local_accumulation=2'),
    ('FreshPushes', Communication(4, 1, 1, True), 'adam', 'synchronous=True'),
    ('fadas', Communication(4), 'lion', "optimizer=lion: .*'fadas'"),
  ],
)
def test_what_a_method_does_not_use_is_refused(
  method, numbers, optimizer, message
):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(
      BASE, communication=numbers, method=method, optimizer=optimizer
    )


def test_a_method_and_a_start_on_zero_exclude_each_other():
  with pytest.raises(ValueError, match='method=fadas: .* one of the two'):
    dataclasses.replace(BASE, method='fadas', start_on_zero=True)
