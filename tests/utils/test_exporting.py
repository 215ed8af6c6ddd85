"""Detection of a running export."""

import torch
from torch import nn

from vitdet_plugin.utils.exporting import is_exporting


class Multiplied(nn.Module):
    """2 x, or 3 x while it is exported."""

    def forward(self, x):
        return (3 if is_exporting() else 2) * x


def test_an_export_is_detected():
    model, x = Multiplied(), torch.ones(2)
    assert not is_exporting()
    assert torch.export.export(model, (x,), strict=False).module()(x).tolist() == [3, 3]
    assert not is_exporting()


def test_compilation_is_not_an_export():
    model, x = Multiplied(), torch.ones(2)
    assert torch.compile(model, backend='eager', fullgraph=True)(x).tolist() == [2, 2]
