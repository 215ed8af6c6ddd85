"""The operators' part of ``vitdet gpu-check`` with Triton kernels: on the GPU, or in the interpreter."""

import pytest

from tests.devices import requires_triton
from vitdet_plugin.gpu_check import operators, timing
from vitdet_plugin.gpu_check.results import FAILED, OK, Settings

pytestmark = requires_triton


@pytest.mark.parametrize('operator', ['rel_pos_attention'])
def test_triton_is_compared(device, operator):
    found = list(operators.run(Settings(device, tiny=True), operator))
    assert [result for result in found if result.status == FAILED] == []
    assert [result.status for result in found if result.name.startswith('triton,')] == [OK] * 3


def test_triton_is_timed(device, monkeypatch):
    monkeypatch.setattr(timing, 'MODULES', ['rel_pos_attention'])
    found = [result for result in timing.run(Settings(device, tiny=True)) if result.name.endswith('triton')]
    assert [result.status for result in found] == [OK] * 2
