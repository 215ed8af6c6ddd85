"""The compiled operator by itself: its checks, instruction sets and threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ops_dcnv3.native import STATUS, operator_arguments
from tests.ops_dcnv3.oracle import geometry, random_inputs

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operator: {STATUS["cpu"]}')


def test_the_operator_checks_its_arguments():
    """It can be called without the Python function, which checks as well."""
    geo = geometry()
    x, offset, mask = random_inputs(geo, dtype=torch.float32)
    op, lists = torch.ops.vitdet_plugin.dcnv3, operator_arguments(geo)
    for tensors in [(x[..., :4], offset, mask), (x, offset[:, :3], mask), (x, offset, mask[:1])]:
        with pytest.raises(ValueError, match='dcnv3'):
            op(*tensors, *lists)
    with pytest.raises(TypeError, match='different types'):
        op(x, offset.double(), mask, *lists)


@pytest.mark.parametrize('isa', ['base', 'avx2'])
def test_every_instruction_set_gives_the_same(isa, tmp_path):
    geo = geometry(group_channels=29, kernel=(3, 2))
    torch.save(random_inputs(geo, dtype=torch.float32), tmp_path / 'in.pt')
    code = ('import sys, torch, ops_dcnv3\n'
            'tensors = [t.requires_grad_() for t in torch.load(sys.argv[1])]\n'
            f'out = torch.ops.vitdet_plugin.dcnv3(*tensors, *{operator_arguments(geo)!r})\n'
            'torch.save([out.detach(), *torch.autograd.grad(out.sum(), tensors)], sys.argv[2])')
    results = []
    for level in ('', isa):
        out = tmp_path / f'out{level}.pt'
        subprocess.run([sys.executable, '-c', code, str(tmp_path / 'in.pt'), str(out)], check=True,
                       env={**os.environ, 'PYTHONPATH': str(ROOT), 'OPS_DCNV3_ISA': level})
        results.append(torch.load(out))
    for ours, expected in zip(*results):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize('size', [(1, 40), (2, 3)])
def test_the_result_is_the_same_for_any_number_of_threads(size):
    """One image and one group: rows are split into bands."""
    geo = geometry(group=1, group_channels=16)
    tensors = [t.requires_grad_() for t in random_inputs(geo, 1, (21, 17))]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            out = torch.ops.vitdet_plugin.dcnv3(*tensors, *operator_arguments(geo))
            results.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
    finally:
        torch.set_num_threads(before)
    for ours, expected in zip(*results):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)
