"""Every config of the project loads, builds on the meta device and fits its data, optimiser, schedule and metafile."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, TRANSFORMS

from tests.configs.loading import CONFIGS, NAMES, built, groups_of, heads_of, load, loaded
from vitdet_plugin.config.dataset_config import dataset_classes, leaf_datasets
from vitdet_plugin.config.registry import is_classifier

# environment variables that move a config's data
VARIABLES = sorted({name for path in CONFIGS.rglob('*.py') for name in re.findall(r'{{\$(\w+):', path.read_text())})


def length(cfg) -> int:
    """Of a training, in the unit that its loop counts: epochs or iterations."""
    return cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters


@pytest.mark.parametrize('name', NAMES)
def test_builds_and_fits_its_data_and_optimiser(name):
    cfg, model = load(name), built(name)
    classes = set()
    for split in ('train', 'val', 'test'):
        for _, dataset in leaf_datasets(cfg[f'{split}_dataloader'].dataset, split):
            classes.add(tuple(dataset_classes(dataset)))
            for step in dataset.pipeline:
                TRANSFORMS.build(step)
    assert len(classes) == 1
    heads = heads_of(cfg, model)
    assert heads and all(head.num_classes == len(*classes) for head in heads)
    if is_classifier(cfg):
        assert model.data_preprocessor.num_classes == len(*classes)
    assert cfg.optim_wrapper.type in OPTIM_WRAPPERS
    assert cfg.optim_wrapper.constructor in OPTIM_WRAPPER_CONSTRUCTORS
    groups = groups_of(cfg, model)
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))


@pytest.mark.parametrize('name', NAMES)
def test_schedule_ends_with_the_training(name):
    cfg = load(name)
    last = cfg.param_scheduler[-1]
    assert last.end == length(cfg)
    assert all(each.get('by_epoch', True) == ('max_epochs' in cfg.train_cfg) for each in cfg.param_scheduler)
    if last.type == 'MultiStepLR':
        assert 0 < last.milestones[0] < last.milestones[1] < last.end
    if last.type == 'CosineAnnealingLR':
        assert last.begin == cfg.param_scheduler[-2].end and last.begin + last.T_max == last.end
    assert cfg.default_hooks.checkpoint.interval <= length(cfg)
    assert cfg.train_cfg.val_interval <= length(cfg)


@pytest.mark.parametrize('name', [name for name in NAMES if any(
    part in name for part in ('tiny', 'plant-seedlings', 'image-folder'))])
def test_data_root_from_the_environment(name, monkeypatch):
    loaded.cache_clear()
    for variable in VARIABLES:
        monkeypatch.setenv(variable, '/somewhere')
    cfg = load(name)
    for split in ('train', 'val', 'test'):
        for _, dataset in leaf_datasets(cfg[f'{split}_dataloader'].dataset, split):
            assert dataset.data_root == '/somewhere/'
    for evaluator in [cfg.val_evaluator] if isinstance(cfg.val_evaluator, dict) else cfg.val_evaluator:
        assert evaluator.get('ann_file', '/somewhere/annotations/').startswith('/somewhere/annotations/')
    monkeypatch.undo()
    loaded.cache_clear()
    assert load(name).data_root.startswith(('../shared/data/', 'data/'))


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
    unit = 'Epochs' if 'max_epochs' in cfg.train_cfg else 'Iterations'
    assert length(cfg) == model['Metadata'].get(unit, length(cfg))
