"""Settings for a GPU: what is set and what is kept; results with channels_last weights and cached anchors."""

import copy

import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from tests.end_to_end.tiny_set import CONFIG
from tests.faults.rig import EPOCHS, train_here, write_config
from vitdet_plugin.compat.anchor_cache import KEPT, cache_anchors
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.gpu_defaults import apply_gpu_defaults
from vitdet_plugin.engine.load_model import build_model


def config(optimizer=None, **others):
    return Config(dict(optim_wrapper=dict(type='AutocastOptimWrapper', optimizer=optimizer or dict(type='AdamW')),
                       model=dict(data_preprocessor=dict(type='DetDataPreprocessor')), train_dataloader=dict(),
                       **others))


def test_defaults_of_a_gpu():
    cfg = config()
    assert apply_gpu_defaults(cfg, 'cuda') == ['fused AdamW', 'channels_last weights', 'pinned memory']
    assert cfg.optim_wrapper.optimizer.fused and cfg.channels_last and cfg.train_dataloader.pin_memory
    assert cfg.model.data_preprocessor.non_blocking
    plain = config()
    plain.optim_wrapper.type = 'OptimWrapper'
    assert 'channels_last weights' not in apply_gpu_defaults(plain, 'cuda')


def test_a_config_decides():
    cfg = config(dict(type='AdamW', fused=False), channels_last=False)
    cfg.train_dataloader.pin_memory = False
    before = copy.deepcopy(cfg.to_dict())
    assert apply_gpu_defaults(cfg, 'cuda') == [] and cfg.to_dict() == before
    assert apply_gpu_defaults(config(dict(type='AdamW', foreach=True)), 'cuda')[0] != 'fused AdamW'
    assert apply_gpu_defaults(config(dict(type='Lion')), 'cuda')[0] != 'fused Lion'


@pytest.mark.parametrize('others', [dict(device='cpu'), dict(device='cuda', strategy=dict(type='FSDPStrategy'))])
def test_nothing_changes_elsewhere(others):
    device, cfg = others.pop('device'), config(**others)
    before = copy.deepcopy(cfg.to_dict())
    assert apply_gpu_defaults(cfg, device) == [] and cfg.to_dict() == before


def test_channels_last_training(tiny_set, tmp_path):
    rest = EPOCHS.format(1) + 'channels_last = True\n'
    runner = train_here(write_config(tmp_path / 'c.py', tiny_set, rest), tmp_path / 'w', validate=False)
    weight = next(m for m in runner.model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)).weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert 'channels_last weights' in next((tmp_path / 'w').glob('*/*.log')).read_text()
    init_default_scope('mmdet')
    model = build_model(load_config(str(CONFIG)))
    model.load_state_dict(runner.model.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for first, second in zip(model.eval().extract_feat(images), runner.model.eval().extract_feat(images)):
            torch.testing.assert_close(first, second)


def test_images_reach_the_device_as_bytes_and_are_normalized_there():
    init_default_scope('mmdet')
    preprocessor = build_model(load_config(str(CONFIG))).data_preprocessor
    received = []
    cast = preprocessor.cast_data

    def received_by(data):
        received.extend(data['inputs'] if isinstance(data, dict) else ())
        return cast(data)

    preprocessor.cast_data = received_by
    images = [torch.full((3, 64, 64), 110, dtype=torch.uint8)]
    out = preprocessor(dict(inputs=images, data_samples=None))['inputs']
    assert [image.dtype for image in received] == [torch.uint8] and out.dtype == torch.float32 and (out == 0).all()


def test_cached_anchors_are_those_of_mmdet():
    def generator():
        return AnchorGenerator(strides=[4, 8], ratios=[0.5, 1.0], scales=[8])

    model = nn.Module()
    model.prior_generator = generator()
    cache_anchors(model)
    sizes = [[(4, 6), (2, 3)], [(8, 8), (4, 4)]]
    for each in sizes * 2:
        for first, second in zip(model.prior_generator.grid_priors(each, device='cpu'),
                                 generator().grid_priors(each, device='cpu'), strict=True):
            assert torch.equal(first, second)
    first, again = (model.prior_generator.grid_priors(sizes[0], device='cpu') for _ in range(2))
    assert first is not again and all(a is b for a, b in zip(first, again))
    for side in range(2, KEPT + 3):
        model.prior_generator.grid_priors([(side, side), (1, 1)], device='cpu')
    assert model.prior_generator.grid_priors(sizes[0], device='cpu')[0] is not first[0]
