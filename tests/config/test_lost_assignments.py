"""Variables that a file sets after its base has used them."""

import pytest

from vitdet_plugin.config import lost_assignments
from vitdet_plugin.config.loading import load_config

BASE = """
max_iters, warmup, unused = 100, 10, 1
train_cfg = dict(max_iters=max_iters)
param_scheduler = [dict(type='LinearLR', end=warmup)]
"""


@pytest.fixture
def warnings_of(tmp_path, monkeypatch, capsys):
    def load(text, base=BASE):
        monkeypatch.setattr(lost_assignments, '_warned', set())
        (tmp_path / 'base.py').write_text(base)
        (tmp_path / 'own.py').write_text(text)
        capsys.readouterr()
        load_config(tmp_path / 'own.py')
        return capsys.readouterr().err
    return load


@pytest.mark.parametrize('text', ['max_iters = 20', 'max_iters, warmup = 20, 10'])
def test_a_value_that_does_not_arrive(warnings_of, text):
    found = warnings_of(f"_base_ = 'base.py'\n{text}")
    assert found.count('\n') == 1 and 'sets max_iters = 20, but its base computed other keys' in found
    assert 'use --cfg-options max_iters=' in found


@pytest.mark.parametrize('text', [
    "_base_ = 'base.py'\nunused = 2", "_base_ = 'base.py'\nmax_iters = 100", "_base_ = 'base.py'\nother = 3",
    "_base_ = 'base.py'\nmax_iters = 20\ntrain_cfg = dict(max_iters=max_iters)", BASE])
def test_values_that_arrive_or_that_nothing_uses(warnings_of, text):
    assert warnings_of(text) == ''
