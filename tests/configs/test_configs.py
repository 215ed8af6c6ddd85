"""Every config of the project loads, builds on the meta device and says what the recipe says."""

from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, TRANSFORMS, init_default_scope

from vitdet_plugin.engine.check_data import dataset_classes, leaf_datasets
from vitdet_plugin.engine.check_weights import build_without_memory
from vitdet_plugin.engine.config import load_config
from vitdet_plugin.engine.layer_decay import parameter_groups

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PATHS = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
NAMES = [str(path.relative_to(CONFIGS)) for path in PATHS]
COCO_100EP = (163_889, 177_546), 184_375
COCO_75EP = (122_916, 133_159), 138_281
LVIS_100EP = (138_889, 150_463), 156_250
# figures of detectron2's ViTDet: parameters in millions (COCO), drop path, layer decay, rate, schedule
RECIPES = {
    'vitdet_100e': (110.9, 0.1, 0.7, 1e-4, COCO_100EP),
    'vitdet/mask-rcnn_vitdet-b_lsj-100e_coco': (110.9, 0.1, 0.7, 1e-4, COCO_100EP),
    'vitdet/mask-rcnn_vitdet-l_lsj-100e_coco': (330.7, 0.4, 0.8, 1e-4, COCO_100EP),
    'vitdet/mask-rcnn_vitdet-h_lsj-75e_coco': (661.2, 0.5, 0.9, 1e-4, COCO_75EP),
    'vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_coco': (141.2, 0.1, 0.7, 1e-4, COCO_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-l_lsj-100e_coco': (361.0, 0.4, 0.8, 1e-4, COCO_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-h_lsj-75e_coco': (691.5, 0.5, 0.9, 1e-4, COCO_75EP),
    'vitdet/mask-rcnn_vitdet-b_lsj-100e_lvis': (None, 0.1, 0.7, 2e-4, LVIS_100EP),
    'vitdet/mask-rcnn_vitdet-l_lsj-100e_lvis': (None, 0.4, 0.8, 2e-4, LVIS_100EP),
    'vitdet/mask-rcnn_vitdet-h_lsj-100e_lvis': (None, 0.4, 0.9, 1e-4, LVIS_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_lvis': (None, 0.1, 0.7, 2e-4, LVIS_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-l_lsj-100e_lvis': (None, 0.4, 0.8, 2e-4, LVIS_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-h_lsj-100e_lvis': (None, 0.4, 0.9, 1e-4, LVIS_100EP),
}


@cache
def load(name: str):
    """A config by its path below configs/, with or without .py."""
    if name.endswith('.py'):
        return load(name.removesuffix('.py'))
    cfg = load_config(str(CONFIGS / f'{name}.py'))
    init_default_scope(cfg.default_scope)
    import mmdet.models  # noqa: F401  its registries, before anything is built in their scope
    return cfg


@cache
def built(name: str) -> torch.nn.Module:
    """Its model, without memory for weights."""
    return build_without_memory(load(name.removesuffix('.py')).model)


def groups_of(cfg, model) -> list[dict]:
    rules, optimizer = cfg.optim_wrapper.paramwise_cfg, cfg.optim_wrapper.optimizer
    return parameter_groups(model, lr=optimizer.lr, weight_decay=optimizer.weight_decay, rate=rules.layer_decay_rate,
                            rule=rules.no_decay)


@pytest.mark.parametrize('name', NAMES)
def test_builds_and_fits_its_data_and_optimiser(name):
    cfg, model = load(name), built(name.removesuffix('.py'))
    classes = set()
    for split in ('train', 'val', 'test'):
        for _, dataset in leaf_datasets(cfg[f'{split}_dataloader'].dataset, split):
            classes.add(tuple(dataset_classes(dataset)))
            for step in dataset.pipeline:
                TRANSFORMS.build(step)
    assert len(classes) == 1
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
        assert head.num_classes == len(*classes)
    if model.roi_head.with_mask:
        assert model.roi_head.mask_head.num_classes == len(*classes)
    assert cfg.optim_wrapper.type in OPTIM_WRAPPERS
    assert cfg.optim_wrapper.constructor in OPTIM_WRAPPER_CONSTRUCTORS
    groups = groups_of(cfg, model)
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))


@pytest.mark.parametrize('name', NAMES)
def test_schedule_ends_with_the_training(name):
    cfg = load(name)
    last = cfg.param_scheduler[-1]
    assert last.end == cfg.train_cfg.max_iters
    if last.type == 'MultiStepLR':
        assert 0 < last.milestones[0] < last.milestones[1] < last.end
    assert cfg.default_hooks.checkpoint.interval <= cfg.train_cfg.max_iters


@pytest.mark.parametrize('name', RECIPES)
def test_recipe(name):
    millions, drop_path, decay, rate, (milestones, iterations) = RECIPES[name]
    cfg, model = load(name), built(name.removesuffix('.py'))
    if millions is not None:
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert tuple(cfg.param_scheduler[1].milestones) == milestones
    assert cfg.train_cfg.max_iters == iterations
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay, tuple(optimizer.betas)) == (rate, 0.1, (0.9, 0.999))
    by_name = {n: group for group in groups_of(cfg, model) for n in group['param_names']}
    depth = len(model.backbone.blocks)
    assert by_name['backbone.pos_embed']['lr'] == pytest.approx(rate * decay ** (depth + 1))
    assert by_name[f'backbone.blocks.{depth - 1}.attn.rel_pos_h']['lr'] == pytest.approx(rate * decay)
    assert by_name['roi_head.mask_head.conv_logits.weight']['lr'] == rate


@pytest.mark.parametrize('name', [name for name in RECIPES if name.endswith('lvis')])
def test_lvis(name):
    cfg = load(name)
    assert cfg.train_dataloader.dataset.type == 'ClassBalancedDataset'
    assert cfg.train_dataloader.dataset.oversample_thr == 1e-3
    assert (cfg.model.test_cfg.rcnn.score_thr, cfg.model.test_cfg.rcnn.max_per_img) == (0.02, 300)
    model = built(name)
    heads = model.roi_head.bbox_head if name.startswith('vitdet/cascade') else [model.roi_head.bbox_head]
    for head in heads:
        assert type(head.loss_cls).__name__ == 'FederatedSigmoidLoss' and head.fc_cls.out_features == 1204
        assert head.fc_reg.out_features == (4 if name.startswith('vitdet/cascade') else 4 * 1203)


@pytest.mark.parametrize(('name', 'gpus'), [
    ('vitdet_100e', 8), ('vitdet/mask-rcnn_vitdet-b_lsj-100e-1xb8_coco', 1),
    ('vitdet/mask-rcnn_vitdet-b_lsj-100e-1xb2-cp_coco', 1), ('vitdet/mask-rcnn_vitdet-b_lsj-100e-8xb2-cp_coco', 8)])
def test_batch_arithmetic(name, gpus):
    """64 images for every change of the weights, 100 epochs of 118,000 images, whatever the cards."""
    cfg = load(name)
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    images = gpus * cfg.train_dataloader.batch_size
    assert images * accumulated == 64
    assert cfg.train_cfg.max_iters * images == 11_800_000
    assert cfg.param_scheduler[0].end == 250 * accumulated
    assert cfg.auto_scale_lr.base_batch_size == images


def test_boxes_without_masks():
    cfg = load('vitdet/faster-rcnn_vitdet-b_lsj-100e_coco')
    assert not built('vitdet/faster-rcnn_vitdet-b_lsj-100e_coco').roi_head.with_mask
    assert not any(step.get('with_mask') for step in cfg.train_dataloader.dataset.pipeline)
    assert cfg.val_evaluator.metric == cfg.test_evaluator.metric == 'bbox'


@pytest.mark.parametrize('name', [name for name in NAMES if 'tiny' in name])
def test_data_root_from_the_environment(name, monkeypatch):
    load.cache_clear()
    for variable in ('COCO_MINI_ROOT', 'FRUITS_NUTS_ROOT'):
        monkeypatch.setenv(variable, '/somewhere')
    cfg = load(name)
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.data_root == '/somewhere/'
    assert cfg.val_evaluator.ann_file.startswith('/somewhere/annotations/')
    monkeypatch.undo()
    load.cache_clear()
    assert load(name).data_root.startswith('../shared/data/')


def test_metafiles_list_every_config_of_a_family_once():
    root = CONFIGS.parent
    metafiles = yaml.safe_load((root / 'model-index.yml').read_text())['Import']
    assert sorted(metafiles) == sorted(str(path.relative_to(root)) for path in CONFIGS.rglob('metafile.yml'))
    contents = [yaml.safe_load((root / metafile).read_text()) for metafile in metafiles]
    models = [model for content in contents for model in content['Models']]
    assert sorted(model['Config'] for model in models) == sorted(f'configs/{name}' for name in NAMES if '/' in name)
    collections = {each['Name']: each for content in contents for each in content['Collections']}
    for model in models:
        assert Path(model['Config']).stem == model['Name']
        assert (root / collections[model['In Collection']]['README']).is_file()
        for result in model.get('Results', []):  # figures of others are named as theirs
            assert result['Reported By'] and result['Metrics']


@pytest.mark.parametrize('model', [
    model for metafile in CONFIGS.rglob('metafile.yml') for model in yaml.safe_load(metafile.read_text())['Models']],
    ids=lambda model: model['Name'])
def test_metafile_figures(model):
    name = model['Config'].removeprefix('configs/').removesuffix('.py')
    cfg = load(name)
    parameters = sum(p.numel() for p in built(name).parameters()) / 1e6
    assert parameters == pytest.approx(float(model['Metadata']['Parameters'].split()[0]), abs=0.06)
    assert cfg.train_cfg.max_iters == model['Metadata'].get('Iterations', cfg.train_cfg.max_iters)
