"""Train classifiers on a plain ViT: features computed once, then fine-tuning from the linear classifier, and LoRA."""

import pytest
import torch

from tests.end_to_end.tiny_classes import CONFIG, write_tiny_classes
from vitdet_plugin.api import runs
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.load_model import load_model


def state_of(file):
    return torch.load(file, weights_only=False)['state_dict']


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Return a function that gives the tiny classifier's config with a plain ViT of two blocks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TINY_CLASSES', str(write_tiny_classes(tmp_path / 'set')))

    def with_options(epochs, **options):
        cfg = load_config(str(CONFIG))
        cfg.model.backbone = dict(type='TimmViTDet', model='vit_small_patch14_dinov2', patch_size=8, window_size=0,
                                  model_args=dict(depth=2, embed_dim=32, num_heads=2, img_size=56),
                                  out_type='cls_avg', **options)
        cfg.model.head = dict(type='VectorClsHead', num_classes=3, in_channels=64)
        cfg.model.train_cfg = None
        fixed = cfg.test_dataloader.dataset.pipeline
        cfg.train_dataloader.dataset.pipeline = [*fixed[:-1], dict(type='RandomFlip', prob=0.5), fixed[-1]]
        cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2))
        cfg.train_cfg.max_epochs = cfg.param_scheduler[1].end = epochs
        cfg.param_scheduler[1].T_max = epochs - 1
        return cfg
    return with_options


def test_features_are_computed_once_and_fine_tuning_continues_from_the_classifier(config, tmp_path):
    runs.train(config(6, frozen_stages=2, feature_cache='features'), work_dir='probe', seed=0)
    file, = (tmp_path / 'features').iterdir()
    assert 21 + 9 <= file.stat().st_size / (16 + 4 * 64 + 4) <= 2 * 21 + 9  # with and without the flip
    # the features in the files are those of the saved model
    loaded = load_model(config(6), tmp_path / 'probe', 'cpu')
    plain, x = loaded.model.backbone, torch.randn(2, 3, 32, 32)
    cached = load_model(config(6, frozen_stages=2, feature_cache='features'), tmp_path / 'probe', 'cpu').model.backbone
    torch.testing.assert_close(cached(x), plain(x), atol=1e-6, rtol=1e-6)
    # a work directory is a start: the classifier's weights are those of its best checkpoint
    runs.train(config(2), work_dir='tuned', load_from='probe', seed=0, cfg_options={'optim_wrapper.optimizer.lr': 0.0})
    assert torch.equal(state_of('tuned/epoch_2.pth')['head.fc.weight'], loaded.model.head.fc.weight)


def test_lora_resumes_exactly_and_predicts_the_same_without_it(config, tmp_path):
    options = dict(lora=dict(rank=2))
    runs.train(config(4, **options), work_dir='whole', seed=0)
    runs.train(config(4, **options), work_dir='parts', seed=0, cfg_options={'train_cfg.max_epochs': 2})
    runs.train(config(4, **options), work_dir='parts', resume=True, seed=0)
    whole, resumed = state_of('whole/epoch_4.pth'), state_of('parts/epoch_4.pth')
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert whole['backbone.net.blocks.0.attn.qkv.lora_b'].any()
    adapted, merged = (load_model(config(4, **each), tmp_path / 'whole/epoch_4.pth', 'cpu').model
                       for each in (options, {}))
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(merged(x), adapted(x), atol=1e-5, rtol=1e-5)
