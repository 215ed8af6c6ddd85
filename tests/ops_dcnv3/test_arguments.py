"""Errors in the arguments are one line that names the argument; backends are chosen by name."""

import pytest
import torch

from ops_dcnv3 import backend_info, dcnv3
from tests.ops_dcnv3.oracle import call, geometry, random_inputs


def tensors(**changes):
    found = dict(zip(['input', 'offset', 'mask'], random_inputs(geometry(), dtype=torch.float32)))
    return list({**found, **{name: change(found[name]) for name, change in changes.items()}}.values())


@pytest.mark.parametrize(('given', 'geo', 'error', 'message'), [
    (dict(input=lambda t: t[..., :7]), {}, ValueError, r'7 channels .* group \* group_channels is 2 \* 4'),
    (dict(input=lambda t: t[0]), {}, ValueError, 'input has shape .* four dimensions'),
    (dict(input=lambda t: t[:, :5]), {}, ValueError, r'offset has shape \(2, 7, 6, 36\).*\(2, 5, 6, 36\)'),
    (dict(offset=lambda t: t[:1]), {}, ValueError, 'offset has shape'),
    (dict(mask=lambda t: t[..., :-1]), {}, ValueError, r'mask has shape \(2, 7, 6, 17\).*\(2, 7, 6, 18\)'),
    (dict(mask=lambda t: t.tolist()), {}, TypeError, 'mask is a list'),
    (dict(mask=lambda t: t.double()), {}, TypeError, 'input is torch.float32, .* mask torch.float64'),
    (dict(input=lambda t: t.int()), {}, TypeError, 'input is torch.int32'),
    (dict(offset=lambda t: t.to('meta')), {}, ValueError, 'offset is on meta, but input is on cpu'),
    ({}, dict(stride=(0, 1)), ValueError, 'stride_h is 0; it must be at least 1'),
    ({}, dict(pad=(1, -1)), ValueError, 'pad_w is -1'),
    ({}, dict(dilation=(9, 1)), ValueError, 'gives an output of -9x6'),
    ({}, dict(kernel=(2, 2), remove_center=True), ValueError, 'odd square kernel, not 2x2'),
    ({}, dict(kernel=(3, 5), remove_center=True), ValueError, 'odd square kernel, not 3x5'),
    ({}, dict(offset_scale=float('nan')), ValueError, 'offset_scale is nan'),
])
def test_errors_name_the_argument(given, geo, error, message):
    with pytest.raises(error, match=message) as raised:
        call(dcnv3, tensors(**given), geometry(**geo))
    assert '\n' not in str(raised.value)


def test_backends_by_name():
    with pytest.raises(ValueError, match="'tpu' is unknown; choose auto or one of cpu, triton, cuda, pytorch"):
        call(dcnv3, tensors(), geometry(), backend='tpu')
    with pytest.raises(ValueError, match="'cuda' cannot serve this call: serves tensors on cuda, not on cpu"):
        call(dcnv3, tensors(), geometry(), backend='cuda')


def test_backend_info_agrees_with_what_runs():
    info = backend_info()
    assert info['pytorch'] == 'available'
    assert info['active']['cpu'] in ('cpu', 'pytorch')
    assert (info['active']['cpu'] == 'cpu') == (info['cpu'] == 'available')
    if info['cpu'] != 'available':
        with pytest.raises(RuntimeError, match="'cpu' cannot serve this call: .*pytorch: available"):
            call(dcnv3, tensors(), geometry(), backend='cpu')
