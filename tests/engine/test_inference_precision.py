"""The type to predict in: what the device computes fast, what is said about it, and the commands that take it."""

import pytest
import torch
from torch import nn

from vitdet_plugin.cli import arguments, process, test
from vitdet_plugin.engine import inference_precision
from vitdet_plugin.engine.inference_precision import asked_dtype, inference_dtype, name_of, predict_in
from vitdet_plugin.errors import UserError


@pytest.mark.parametrize('asked, device, cpu, gpu, expected, says', [
    ('fp32', 'cpu', True, False, 'fp32', ''), ('fp32', 'cuda', True, True, 'fp32', ''),
    ('auto', 'cpu', True, False, 'bf16', ''), ('bf16', 'cpu', True, False, 'bf16', ''),
    ('fp16', 'cpu', True, False, 'bf16', 'float16 is very slow on a CPU: predicting in bfloat16'),
    ('auto', 'cpu', False, False, 'fp32', 'no bfloat16 instructions, which would be slower than float32'),
    ('fp16', 'cpu', False, False, 'fp32', 'predicting in float32'),
    ('auto', 'cuda', False, True, 'bf16', ''), ('auto', 'cuda', True, False, 'fp16', ''),
    ('bf16', 'cuda', True, False, 'fp16', 'this GPU has no bfloat16 instructions: predicting in float16'),
    ('fp16', 'cuda', True, True, 'fp16', ''), ('auto', 'mps', True, False, 'bf16', '')])
def test_the_type_follows_the_device(monkeypatch, capsys, asked, device, cpu, gpu, expected, says):
    monkeypatch.setattr(inference_precision, 'has_fast_bf16', lambda: cpu)
    monkeypatch.setattr(inference_precision, 'has_gpu_bf16', lambda: gpu)
    assert name_of(inference_dtype(asked, device, f'--dtype {asked}')) == expected
    errors = capsys.readouterr().err
    assert says in errors and errors.count('\n') == bool(says) and f'{asked} {asked}' not in errors


def test_two_options_for_one_type():
    assert asked_dtype(None, None) == asked_dtype(None, False) == ('fp32', '--half')
    assert asked_dtype(None, True) == ('auto', '--half') and asked_dtype(None, 'bf16') == ('bf16', '--half')
    assert asked_dtype('fp32', None) == ('fp32', '--dtype fp32') and asked_dtype('bf16', 'bf16')[0] == 'bf16'
    for dtype, half, says in (('fp8', None, '--dtype fp8: choose from auto, fp16, bf16, fp32'),
                              (None, 'fp32', '--half fp32: choose from auto, fp16, bf16'),
                              ('fp32', 'auto', '--dtype fp32 and --half auto contradict each other')):
        with pytest.raises(UserError, match=says):
            asked_dtype(dtype, half)


class Model(nn.Linear):
    def test_step(self, data):
        return self(data)


def test_a_loop_predicts_in_the_type():
    model, data = Model(3, 2), torch.randn(4, 3)
    predict_in(model, None, 'cpu')
    assert model.test_step(data).dtype == torch.float32
    predict_in(model, torch.bfloat16, 'cpu')
    with torch.autocast('cpu', enabled=False):  # as mmengine's loop
        assert model.test_step(data).dtype == torch.bfloat16
    assert model(data).dtype == torch.float32


@pytest.mark.parametrize('words, expected', [
    (['c', 'w'], (None, None)), (['c', 'w', '--half'], ('auto', None)), (['--half', 'c', 'w'], ('auto', None)),
    (['c', 'w', '--half', 'fp16'], ('fp16', None)), (['c', 'w', '--dtype', 'bf16'], (None, 'bf16'))])
def test_options_of_the_test_command(words, expected, monkeypatch):
    args = arguments.parse(test.build_parser(), words, arguments.PREDICTION_VALUES)
    assert (args.config, args.checkpoint) == ('c', 'w') and (args.half, args.dtype) == expected
    given = {}
    monkeypatch.setattr('vitdet_plugin.api.test', lambda *args, **options: given.update(options))
    test.test_command(args)
    assert (given['half'], given['dtype']) == expected


def test_the_command_prints_what_is_used(capsys):
    process.print_precision('bf16', None, 'auto')
    process.print_precision('fp32', None, None)
    assert capsys.readouterr().err == 'predicting in bf16: the device has instructions for bfloat16\n'
