"""Two gloo ranks train DINO and Co-DINO; every parameter has a gradient, without objects too."""

import torch

from tests.end_to_end.forked_ranks import run_module


def test_two_ranks_end_with_equal_parameters(tmp_path):
    result = run_module('tests.detr.two_ranks', tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = (torch.load(tmp_path / f'rank{rank}.pth') for rank in (0, 1))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)
