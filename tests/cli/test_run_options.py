"""``vitdet train`` and ``vitdet test``: the command, the function and the class of options have the same options."""

import inspect
from dataclasses import fields

import pytest

from vitdet_plugin import api
from vitdet_plugin.cli import test as test_cli
from vitdet_plugin.cli import train as train_cli
from vitdet_plugin.engine.test import TestOptions
from vitdet_plugin.engine.train import TrainOptions


@pytest.mark.parametrize('name, options, command, words', [
    ('train', TrainOptions, train_cli, ['c.py']), ('test', TestOptions, test_cli, ['c.py', 'x.pth'])])
def test_options_and_defaults_agree(name, options, command, words):
    function = inspect.signature(getattr(api, name)).parameters
    given = {parameter: each.default for parameter, each in function.items() if each.kind is each.KEYWORD_ONLY}
    assert given == {field.name: field.default for field in fields(options)}
    line = command.build_parser().parse_args(words)
    for option, default in given.items():
        assert getattr(line, option) == (list(default) if option == 'cfg_options' else default), option
        assert f'    {option}' in getattr(api, name).__doc__ or option == 'dtype'


def test_the_command_passes_every_option(monkeypatch):
    given = {}
    monkeypatch.setattr('vitdet_plugin.api.train', lambda config, **options: given.update(options, config=config))
    line = 'c.py --work-dir w --seed 3 --no-validate --patience 2 --balance-classes --amp --eval bbox --resume'
    train_cli.train_command(train_cli.parse_args(line.split()))
    assert given.pop('config') == 'c.py' and set(given) == {field.name for field in fields(TrainOptions)}
    changed = dict(work_dir='w', seed=3, validate=False, patience=2, balance_classes=0.5, amp='auto', eval=['bbox'],
                   resume='auto')
    assert {name: given[name] for name in changed} == changed
