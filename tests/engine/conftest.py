import pytest
import torch

from tests.end_to_end.tiny_set import CONFIG, write_tiny_set


@pytest.fixture(scope='session')
def tiny_set(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp('tiny') / 'set', images=6)


@pytest.fixture
def tiny_config(tiny_set, monkeypatch, tmp_path):
    """Return the end-to-end config with an existing dataset and a work directory."""
    from vitdet_plugin.config.loading import load_config
    monkeypatch.setenv('TINY_SET', str(tiny_set))
    cfg = load_config(str(CONFIG))
    cfg.work_dir = str(tmp_path / 'work')
    cfg.launcher = 'none'
    return cfg


@pytest.fixture
def write_mae(tiny_config, tmp_path):
    """Return a function that writes a checkpoint in MAE's format for the tiny backbone: ``(path, weights)``."""
    def write(width=32):
        random = torch.Generator().manual_seed(0)
        shapes = {'cls_token': (1, 1, width), 'pos_embed': (1, 17, width),
                  'patch_embed.proj.weight': (width, 3, 16, 16), 'patch_embed.proj.bias': (width,),
                  'norm.weight': (width,), 'norm.bias': (width,)}
        for block in (0, 1):
            for name, shape in {'norm1': (width,), 'norm2': (width,), 'attn.qkv': (3 * width, width),
                                'attn.proj': (width, width), 'mlp.fc1': (4 * width, width),
                                'mlp.fc2': (width, 4 * width)}.items():
                shapes[f'blocks.{block}.{name}.weight'] = shape
                shapes[f'blocks.{block}.{name}.bias'] = shape[:1]
        weights = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
        path = tmp_path / f'mae_{width}.pth'
        torch.save(dict(model=weights), path)
        return str(path), weights
    return write
