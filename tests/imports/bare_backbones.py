"""Build, run and load every backbone; run by tests/test_imports.py where the stack is not importable."""

from importlib import import_module
from pathlib import Path

import torch

from tests.backbones.small_configs import small_cfg


def import_backbones() -> None:
    """Import every backbone alone, as a user of backbones does."""
    from vitdet_plugin.utils.registering import registering_modules
    for name in registering_modules('backbones'):
        import_module(name)


def check(folder: str) -> None:
    """Print the names of the backbones that work.

    Args:
        folder: For checkpoints.
    """
    import_backbones()
    from vitdet_plugin.backbones.base import registered_backbones
    for cls in registered_backbones():
        name = cls.__name__
        cfg = small_cfg(cls)
        model, path = cls(**cfg).eval(), Path(folder) / f'{name}.pth'
        side = 2 * model.out_strides[-1]
        x = torch.randn(1, 3, side, side)
        torch.save(dict(state_dict={f'backbone.{key}': value for key, value in model.state_dict().items()}), path)
        other = cls(**cfg, init_cfg=dict(type='Pretrained', checkpoint=str(path))).eval()
        other.init_weights()
        for a, b in zip(model(x), other(x), strict=True):
            assert torch.equal(a, b), name
        print(name)
