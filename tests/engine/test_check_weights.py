from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.registry import MODELS
from torch import nn

from tests.utils.file_server import FileServer, use_own_caches
from vitdet_plugin.engine.check_weights import (
    build_without_memory,
    check_file,
    check_keys,
    compare_keys,
    group_names,
    weight_files,
)


@pytest.fixture
def module():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def save(folder, state_dict):
    path = folder / 'weights.pth'
    torch.save(dict(state_dict=state_dict), path)
    return str(path)


def test_fitting_weights_have_no_findings(module, tmp_path):
    assert check_keys('load_from', save(tmp_path, module.state_dict()), module, '', must_fit=True) == []
    parallel = {f'module.{name}': value for name, value in module.state_dict().items()}
    assert check_keys('load_from', save(tmp_path, parallel), module, '', must_fit=True) == []


def test_a_prefix_is_removed(module, tmp_path):
    inner = {f'backbone.{name}': value for name, value in module.state_dict().items()}
    file = save(tmp_path, {**inner, 'head.weight': torch.zeros(1)})
    assert check_keys('init_cfg', file, module, 'backbone', must_fit=True) == []


def test_missing_extra_and_reshaped_weights_are_reported_in_one_line(module, tmp_path):
    state = {'0.weight': torch.zeros(3, 2), '0.bias': torch.zeros(5), 'neck.a': torch.zeros(1)}
    file = save(tmp_path, state)
    (found,) = check_keys('load_from', file, module, '', must_fit=False)
    assert found.level == 'warning' and '\n' not in found.text
    for part in ('1 of 4 weights fit', 'missing in the file: 1.weight, 1.bias', 'not in the model: neck.a',
                 '0.bias (5,) for (3,)'):
        assert part in found.text
    assert check_keys('load_from', file, module, '', must_fit=True)[0].level == 'error'


def test_weights_that_are_not_finite_are_an_error(module, tmp_path):
    state = module.state_dict()
    name = next(iter(state))
    torch.save(dict(state_dict={**state, name: torch.full_like(state[name], float('nan'))}), tmp_path / 'a.pth')
    (finding,) = check_keys('load_from', str(tmp_path / 'a.pth'), module, '', must_fit=False)
    assert finding.level == 'error' and f'NaN or infinite (the first: {name})' in finding.text


@pytest.mark.parametrize('dtype', [torch.int8, torch.complex64])
def test_weights_of_other_types_are_an_error(module, tmp_path, dtype):
    torch.save({name: value.to(dtype) for name, value in module.state_dict().items()}, tmp_path / 'a.pth')
    (finding,) = check_keys('load_from', str(tmp_path / 'a.pth'), module, '', must_fit=False)
    assert finding.level == 'error'
    assert f"are stored as {str(dtype).removeprefix('torch.')} (the first: " in finding.text


def test_a_folder_without_checkpoints_is_an_error(tmp_path):
    (finding,) = check_file('load_from', str(tmp_path))
    assert 'is a folder without checkpoints' in finding.text


def test_weights_of_another_model_are_an_error(module, tmp_path):
    (found,) = check_keys('load_from', save(tmp_path, {'a.b': torch.zeros(1)}), module, '', must_fit=False)
    assert found.level == 'error' and '0 of 4' in found.text


def test_missing_and_empty_files(tmp_path):
    (tmp_path / 'epoch_12.pth').write_bytes(b'')
    assert 'has epoch_12.pth' in check_file('load_from', str(tmp_path / 'epoch_1.pth'))[0].text
    assert 'is empty' in check_file('load_from', str(tmp_path / 'epoch_12.pth'))[0].text
    assert 'checkpoints of ftp: are not read' in check_file('load_from', 'ftp://example.org/weights.pth')[0].text


def test_urls_are_downloaded_and_checked(module, tmp_path, monkeypatch):
    use_own_caches(monkeypatch, tmp_path)
    other = Path(save(tmp_path, {'a.b': torch.zeros(1)})).read_bytes()
    with FileServer({'other.pth': other, 'page.pth': b'<html>'}) as server:
        assert 'web page' in check_file('load_from', f'{server.url}/page.pth')[0].text
        assert check_file('load_from', f'{server.url}/other.pth') == []
    (found,) = check_keys('load_from', f'{server.url}/other.pth', module, '', must_fit=False)
    assert found.level == 'error' and '0 of 4' in found.text


def test_every_file_that_a_config_loads_is_found():
    model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='a.pth', prefix='backbone.')),
                 neck=dict(init_cfg=[dict(type='Xavier'), dict(type='OfficialCheckpoint', checkpoint='b.pkl')]))
    assert sorted(weight_files(dict(model=model, load_from='c.pth')), key=lambda entry: entry[1]) == [
        ('model.backbone.init_cfg.checkpoint', 'a.pth', 'backbone', 'backbone.', dict(prefix='backbone.')),
        ('model.neck.init_cfg.checkpoint', 'b.pkl', 'neck', None, {}),
        ('load_from', 'c.pth', '', '', {})]


def test_a_model_is_built_without_memory(tiny_config):
    from mmengine.registry import init_default_scope
    init_default_scope('mmdet')
    model = build_without_memory(tiny_config.model)
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.filterwarnings('error')
def test_a_model_that_loads_its_teacher_is_built_without_warnings(monkeypatch):
    class Student(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.load_state_dict(dict(weight=torch.ones(2, 2, device='cpu'), bias=torch.ones(2, device='cpu')))

    monkeypatch.setitem(MODELS.module_dict, 'Student', Student)
    assert build_without_memory(dict(type='Student')).weight.is_meta


def test_long_lists_are_grouped():
    names = [f'backbone.blocks.{i}.weight' for i in range(5)] + ['neck.bias']
    assert group_names(names) == 'backbone.* (5), neck.bias'
    assert group_names(names[:5]) == 'backbone.blocks.* (5)'
    assert group_names(['a', 'b', 'c', 'd', 'e']).endswith('and 1 more')


names = st.lists(st.from_regex(r'[ab](\.[cd]){0,2}', fullmatch=True), unique=True, max_size=8)


@given(names, names)
def test_counts_add_up(expected, found):
    expected, found = dict.fromkeys(expected, (1,)), dict.fromkeys(found, (1,))
    findings = compare_keys('file', expected, found, must_fit=False)
    assert (findings == []) == (expected == found)
    if findings:
        assert f'{len(expected.keys() & found.keys())} of {len(expected)}' in findings[0].text
