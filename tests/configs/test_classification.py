"""The classification configs: MAE's fine-tuning recipe, and data in folders of classes."""

import pytest

from tests.configs.loading import CONFIGS, built, groups_of, load
from vitdet_plugin.config.loading import load_config

# FINETUNE.md of MAE's authors: parameters in millions (without the class token), drop path, layer decay, rate, epochs
MAE = {
    'vit-b_mae-100e': (86.6, 0.1, 0.65, 2e-3, 100, 12),
    'vit-l_mae-50e': (304.3, 0.2, 0.75, 4e-3, 50, 24),
    'vit-h_mae-50e': (632.0, 0.3, 0.75, 4e-3, 50, 32),
}


@pytest.mark.parametrize('name', MAE)
def test_mae_recipe(name):
    millions, drop_path, decay, rate, epochs, depth = MAE[name]
    cfg, model = load(f'classification/{name}_imagenet'), built(f'classification/{name}_imagenet')
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert 8 * cfg.train_dataloader.batch_size == 1024 == cfg.auto_scale_lr.base_batch_size
    assert cfg.model.backbone.drop_path_rate == drop_path and cfg.train_cfg.max_epochs == epochs
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.end) == (5, epochs)
    assert cosine.eta_min_ratio * rate == pytest.approx(1e-6)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay, tuple(optimizer.betas)) == (rate, 0.05, (0.9, 0.999))
    by_name = {n: group for group in groups_of(cfg, model) for n in group['param_names']}
    assert by_name['backbone.pos_embed']['lr'] == pytest.approx(rate * decay ** (depth + 1))
    assert by_name[f'backbone.blocks.{depth - 1}.attn.qkv.weight']['lr'] == pytest.approx(rate * decay)
    assert by_name['head.fc.weight']['lr'] == rate and by_name['head.fc.weight']['weight_decay'] == 0.05
    assert by_name['head.norm.weight']['weight_decay'] == by_name['backbone.pos_embed']['weight_decay'] == 0
    assert all(block.attn.window_size == 0 and block.attn.rel_pos_h is None for block in model.backbone.blocks)


@pytest.mark.parametrize(('name', 'blocks', 'rates'), [
    ('probe-30e', set(), {}),
    ('partial-8e', {*range(4, 12)}, {'blocks.4': 0.75 ** 8, 'blocks.11': 0.75}),
    ('finetune-8e', {*range(12)}, {'blocks.0': 0.65 ** 12, 'blocks.11': 0.65}),
    ('lora-8e', {*range(12)}, {'blocks.0': 1, 'blocks.11': 1}),
])
def test_what_the_dinov2_recipes_train(name, blocks, rates):
    cfg, model = (each(f'classification/dinov2-s_{name}_plant-seedlings') for each in (load, built))
    backbone = model.backbone
    trained = {each.removeprefix('net.') for each, p in backbone.named_parameters() if p.requires_grad}
    assert {int(each.split('.')[1]) for each in trained if each.startswith('blocks.')} == blocks
    assert bool({'norm.weight'} & trained) == (name in ('partial-8e', 'finetune-8e'))
    assert all('.lora_' in each for each in trained) == (name in ('lora-8e', 'probe-30e'))
    assert backbone.global_blocks == set(range(12)) and model.head.fc.weight.shape == (12, 2 * 384)
    assert (backbone.feature_cache is not None) == name.startswith('probe')
    groups = {each.removeprefix('backbone.net.'): group['lr'] / cfg.optim_wrapper.optimizer.lr
              for group in groups_of(cfg, model) for each in group['param_names']}
    for block, rate in rates.items():
        found = [groups[each] for each in groups if each.startswith(f'{block}.')]
        assert found and found == pytest.approx([rate] * len(found))
    assert groups['head.fc.weight'] == 1


def test_images_of_the_probe_have_few_variants():
    """Features are cached by the content of the image."""
    pipeline = load('classification/dinov2-s_probe-30e_plant-seedlings').train_dataloader.dataset.pipeline
    assert [step.type for step in pipeline] == ['LoadImageFromFile', 'ResizeEdge', 'CenterCrop', 'RandomFlip',
                                                'PackInputs']


@pytest.mark.parametrize('name', ['convnext-mini_64e', 'dinov2-s_probe-30e', 'dinov2-s_partial-8e'])
def test_classes_of_a_custom_folder(name, tmp_path, monkeypatch):
    for plant in ('Wild oat', 'Barley', 'Rye-grass'):
        (tmp_path / 'my plants/train' / plant).mkdir(parents=True)
    monkeypatch.setenv('IMAGE_FOLDER_ROOT', str(tmp_path / 'my plants'))
    cfg = load_config(str(CONFIGS / f'classification/{name}_image-folder.py'))
    assert cfg.train_dataloader.dataset.metainfo.classes == ('Barley', 'Rye-grass', 'Wild oat')
    assert cfg.val_dataloader.dataset.data_root == f'{tmp_path}/my plants/'
    assert cfg.model.head.num_classes == cfg.model.data_preprocessor.num_classes == 3
    assert cfg.val_evaluator[0].topk == (1, 3)
