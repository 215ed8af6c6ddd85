"""Cases of the DCNv3 operator, for every available backend."""

from __future__ import annotations

import torch
from torch import Tensor

from ops_dcnv3 import dcnv3
from ops_dcnv3.functional import OPERATOR
from tests.parity.goldens import Case, Verdict, register_kind
from vitdet_plugin.ops.case import case_of


def operator_arguments(config: dict) -> dict:
    """Convert the arguments of a case; ``kernel``, ``stride``, ``pad`` and ``dilation`` are ints or (height, width)."""
    arguments = {}
    for key, default in (('kernel', 3), ('stride', 1), ('pad', 1), ('dilation', 1)):
        value = config.get(key, config.get(f'{key}_size', default))
        sizes = value if isinstance(value, (list, tuple)) else (value, value)
        arguments |= {f'{key}_{axis}': config.get(f'{key}_{axis}', size) for axis, size in zip('hw', sizes)}
    return dict(**arguments, group=config['group'], group_channels=config['group_channels'],
                offset_scale=config.get('offset_scale', 1.0), remove_center=bool(config.get('remove_center', False)))


@register_kind('dcnv3')
def run_dcnv3(case: Case) -> Verdict:
    """Compare the output and the gradients of the input, offset and mask."""
    verdict = Verdict()
    arguments = operator_arguments(case.config)
    tensors = [case.inputs[f'input{i}'] for i in range(3)]
    call = case_of(tensors[0], group_channels=case.config['group_channels'])._replace(named=True)
    for backend, reason in OPERATOR.why_not(call).items():
        if reason:
            continue
        inputs: list[Tensor] = [x.clone().requires_grad_() for x in tensors]
        out = dcnv3(*inputs, **arguments, backend=backend)
        verdict.compare(f'{backend}.out', out, case.expected['out.out'])
        if 'cotangent.out' in case.expected:
            gradients = torch.autograd.grad(out, inputs, case.expected['cotangent.out'].to(out.dtype))
            for i, gradient in enumerate(gradients):
                if (expected := case.expected.get(f'grad.input{i}')) is not None:
                    verdict.compare(f'{backend}.grad.input{i}', gradient, expected)
    return verdict
