"""Detection of a running export."""

import torch
from torch import nn

from vitdet_plugin.utils.exporting import is_exporting


class Doubled(nn.Module):
    """2 x, or 3 x while it is exported."""

    def forward(self, x):
        return (3 if is_exporting() else 2) * x


def test_an_export_is_detected():
    model, x = Doubled(), torch.ones(2)
    assert not is_exporting()
    assert model(x).tolist() == [2, 2]
    assert torch.export.export(model, (x,)).module()(x).tolist() == [3, 3]
    assert not is_exporting()


def test_torch_without_is_exporting_treats_compilation_as_export(monkeypatch):
    monkeypatch.delattr(torch.compiler, 'is_exporting', raising=False)
    assert not is_exporting()
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    assert is_exporting()
