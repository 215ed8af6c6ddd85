"""Two gloo ranks train DINO and Co-DINO; every parameter has a gradient, without objects too."""

import subprocess
import sys

import torch

from tests.end_to_end.tiny_set import ROOT, environment, free_port


def test_two_ranks_end_with_equal_parameters(tmp_path):
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--master-port',
               str(free_port()), '-m', 'tests.detr.two_ranks', str(tmp_path)]
    result = subprocess.run(command, env=environment(), text=True, capture_output=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = (torch.load(tmp_path / f'rank{rank}.pth') for rank in (0, 1))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)
