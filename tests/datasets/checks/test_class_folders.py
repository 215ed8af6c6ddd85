import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.datasets.checks.class_folders import (
    check_folder_dataset,
    compare_folders,
    folder_classes,
    is_folder_dataset,
)
from vitdet_plugin.engine.preflight import inspect_config

CLASSES = ('Black-grass', 'Fat Hen', 'Maize')


@pytest.fixture(scope='module', autouse=True)
def registered():
    import_scope('mmpretrain')


@pytest.fixture
def root(tmp_path):
    for split in ('train', 'val'):
        for name in CLASSES:
            folder = tmp_path / 'my plants' / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / '1 a.PNG')
    return tmp_path / 'my plants'


def config(root, **changes):
    return dict(dict(type='CustomDataset', data_root=str(root), data_prefix='train', metainfo=dict(classes=CLASSES)),
                **changes)


def check(cfg, is_training=True):
    return check_folder_dataset('train_dataloader.dataset', cfg, is_training)


def test_types_of_data_sets():
    assert is_folder_dataset(dict(type='ImageNet')) and is_folder_dataset(dict(type='mmpretrain.CustomDataset'))
    assert not is_folder_dataset(dict(type='CocoDataset')) and not is_folder_dataset(dict(type='Nothing'))


def test_a_valid_set_has_no_findings(root):
    assert check(config(root)) == []
    assert check(config(root, metainfo=None)) == []
    assert folder_classes(config(root)) == list(CLASSES)


@pytest.mark.parametrize('changes, message', [
    (dict(data_prefix='training'), 'holds train, val'),
    (dict(data_root='/no/such/place'), '/ exists and holds'),
    (dict(data_prefix='train/Maize'), 'no class folders'),
    (dict(metainfo=dict(classes=CLASSES[::-1])), 'another order'),
    (dict(metainfo=dict(classes=('Black-grass', 'Fat Hen', 'Wheat'))),
     "no folder for ['Wheat'], no class for the folder ['Maize']"),
    (dict(metainfo=dict(classes=CLASSES[:2])), "folders: ['Black-grass', 'Fat Hen', 'Maize']"),
    (dict(type='ImageNet', metainfo=None, data_prefix='', split='train'),
     "has 3 class folders (['Black-grass', 'Fat Hen', 'Maize'])"),
    (dict(extensions=('.jpg',)), 'it holds 1 a.PNG, but only .jpg are read'),
    (dict(ann_file='train.txt'), 'train.txt does not exist'),
])
def test_invalid_configs_are_reported(root, changes, message):
    found = [finding for finding in check(config(root, **changes)) if finding.level == 'error']
    text = found[0].text
    assert message in text and text.startswith('train_dataloader.dataset') and '\n' not in text


def test_an_empty_class_is_an_error_only_for_training(root):
    (root / 'train/Fat Hen/1 a.PNG').unlink()
    error, = check(config(root))
    warning, = check(config(root), is_training=False)
    assert error.level == 'error' and warning.level == 'warning' and "['Fat Hen']" in error.text == warning.text


def test_hidden_folders_count_as_classes_in_mmpretrain(root):
    (root / 'train/.ipynb_checkpoints').mkdir()
    assert "hidden folder ['.ipynb_checkpoints']" in check(config(root))[0].text


@pytest.mark.parametrize('lines, message', [
    ('Fat Hen/1 a.PNG 1\nMaize/1 a.PNG 3', 'line 2: label 3, but metainfo.classes has 3'),
    ('Fat Hen/1 a.PNG 1\nMaize/1 a.PNG', 'line 2: expected "path label"'),
    ('Fat Hen/2.PNG 1', '1 of the 1 images checked are not in'),
    ('Fat Hen/1 a.PNG 1\n\nMaize/1 a.PNG 2', 'line 2: expected "path label"'),  # mmpretrain stops there
    ('Fat Hen/1 a.PNG ²', 'line 1: expected "path label"'),
    ('', 'is empty'),
    ('Fat Hen/1 a.PNG 1\nMaize/1 a.PNG 2', None),
])
def test_list_files(root, lines, message):
    (root / 'list.txt').write_text(lines)
    found = check(config(root, ann_file='list.txt'))
    assert message in found[0].text if message else found == []


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True), st.lists(st.text(min_size=1), max_size=6))
def test_only_equal_lists_pass(found, required):
    assert (compare_folders(required, sorted(found)) == []) == (required == sorted(found))


def test_counts_and_splits_in_a_whole_config(root):
    from tests.configs.loading import CONFIGS
    from vitdet_plugin.config.loading import load_config
    cfg = load_config(str(CONFIGS / 'classification/vit-tiny_50e_plant-seedlings.py'))
    cfg.model.train_cfg = dict(augments=[dict(type='Mixup', alpha=0.2)])
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(data_root=str(root), metainfo=None)
    texts = [finding.text for finding in inspect_config(cfg, ['train', 'val'])]
    assert len(texts) == 3 and 'model.head.num_classes=12' in texts[2]
    assert 'but the data set has 3 classes; set it to 3' in texts[2]
    assert 'model.data_preprocessor.num_classes=12, but train_cfg.augments mix the labels of 3 classes' in texts[1]
    assert texts[0] == 'val_evaluator: top-5 accuracy of 3 classes cannot be computed; set topk to at most 3'
    cfg.val_evaluator[0].topk = (1, 3)
    cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = 3
    assert inspect_config(cfg, ['train', 'val']) == []
    shutil.rmtree(root / 'val/Maize')
    assert 'other classes than in the first data set' in inspect_config(cfg, ['train', 'val'])[0].text
