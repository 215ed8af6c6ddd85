import cv2
import numpy as np
import pytest
import torch

from tests.datasets.tiny_classes import write_class_folders
from tests.end_to_end.tiny_set import CONFIG, load_tool, write_tiny_set
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.visualization.browse import mixed_batch, objects_of_sample
from vitdet_plugin.visualization.sheet import contact_sheet

browse = load_tool('dataset/browse').main


def test_boxes_and_masks_of_a_detection_config(tmp_path):
    write_tiny_set(tmp_path / 'set', images=4)
    options = ['--cfg-options', f'train_dataloader.dataset.data_root={tmp_path / "set"}']
    assert browse([str(CONFIG), '--out', str(tmp_path / 'my out'), '--count', '2', '--repeats', '1', *options]) == 0
    files = sorted((tmp_path / 'my out').iterdir())
    assert [file.name for file in files] == ['000000.jpg', '000003.jpg']
    image = cv2.imread(str(files[0]))
    assert image.shape[1] > 2 * 480 and image.std() > 10
    halves = image[8:488, 8:488], image[8:488, 496:976]  # equal, as this config has no augmentation
    assert np.abs(halves[0].astype(int) - halves[1]).mean() < 8


def test_objects_after_a_flip(tmp_path):
    from mmdet.registry import DATASETS
    write_tiny_set(tmp_path, images=1)
    cfg = load_config(str(CONFIG), [f'train_dataloader.dataset.data_root={tmp_path}']).train_dataloader.dataset
    plain = DATASETS.build(cfg)[0]
    cfg.pipeline.insert(2, dict(type='RandomFlip', prob=1.0))
    flipped = DATASETS.build(cfg)[0]
    one, other = (objects_of_sample(each['data_samples'], (64, 64)) for each in (plain, flipped))
    assert (one.masks[:, :, ::-1] == other.masks).all() and one.masks.any()
    np.testing.assert_allclose(other.boxes[:, 0], 64 - one.boxes[:, 2])


@pytest.fixture
def classifier(tmp_path):
    return write_classifier(tmp_path, write_class_folders(tmp_path / 'a set', per_class=2))[0]


def test_samples_of_a_classification_config(classifier, tmp_path, capsys):
    assert browse([classifier, '--out', str(tmp_path / 'out'), '--count', '4', '--repeats', '2']) == 0
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['samples.jpg']
    assert cv2.imread(str(tmp_path / 'out' / 'samples.jpg')).std() > 20
    assert browse([classifier, '--out', str(tmp_path / 'out'), '--split', 'val']) == 2
    assert 'has no val_dataloader' in capsys.readouterr().err


def test_mixed_images_match_their_soft_labels(classifier, tmp_path):
    cfg = load_config(classifier)
    sample = dict(inputs=torch.full((3, 8, 8), 40, dtype=torch.uint8))
    assert mixed_batch(cfg, [sample]) is None
    cfg.model.train_cfg = dict(augments=dict(type='Mixup', alpha=1.0))
    out = tmp_path / 'out'
    from mmengine.config import Config
    cfg.dump(tmp_path / 'mixed.py')
    assert isinstance(Config.fromfile(tmp_path / 'mixed.py'), Config)
    assert browse([str(tmp_path / 'mixed.py'), '--out', str(out), '--count', '4', '--repeats', '1']) == 0
    assert cv2.imread(str(out / 'batch.jpg')).std() > 10
    from mmpretrain.structures import DataSample
    bright = dict(inputs=torch.full((3, 8, 8), 200, dtype=torch.uint8), data_samples=DataSample().set_gt_label(2))
    dark = dict(inputs=torch.full((3, 8, 8), 40, dtype=torch.uint8), data_samples=DataSample().set_gt_label(0))
    cfg.model.train_cfg = dict(augments=[dict(type='Mixup', alpha=1.0), dict(type='CutMix', alpha=1.0)],
                               probs=[1e-9, 0.0])  # mixed although the probability is low
    images, targets = mixed_batch(cfg, [bright, dark])
    for image, target in zip(images, targets):
        assert target.gt_score.sum() == pytest.approx(1)
        assert image.mean() == pytest.approx(200 * target.gt_score[2].item() + 40 * target.gt_score[0].item(), abs=1)


def test_size_of_a_contact_sheet():
    images = [np.full((10, 20, 3), 200, np.uint8), np.full((40, 10, 3), 100, np.uint8)] * 2
    sheet = contact_sheet(images, ['a', 'b\nlonger than the cell by far', 'c', 'd'], columns=3, side=60)
    assert sheet.shape[1] == 3 * 68 + 8 and sheet.shape[0] == 2 * (68 + 36) + 8
