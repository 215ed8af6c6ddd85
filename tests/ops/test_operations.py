"""How many operations the Triton implementations need, forward and backward, with launches replaced by a counter."""

from unittest import mock

import pytest
import torch

from tests.operations import Operations
from vitdet_plugin.ops import triton_support, tuning

pytestmark = pytest.mark.skipif(triton_support.MISSING is not None, reason=str(triton_support.MISSING))


class Launches:
    """In place of a kernel."""

    def __init__(self):
        self.count = 0

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *args, **kwargs):
        self.count += 1


@pytest.mark.parametrize(('name', 'kernels', 'others'), [
    ('rel_pos_attention', 4, 0), ('dcnv3', 2, 2), ('outlook_attention', 3, 2), ('ms_deform_attn', 2, 2),
    ('mlstm', 6, 79), ('nms', 2, 7)])
def test_operations_of_a_call(name, kernels, others):
    from tests.ops import launches
    module, launched = launches.kernels(name), Launches()
    stubs = {key: launched for key in vars(module) if key.endswith('_kernel')}
    with mock.patch.multiple(module, **stubs), mock.patch.object(tuning, 'launch_tuned', launch_first):
        with Operations() as operations:
            launches.LAUNCH[name](torch.float32 if name == 'nms' else torch.bfloat16)
    operations.counts.pop('zeros')  # the inputs
    assert launched.count == kernels
    assert operations.total == others, operations.counts


def launch_first(key, choices, launch, tensor):
    launch(choices[0])
