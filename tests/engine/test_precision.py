"""Mixed precision: one function decides on the dtype, wherever it is asked for."""

import pytest

from vitdet_plugin.compat import cpu_features
from vitdet_plugin.engine import precision
from vitdet_plugin.engine.precision import apply_precision, choose_dtype
from vitdet_plugin.errors import UserError


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets what this machine has."""
    def set_machine(gpu=False, fast=True, gpu_bf16=False):
        monkeypatch.setattr(precision, 'has_gpu_bf16', lambda: gpu_bf16)
        monkeypatch.setattr('torch.cuda.is_available', lambda: gpu)
        monkeypatch.setattr(precision, 'has_fast_bf16', lambda: fast)
    return set_machine


@pytest.mark.parametrize('asked, device, sharded, fast, dtype, says', [
    ('auto', 'cpu', False, True, 'bf16', ''), ('bf16', 'cpu', False, True, 'bf16', ''),
    ('fp16', 'cpu', False, True, 'bf16', 'float16 is very slow on a CPU: training in bfloat16'),
    ('auto', 'cpu', False, False, 'fp32', 'training in float32'), ('bf16', 'cpu', False, False, 'fp32', 'no bfloat16'),
    ('fp16', 'cpu', True, False, 'fp32', 'training in float32'),
    ('auto', 'cuda', False, False, 'fp16', ''), ('auto', 'cuda', True, False, 'bf16', ''),
    ('bf16', 'cuda', False, False, 'bf16', ''), ('fp16', 'cuda', True, False, 'fp16', ''),
    ('auto', 'mps', False, False, 'bf16', '')])
def test_the_dtype_follows_the_device(monkeypatch, asked, device, sharded, fast, dtype, says):
    monkeypatch.setattr(precision, 'has_fast_bf16', lambda: fast)
    chosen, reason = choose_dtype(asked, device, sharded)
    assert chosen == dtype and says in reason and bool(says) == bool(reason)


def test_auto_is_bf16_on_a_gpu_with_its_instructions(monkeypatch):
    for has, expected in ((True, 'bf16'), (False, 'fp16')):
        monkeypatch.setattr(precision, 'has_gpu_bf16', lambda has=has: has)
        assert choose_dtype('auto', 'cuda') == (expected, '') and choose_dtype('fp16', 'cuda') == ('fp16', '')


@pytest.mark.parametrize('amp, fast, expected', [('auto', True, 'bf16'), ('fp16', True, 'bf16'), ('bf16', False, None)])
def test_the_other_settings_of_the_wrapper_are_kept(tiny_config, machine, capsys, amp, fast, expected):
    machine(fast=fast)
    tiny_config.optim_wrapper.constructor = 'LayerWiseDecayConstructor'
    tiny_config.optim_wrapper.paramwise_cfg = dict(layer_decay_rate=0.7)
    before = tiny_config.optim_wrapper.to_dict()
    apply_precision(tiny_config, amp)
    changed = dict(type='AutocastOptimWrapper', dtype=expected) if expected else {}
    assert tiny_config.optim_wrapper.to_dict() == {**before, **changed}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (amp != 'auto') and all(line.startswith(f'warning: --amp {amp}: no GPU') for line in lines)


@pytest.mark.parametrize('settings', [
    dict(optim_wrapper=dict(type='AmpOptimWrapper', loss_scale='dynamic')),
    dict(optim_wrapper=dict(type='AmpOptimWrapper', dtype='float16', use_fsdp=True)),
    dict(optim_wrapper=dict(type='AutocastOptimWrapper', dtype='fp16')),
    dict(fp16=dict(loss_scale=512.)), dict(fp16=dict(loss_scale=dict(init_scale=8., mode='dynamic'))), dict(fp16=True)])
def test_float16_in_a_config_without_a_gpu(tiny_config, machine, settings, capsys):
    tiny_config.merge_from_dict(settings)
    machine(fast=True)
    apply_precision(tiny_config, None)
    assert 'fp16' not in tiny_config and 'use_fsdp' not in tiny_config.optim_wrapper
    assert (tiny_config.optim_wrapper.type, tiny_config.optim_wrapper.dtype) == ('AutocastOptimWrapper', 'bf16')
    assert len(capsys.readouterr().err.splitlines()) == 1
    machine(fast=False)
    apply_precision(tiny_config, None)
    assert tiny_config.optim_wrapper.type == 'OptimWrapper'
    assert not {'dtype', 'loss_scale'} & set(tiny_config.optim_wrapper)


def test_on_a_gpu_the_config_is_used_as_it_is(tiny_config, machine, capsys):
    machine(gpu=True)
    tiny_config.optim_wrapper.type = 'AmpOptimWrapper'
    before = tiny_config.optim_wrapper.to_dict()
    apply_precision(tiny_config, None)
    assert tiny_config.optim_wrapper.to_dict() == before
    tiny_config.fp16 = dict(loss_scale=dict(init_scale=8., mode='dynamic'))
    apply_precision(tiny_config, None)
    wrapper = tiny_config.optim_wrapper
    assert (wrapper.type, wrapper.dtype, wrapper.loss_scale) == ('AutocastOptimWrapper', 'fp16', dict(init_scale=8.))
    tiny_config.strategy = dict(type='BlockFSDPStrategy')
    apply_precision(tiny_config, 'auto')
    assert tiny_config.optim_wrapper.dtype == 'bf16'
    apply_precision(tiny_config, 'fp16')  # only mmengine's wrapper has a gradient scaler that synchronizes ranks
    assert (tiny_config.optim_wrapper.type, tiny_config.optim_wrapper.use_fsdp) == ('AmpOptimWrapper', True)
    assert capsys.readouterr().err == ''


def test_requests_that_cannot_be_met(tiny_config):
    apply_precision(tiny_config, None)
    assert tiny_config.optim_wrapper.type == 'OptimWrapper'
    with pytest.raises(UserError, match='--amp int8: choose from'):
        apply_precision(tiny_config, 'int8')
    tiny_config.optim_wrapper.type = 'ApexOptimWrapper'
    apply_precision(tiny_config, None)
    with pytest.raises(UserError, match='ApexOptimWrapper'):
        apply_precision(tiny_config, 'bf16')


@pytest.mark.parametrize('text, expected', [
    ('processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 clzero\n', True), ('flags\t: fpu avx2 avx512f\n', False),
    ('flags : amx_bf16 amx_tile', True), ('Features\t: fp asimd bf16 i8mm\n', True), ('Features\t: fp asimd\n', False)])
def test_instructions_of_the_processor(tmp_path, monkeypatch, text, expected):
    (tmp_path / 'cpuinfo').write_text(text)
    monkeypatch.setattr(cpu_features, '_CPUINFO', tmp_path / 'cpuinfo')
    assert cpu_features.has_fast_bf16.__wrapped__() is expected


@pytest.mark.parametrize('gpu, fast, expected', [(True, True, 'fp16'), (False, True, 'bf16'), (False, False, None)])
def test_auto_in_a_config_is_resolved_on_every_device(tiny_config, machine, monkeypatch, gpu, fast, expected):
    machine(gpu, fast)
    monkeypatch.setattr(precision, 'training_device', lambda: 'cuda' if gpu else 'cpu')
    tiny_config.optim_wrapper.update(type='AmpOptimWrapper', dtype='auto')
    apply_precision(tiny_config, None)
    assert tiny_config.optim_wrapper.get('dtype') == expected
    assert tiny_config.optim_wrapper.type == ('AutocastOptimWrapper' if expected else 'OptimWrapper')
