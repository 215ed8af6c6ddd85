"""The comparison of cases: equal outputs pass, and different ones fail."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity.cases import write_case, write_folder
from tests.parity.goldens import Verdict, find_cases, run_case
from vitdet_plugin.errors import UserError

SHARED = Path(__file__).parents[3] / 'shared/goldens'
REFERENCE_CASES = [*sorted(SHARED.glob('vitdet_*')), *find_cases(SHARED.with_name('goldens_plain_vit')),
                   *find_cases(SHARED.with_name('goldens_training'))]


@pytest.mark.parametrize('path', REFERENCE_CASES, ids=lambda path: path.name)
def test_reference_outputs_of_the_official_implementations(path):
    verdict = run_case(path)
    assert verdict.passed, (verdict.worst, verdict.errors[verdict.worst])


def test_reference_cases_exist():
    if not SHARED.is_dir():
        pytest.skip(f'{SHARED} does not exist')
    assert REFERENCE_CASES
    if SHARED.with_name('goldens_training').is_dir():
        assert {path.name for path in REFERENCE_CASES} >= {'vitdet_d2_train_mask', 'vitdet_d2_train_cascade'}


@pytest.mark.parametrize('changes', [
    dict(), dict(dtype=torch.float64), dict(gradients=False), dict(use_rel_pos=False), dict(use_abs_pos=False),
    dict(qkv_bias=False), dict(residual_block_indexes=[]), dict(pretrain_use_cls_token=False)], ids=str)
def test_a_case_of_our_own_model_passes(tmp_path, changes):
    verdict = run_case(write_case(tmp_path / 'case', **changes))
    assert verdict.passed, (verdict.worst, verdict.errors[verdict.worst])
    assert any(key.startswith('gradnorm') for key in verdict.errors) == changes.get('gradients', True)


def alter(path, file, key, change):
    tensors = load_file(path / f'{file}.safetensors')
    tensors[key] = change(tensors[key])
    save_file({name: value.contiguous() for name, value in tensors.items()}, path / f'{file}.safetensors')


def bump(value):
    value = value.clone()
    value.view(-1)[-1] += 0.01 * (value.std().item() if value.numel() > 1 else value.item())
    return value


@pytest.mark.parametrize('key', ['out.p2', 'out.p6', 'grad.input0', 'grad.param.net.blocks.0.attn.rel_pos_h',
                                 'gradnorm.param.simfp_3.0.weight'])
@pytest.mark.parametrize('change', [bump, lambda value: value * float('nan'), lambda value: value[:0]],
                         ids=['one per cent', 'nan', 'shape'])
def test_a_corrupted_expected_value_fails(tmp_path, key, change):
    path = write_case(tmp_path / 'case')
    alter(path, 'expected', key, change)
    verdict = run_case(path)
    assert not verdict.passed and verdict.worst == key


def test_a_corrupted_weight_fails(tmp_path):
    path = write_case(tmp_path / 'case')
    alter(path, 'weights', 'net.blocks.1.attn.proj.weight', bump)
    assert not run_case(path).passed


def test_a_missing_or_additional_weight_is_an_error(tmp_path):
    path = write_case(tmp_path / 'case')
    weights = load_file(path / 'weights.safetensors')
    removed = weights.pop('net.blocks.1.norm1.weight')
    save_file(weights, path / 'weights.safetensors')
    with pytest.raises(UserError, match='lacks 1 weights of the model .backbone.blocks.1.norm1.weight'):
        run_case(path)
    save_file({**weights, 'net.blocks.1.norm1.weight': removed, 'net.norm.weight': removed.clone()},
              path / 'weights.safetensors')
    with pytest.raises(UserError, match='1 weights that the model lacks .backbone.norm.weight'):
        run_case(path)


@pytest.mark.parametrize('damage', ['no expected', 'no kind', 'no json', 'cut off'])
def test_a_broken_folder_is_an_error(tmp_path, damage):
    path = write_case(tmp_path / 'case')
    expected = path / 'expected.safetensors'
    if damage == 'no expected':
        expected.unlink()
    elif damage == 'cut off':
        expected.write_bytes(expected.read_bytes()[:1000])
    else:
        (path / 'case.json').write_text(json.dumps(dict(config={})) if damage == 'no kind' else '{')
    with pytest.raises(UserError, match='is not a complete case') as caught:
        run_case(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_an_unknown_kind_lists_the_supported_ones(tmp_path):
    path = write_folder(tmp_path / 'case', 'unknown_kind', {}, {}, {}, {})
    with pytest.raises(UserError, match="unknown kind 'unknown_kind'. Supported kinds: .*vitdet_d2"):
        run_case(path)


def test_find_cases_of_a_case_or_a_folder_of_cases(tmp_path):
    for name in ('b', 'a'):
        write_folder(tmp_path / name, 'x', {}, {}, {}, {})
    (tmp_path / 'notes').mkdir()
    assert [path.name for path in find_cases(tmp_path)] == ['a', 'b']
    assert list(find_cases(tmp_path / 'a')) == [tmp_path / 'a']
    assert not list(find_cases(tmp_path / 'nowhere'))


def test_errors_are_relative_to_the_standard_deviation():
    verdict = Verdict()
    expected = torch.tensor([0.0, 100.0, 200.0])
    verdict.compare('close', expected + 5e-3, expected)
    assert verdict.errors['close'] == pytest.approx(5e-5, rel=0.05) and verdict.passed
    verdict.compare('different', expected + 5e-2, expected)
    assert not verdict.passed and verdict.worst == 'different'


def test_an_empty_verdict_does_not_pass():
    assert not Verdict().passed
