"""Every registered backbone used as a plain PyTorch module: inputs, dtypes, devices, copies, threads."""

import copy
import io
import pickle
import re
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.backbones.registered import BACKBONES, file_of, image, refusal, tiny
from tests.backbones.small_configs import small_cfg
from vitdet_plugin.backbones.base import InputError
from vitdet_plugin.errors import UserError

every_backbone = pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)
THREADS = 4


def assert_close(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert (a.double() - b.double()).abs().max() <= tolerance * b.abs().max()


WRONG = {
    'rank 3': (lambda x: x[0], 'tensor of shape (3, 64, 96)'),
    'rank 5': (lambda x: x[None], 'tensor of shape (1, 2, 3, 64, 96)'),
    'channels': (lambda x: x[:, :1], '1 channels (shape (2, 1, 64, 96))'),
    'empty batch': (lambda x: x[:0], 'empty batch of shape (0, 3, 64, 96)'),
    'no rows': (lambda x: x[:, :, :0], 'empty batch of shape (2, 3, 0, 96)'),
    'integers': (lambda x: x.byte(), 'torch.uint8'),
    'array': (lambda x: x.numpy(), 'ndarray'),
    'list': (lambda x: list(x), 'list'),
    'None': (lambda x: None, 'NoneType'),
}


@every_backbone
@pytest.mark.parametrize('kind', WRONG)
def test_a_wrong_input_is_one_line(cls, kind):
    model = tiny(cls)
    change, found = WRONG[kind]
    line = refusal(cls, lambda: model(change(torch.randn(2, 3, 64, 96))), 'start forward with x = self.check_images(x)')
    assert line.startswith(f'{cls.__name__} requires') and '(B, 3, H, W)' in line and found in line


def test_the_error_of_a_wrong_input_is_one_of_value_and_type():
    assert issubclass(InputError, ValueError) and issubclass(InputError, TypeError)


@every_backbone
def test_a_side_that_is_not_a_multiple_is_one_line_or_padded(cls):
    model = tiny(cls).eval()
    x = torch.randn(1, 3, 5, 37)
    if model.size_divisor == 1:
        try:
            with torch.no_grad():
                assert all(out.isfinite().all() for out in model(x))
        except RuntimeError as error:
            pytest.fail(f'{file_of(cls)}: images of 5 x 37 pixels: {error}. Set self.size_divisor, or pad them',
                        pytrace=False)
        return
    line = refusal(cls, lambda: model(x), 'start forward with x = self.check_images(x)')
    assert re.match(rf'{cls.__name__} requires .* H and W multiples of {model.size_divisor}; .*\(5, 37\) pixels .* '
                    'pad_size_divisor', line)


@every_backbone
def test_meta_device_twice_then_materialized(cls):
    expected = tiny(cls).eval()
    with torch.device('meta'):
        model = cls(**small_cfg(cls)).eval()
    x = image(expected)
    with torch.no_grad():
        reference = expected(x)
        for _ in range(2):
            outs = model(x.to('meta'))
            assert all(out.is_meta and out.shape == b.shape for out, b in zip(outs, reference, strict=True))
        model.to_empty(device='cpu')
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(7)
        model.load_state_dict(expected.state_dict())
        assert_close(model(x), reference, 0)


@every_backbone
@torch.no_grad()
def test_weights_are_assigned_to_a_model_on_the_meta_device(cls):
    expected = tiny(cls).eval()
    with torch.device('meta'):
        model = cls(**small_cfg(cls)).eval()
    model.load_state_dict(copy.deepcopy(expected).state_dict(), assign=True)
    x = image(expected)
    assert_close(model(x), expected(x), 0)


@every_backbone
@torch.no_grad()
def test_copies_before_and_after_a_forward_pass(cls):
    model = tiny(cls).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    size = len(pickle.dumps(model))
    x = image(model, 3, 4)
    expected = model(x)
    assert len(pickle.dumps(model)) == size
    for twin in (*before, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(twin(x), expected, 0)
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    assert set(torch.load(file, weights_only=True)) == set(state)


@every_backbone
@torch.no_grad()
def test_memory_formats(cls):
    model = tiny(cls).eval()
    x = image(model, 3, 4)
    expected = model(x)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    wide = torch.zeros(*x.shape[:3], 2 * x.shape[3])
    wide[..., ::2] = x
    for given in (x, x.contiguous(memory_format=torch.channels_last), wide[..., ::2], x.transpose(2, 3).clone().mT):
        assert_close(model(given), expected)
        assert_close(last(given), expected)


@every_backbone
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 0.02)],
                         ids=str)
def test_dtypes_with_gradients(cls, dtype, tolerance):
    model = tiny(cls, drop_path_rate=0.0)
    x = image(model)
    converted = copy.deepcopy(model).to(dtype)
    found, expected = converted(x.to(dtype)), model(x)
    assert all(out.dtype == dtype for out in found)
    assert_close(found, expected, tolerance)
    sum(out.float().mean() for out in found).backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in converted.parameters())


@every_backbone
def test_threads_share_a_module(cls):
    """At two sizes at the same time, and with different gradient modes."""
    model = tiny(cls).eval()
    images = [image(model, 3, 4, batch=1), image(model, 5, 2, batch=1)]
    with torch.no_grad():
        expected = [model(x) for x in images]
    modes = (torch.no_grad, torch.inference_mode, torch.no_grad, torch.enable_grad)
    faults = []

    def call(number):
        try:
            with modes[number]():
                for step in range(12):
                    which = (number + step) % 2
                    assert_close([out.detach() for out in model(images[which])], expected[which])
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


@every_backbone
def test_functional_call(cls):
    model, other = tiny(cls).eval(), tiny(cls, seed=1).eval()
    x = image(model, 3, 4)
    with torch.no_grad():
        expected = other(x)
        model(x)
        assert_close(torch.func.functional_call(model, other.state_dict(), (x,)), expected, 0)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in other.named_parameters()}
    sum(out.square().sum() for out in torch.func.functional_call(model, parameters, (x,))).backward()
    assert all(p.grad is not None for p in parameters.values())
    assert all(p.grad is None for p in model.parameters())


@every_backbone
def test_frozen_model_in_a_larger_one(cls):
    model = tiny(cls, with_cp=True, drop_path_rate=0.0).requires_grad_(False)
    head = nn.Conv2d(model.out_channels[-1], 1, 1)
    x = image(model)
    head(model(x)[-1]).sum().backward()
    assert head.weight.grad is not None and all(p.grad is None for p in model.parameters())
    x.requires_grad_()
    model(x)[-1].sum().backward()  # through frozen, recomputed blocks
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize('cls', [cls for cls in BACKBONES if cls.__name__ != 'TimmViTDet'],  # timm reads values
                         ids=lambda cls: cls.__name__)
def test_fake_tensors(cls, monkeypatch):
    # it reads values in torch 2.14, which fake tensors do not have
    monkeypatch.setattr(nn.init, '_no_grad_trunc_normal_', lambda tensor, *args, **kwargs: tensor)
    with FakeTensorMode():
        model = tiny(cls)
        assert [out.shape[1] for out in model(torch.empty(1, 3, 64, 96))] == list(model.out_channels)


@every_backbone
def test_symbolic_trace_is_one_line(cls):
    line = refusal(cls, lambda: torch.fx.symbolic_trace(tiny(cls)), 'start forward with x = self.check_images(x)')
    assert 'torch.fx.symbolic_trace is not supported; use torch.export.export or' in line


def test_numpy_is_told_apart_from_a_wrong_shape():
    model = tiny(BACKBONES[0])
    with pytest.raises(UserError, match='ndarray; convert it to a tensor'):
        model(np.zeros((3, 8)))
