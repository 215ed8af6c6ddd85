"""The device of a test's tensors: the GPU if there is one.

Also a plugin of pytest: ``pytest --noconftest -p tests.devices`` runs tests of the operators on machines without
OpenMMLab's packages.
"""

import pytest
import torch

from vitdet_plugin.ops import triton_support

ON_GPU = torch.cuda.is_available()

#: For tests of Triton kernels.
requires_triton = pytest.mark.skipif(
    triton_support.MISSING is not None or not (ON_GPU or triton_support.INTERPRETED),
    reason=triton_support.MISSING or "needs a GPU; tests/ops/test_triton.py runs this file in Triton's interpreter")


@pytest.fixture(scope='session')
def device() -> str:
    """Type of the device for tests that can run on a GPU."""
    return 'cuda' if ON_GPU else 'cpu'
