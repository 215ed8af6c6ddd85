"""Warnings about splits in relation to each other, and hints for paths."""

import json
import shutil

import pytest

from vitdet_plugin.datasets.checks.across_splits import check_across_splits
from vitdet_plugin.datasets.checks.detection_data import check_dataset, suggest_slash
from vitdet_plugin.engine.preflight import inspect_config


def config(folder, val_file='coco.json', crop=64, test=64, **changes):
    load = [dict(type='LoadImageFromFile')]
    common = dict(type='CocoDataset', data_root=str(folder), data_prefix=dict(img='images/'))
    return dict(
        train_dataloader=dict(dataset=dict(ann_file='coco.json', **common, pipeline=[
            *load, dict(type='LargeScaleJitter', image_size=crop)])),
        val_dataloader=dict(dataset=dict(ann_file=val_file, **common, pipeline=[
            *load, dict(type='Resize', scale=(test, test), **changes)])))


@pytest.fixture
def folder(tiny_set, tmp_path):
    copy = shutil.copytree(tiny_set, tmp_path / 'set')
    shutil.copy(copy / 'coco.json', copy / 'val.json')
    return copy


def test_the_same_file_for_training_and_validation(folder):
    assert check_across_splits(config(folder, 'val.json'), ['train', 'val']) == []
    (found,) = check_across_splits(config(folder), ['train', 'val'])
    assert found.level == 'warning' and 'is also the file of train_dataloader.dataset' in found.text
    assert check_across_splits(config(folder), ['val']) == check_across_splits(config(folder), ['train']) == []
    (folder / 'link.json').symlink_to(folder / 'coco.json')
    assert len(check_across_splits(config(folder, 'link.json'), ['train', 'val'])) == 1


@pytest.mark.parametrize('crop, test, warns', [(64, 64, False), (64, 128, False), (64, 256, True), (512, 2048, True)])
def test_crops_far_smaller_than_test_images(folder, crop, test, warns):
    found = check_across_splits(config(folder, 'val.json', crop, test), ['train', 'val'])
    assert [each.level for each in found] == ['warning'] * warns
    if warns:
        assert f'up to {test} pixels' in found[0].text and f'training crops have {crop}' in found[0].text


def test_test_images_without_a_size_in_the_config(folder):
    cfg = config(folder, 'val.json', crop=16)
    cfg['val_dataloader']['dataset']['pipeline'].pop()
    assert 'up to 64 pixels' in check_across_splits(cfg, ['train', 'val'])[0].text
    cfg['val_dataloader']['dataset']['pipeline'].append(dict(type='Resize', scale_factor=0.25))
    assert check_across_splits(cfg, ['train', 'val']) == []


def test_a_forgotten_slash(folder, tiny_config):
    root = str(folder)
    assert suggest_slash(root + 'coco.json', [dict(data_root=root)]) == (
        f'{root}/coco.json exists; data_root={root!r} needs a slash at its end to be joined by +')
    for path, data_root in ((root + 'no.json', root), (root + '/no.json', root), ('x.json', ''),
                            (root + 'coco.json', None)):
        assert suggest_slash(path, [dict(data_root=data_root)]) == ''
    for loader in (tiny_config.train_dataloader, tiny_config.val_dataloader):
        loader.dataset.data_root = root
    tiny_config.val_evaluator.ann_file = root + 'coco.json'
    (text,) = [each.text for each in inspect_config(tiny_config, ['train', 'val']) if each.level == 'error']
    assert text.startswith('val_evaluator.ann_file') and f'{root}/coco.json exists; data_root=' in text
    cfg = dict(type='CocoDataset', data_root=root, ann_file=root + 'coco.json')
    assert f'{root}/coco.json exists' in check_dataset('train', cfg, True)[0].text


def test_folders_and_other_files_as_annotation_file(folder):
    common = dict(type='CocoDataset', data_root=str(folder), data_prefix=dict(img='images/'))
    (found,) = check_dataset('train', dict(common, ann_file=''), True)[:1]
    assert found.level == 'error'
    (folder / 'train.txt').write_text('001.jpg 0\n')
    (found,) = check_dataset('train', dict(common, ann_file='train.txt'), True)
    assert found.level == 'error' and f'{folder}/train.txt: not valid JSON' in found.text
    assert 'give a COCO annotation file (.json)' in found.text
    shutil.move(folder / 'coco.json', folder / 'images' / 'coco.json')
    (found,) = check_dataset('train', dict(common, ann_file='images'), True)
    assert found.level == 'error' and 'images: is a folder' in found.text and 'it holds coco.json' in found.text
    assert json.loads((folder / 'val.json').read_text())
