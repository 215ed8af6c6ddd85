"""Second derivatives through the Triton kernels, which are those of the reference implementation."""

import pytest
import torch

from ops_dcnv3 import dcnv3
from tests.devices import requires_triton
from tests.ops.kernels.comparison import assert_same_second_derivatives
from vitdet_plugin.ops.mlstm import mlstm
from vitdet_plugin.ops.ms_deform_attn import ms_deform_attn
from vitdet_plugin.ops.outlook_attention import outlook_attention
from vitdet_plugin.ops.rel_pos_attention import rel_pos_attention

pytestmark = requires_triton
# operator -> shapes of its tensors, function of a backend and the tensors
CASES = {
    'rel_pos_attention': ([(1, 2, 6, 4)] * 3 + [(1, 2, 6, 2), (1, 2, 6, 3)],
                          lambda form, *x: rel_pos_attention(*x, 0.5, form or 'dense')),
    'outlook_attention': ([(1, 4, 4, 4), (1, 2, 2, 81)],
                          lambda form, *x: outlook_attention(*x, 1, form=form or 'plain')),
    'mlstm': ([(1, 20, 4)] * 3 + [(1, 20)] * 2, lambda form, *x: mlstm(*x, form=form or 'parallel', chunk=16)),
    'ms_deform_attn': ([(1, 6, 1, 4), (1, 2, 1, 1, 1, 2), (1, 2, 1, 1, 1)],
                       lambda form, v, xy, w: ms_deform_attn(v, [(2, 3)], xy.sigmoid(), w, backend=form or 'pytorch')),
    'dcnv3': ([(1, 3, 4, 4), (1, 3, 4, 18), (1, 3, 4, 9)],
              lambda form, *x: dcnv3(*x, 3, 3, 1, 1, 1, 1, 1, 1, 1, 4, 1.0, backend=form or 'pytorch')),
}


@pytest.mark.parametrize('name', CASES)
def test_second_derivatives(name, device):
    shapes, function = CASES[name]
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    assert_same_second_derivatives(lambda *x: function('triton', *x), lambda *x: function(None, *x), tensors)
