"""Every config of the project loads, builds on the meta device and fits its data, optimizer, schedule and metafile."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, TRANSFORMS

from tests.configs.loading import CONFIGS, NAMES, VARIABLES, built, groups_of, heads_of, load
from vitdet_plugin.config.check_values import check_values
from vitdet_plugin.config.dataset_config import dataset_classes, leaf_datasets
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.registry import is_classifier


def length(cfg) -> int:
    """Return the length of the training, in epochs or iterations as its loop counts."""
    return cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters


@pytest.mark.parametrize('name', NAMES)
def test_builds_and_fits_its_data_and_optimizer(name):
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
    assert sum(len(group['params']) for group in groups) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('name', NAMES)
def test_schedule_ends_with_the_training(name):
    cfg = load(name)
    last = cfg.param_scheduler[-1]
    assert last.end == length(cfg)
    assert all(each.get('by_epoch', True) == ('max_epochs' in cfg.train_cfg) for each in cfg.param_scheduler)
    if last.type == 'MultiStepLR':
        assert list(last.milestones) == sorted(set(last.milestones)) and 0 < last.milestones[0]
        assert last.milestones[-1] < last.end
    if last.type == 'CosineAnnealingLR':
        assert last.begin == cfg.param_scheduler[-2].end
        assert last.get('T_max', last.end - last.begin) == last.end - last.begin
    assert cfg.default_hooks.checkpoint.interval <= length(cfg)
    assert cfg.train_cfg.val_interval <= length(cfg)


@pytest.mark.parametrize('name', NAMES)
def test_values_are_of_the_kinds_that_constructors_take(name):
    check_values(load(name))


@pytest.mark.parametrize('name', [name for name in NAMES if any(
    part in name for part in ('-tiny_', 'plant-seedlings', 'image-folder'))])
def test_data_root_from_the_environment(name, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.setenv(variable, '/somewhere')
    cfg = load_config(str(CONFIGS / name))
    for split in ('train', 'val', 'test'):
        for _, dataset in leaf_datasets(cfg[f'{split}_dataloader'].dataset, split):
            assert dataset.data_root == '/somewhere/'
    for evaluator in [cfg.val_evaluator] if isinstance(cfg.val_evaluator, dict) else cfg.val_evaluator:
        assert evaluator.get('ann_file', '/somewhere/annotations/').startswith('/somewhere/annotations/')


@pytest.mark.parametrize('name', NAMES)
def test_data_is_below_data_or_below_the_folder_of_the_environment(name, monkeypatch):
    def roots(cfg) -> set[str]:
        return {dataset.data_root for split in ('train', 'val', 'test')
                for _, dataset in leaf_datasets(cfg[f'{split}_dataloader'].dataset, split)}

    def ann_files(cfg) -> list[str]:
        evaluators = [cfg.val_evaluator] if isinstance(cfg.val_evaluator, dict) else cfg.val_evaluator
        return [each.ann_file for each in evaluators if 'ann_file' in each]

    default = load(name)
    assert all(path.startswith('data/') for path in (*roots(default), *ann_files(default)))
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv('VITDET_DATA', '/somewhere')
    moved = Config.fromfile(CONFIGS / name, import_custom_modules=False)
    # the demo set is made by the project and stays where its tool writes it
    folder = 'data' if name.endswith('demo.py') else '/somewhere'
    assert roots(moved) == {folder + root.removeprefix('data') for root in roots(default)}
    assert ann_files(moved) == [folder + path.removeprefix('data') for path in ann_files(default)]


@pytest.mark.parametrize('name', NAMES)
def test_a_leaf_is_short_and_inherits_from_shared_parts_or_its_own_family(name):
    path = CONFIGS / name
    text = path.read_text()
    assert len(text.splitlines()) <= 60, name
    assert '../shared' not in text
    # no positional edits of lists that come from a base file
    assert not re.search(r'_base_\.[\w.]*(hooks|pipeline|scheduler|neck)\[', text), name
    for base in re.findall(r"'([^']+\.py)'", text.split('_base_ =')[1].split('\n\n')[0]):
        if not base.startswith('mmdet::'):
            family = (path.parent / base).resolve().relative_to(CONFIGS).parts
            assert family[0] in ('_base_', *Path(name).parts[:-1]) or (
                name.startswith('vitdet') and family[0] == 'vitdet_100e.py'), (name, base)
            if family[0] == 'classification':  # a family per backbone
                assert base.split('-')[0] == path.name.split('-')[0], (name, base)


def test_metafiles_list_every_config_of_a_family_once():
    root = CONFIGS.parent
    metafiles = yaml.safe_load((root / 'model-index.yml').read_text())['Import']
    assert sorted(metafiles) == sorted(str(path.relative_to(root)) for path in CONFIGS.rglob('metafile.yml'))
    contents = [yaml.safe_load((root / metafile).read_text()) for metafile in metafiles]
    models = [model for content in contents for model in content['Models']]
    listed = Counter(model['Config'] for model in models)
    assert not [name for name, count in listed.items() if count > 1]
    assert not set(listed) - {f'configs/{name}' for name in NAMES}
    collections = {each['Name']: each for content in contents for each in content['Collections']}
    for model in models:
        assert Path(model['Config']).stem == model['Name']
        assert (root / collections[model['In Collection']]['README']).is_file()
        for result in model.get('Results', []):  # results of others are attributed
            assert result['Reported By'] and result['Metrics']


@pytest.mark.parametrize('name', [name for name in NAMES if '/' in name])
def test_the_metafile_of_the_folder_lists_the_config(name):
    metafile = (CONFIGS / name).parent / 'metafile.yml'
    assert metafile.is_file(), f'write {metafile}'
    listed = [entry['Config'] for entry in yaml.safe_load(metafile.read_text())['Models']]
    assert f'configs/{name}' in listed, f'{metafile} has no entry of {name}'


@pytest.mark.parametrize('model', [
    model for metafile in CONFIGS.rglob('metafile.yml') for model in yaml.safe_load(metafile.read_text())['Models']],
    ids=lambda model: model['Name'])
def test_metafile_numbers(model):
    name = model['Config'].removeprefix('configs/').removesuffix('.py')
    cfg = load(name)
    parameters = sum(p.numel() for p in built(name).parameters()) / 1e6
    assert parameters == pytest.approx(float(model['Metadata']['Parameters'].split()[0]), abs=0.06)
    unit = 'Epochs' if 'max_epochs' in cfg.train_cfg else 'Iterations'
    assert length(cfg) == model['Metadata'].get(unit, length(cfg))
