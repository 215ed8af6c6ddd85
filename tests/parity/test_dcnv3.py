"""Cases of DCNv3: recorded reference outputs, and a case computed with torchvision's operator."""

from pathlib import Path

import pytest
import torch

from tests.ops_dcnv3.oracle import geometry, random_inputs, torchvision_dcnv3
from tests.parity.cases import write_folder
from tests.parity.goldens import run_case

GOLDENS = Path(__file__).resolve().parents[3] / 'shared/goldens'
CONFIG = dict(kernel=3, stride=2, pad=1, dilation=1, group=2, group_channels=4, offset_scale=2.0, remove_center=1)


@pytest.mark.parametrize('name', ['dcnv3_k3', 'dcnv3_k3_s2_d2', 'dcnv3_k5_rc'])
def test_recorded_outputs(name):
    if not (GOLDENS / name).is_dir():
        pytest.skip(f'{GOLDENS / name} does not exist')
    verdict = run_case(GOLDENS / name)
    assert verdict.passed, verdict.worst
    assert {'pytorch.out', 'pytorch.grad.input1'} <= set(verdict.errors)


def written_case(folder, **changes):
    geo = geometry(stride=(2, 2), offset_scale=2.0, remove_center=True)
    inputs = [t.requires_grad_() for t in random_inputs(geo)]
    out = torchvision_dcnv3(*inputs, geo)
    cotangent = torch.randn(out.shape)
    gradients = torch.autograd.grad(out, inputs, cotangent.double())
    return write_folder(
        folder / 'case', 'dcnv3', {**CONFIG, **changes}, {}, {f'input{i}': t.detach() for i, t in enumerate(inputs)},
        {'out.out': out.detach(), 'cotangent.out': cotangent, **{f'grad.input{i}': g for i, g in enumerate(gradients)}})


def test_a_case_of_torchvision(tmp_path):
    assert run_case(written_case(tmp_path)).passed


def test_a_case_with_another_offset_scale_fails(tmp_path):
    assert not run_case(written_case(tmp_path, offset_scale=1.9)).passed


def test_kernel_arguments_can_be_pairs(tmp_path):
    assert run_case(written_case(tmp_path, kernel=[3, 3], stride=[2, 2])).passed
