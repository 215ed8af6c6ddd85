"""Token-label files: reading, cropping, flipping, and the targets of the loss."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from torchvision.ops import roi_align

from tests.datasets.tiny_classes import CLASSES, write_class_folders
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.datasets.token_labels import (
    LoadTokenLabels,
    RandomResizedCropWithBox,
    dense_map,
    pool,
    read_token_labels,
)
from vitdet_plugin.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


def write_labels(file: Path, rows: int = 6, columns: int = 6, classes: int = 3, top: int = 2, seed: int = 0):
    """Write a file in the official format and return its dense map (classes, rows, columns)."""
    logits = torch.randn(classes, rows, columns, generator=torch.Generator().manual_seed(seed)).half()
    values, indices = logits.topk(top, dim=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.stack([values, indices.half()]), file)
    return torch.zeros(classes, rows, columns).scatter_(0, indices, values.float())


def test_classes_that_are_not_in_the_file_are_zero(tmp_path):
    expected = write_labels(tmp_path / 'a.pt', classes=9, top=3)
    classes, maps = dense_map(read_token_labels(tmp_path / 'a.pt'))
    assert classes.dtype == torch.int64 and classes.tolist() == sorted(set(classes.tolist()))
    found = torch.zeros(9, 6, 6)
    found[classes] = maps
    assert torch.equal(found, expected)


def test_pooling_of_whole_cells_is_exact():
    maps = torch.randn(3, 4, 8)
    torch.testing.assert_close(pool(maps, (0, 0, 1, 1), (4, 8)), maps)
    torch.testing.assert_close(pool(maps, (2 / 8, 1 / 4, 6 / 8, 3 / 4), (2, 4)), maps[:, 1:3, 2:6])
    torch.testing.assert_close(pool(maps, (0, 0, 1, 1), (2, 4)), F.avg_pool2d(maps, 2))


@settings(max_examples=50)
@given(st.floats(0.1, 0.5), st.floats(0.1, 0.5), st.floats(0.2, 0.4), st.floats(0.2, 0.4))
def test_the_crop_is_pooled_at_the_right_positions(x, y, width, height):
    """On a map that grows linearly, the average of a cell is the value at its center."""
    columns, rows = torch.meshgrid((torch.arange(20) + 0.5) / 20, (torch.arange(10) + 0.5) / 10, indexing='xy')
    found = pool(torch.stack([columns, rows]), (x, y, x + width, y + height), (5, 4))
    torch.testing.assert_close(found[0], (x + width * (torch.arange(4) + 0.5) / 4).expand(5, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], (y + height * (torch.arange(5) + 0.5) / 5)[:, None].expand(5, 4), atol=1e-5,
                               rtol=0)


def test_the_crop_equals_that_of_mmpretrain_and_returns_its_box():
    from mmpretrain.datasets.transforms import RandomResizedCrop
    columns, rows = np.meshgrid(np.arange(200), np.arange(100))
    image = np.stack([columns, rows, 0 * rows], 2).astype(np.uint8)
    kwargs = dict(scale=(30, 40), backend='pillow', interpolation='bicubic')
    for seed in range(5):
        np.random.seed(seed)
        found = RandomResizedCropWithBox(**kwargs)(dict(img=image))
        np.random.seed(seed)
        assert np.array_equal(found['img'], RandomResizedCrop(**kwargs)(dict(img=image))['img'])
        x1, y1, x2, y2 = found['crop_box']
        middle = found['img'][14:16, 19:21, :2].mean((0, 1)) + 0.5  # pixel i reaches from i to i + 1
        assert np.allclose(middle, (100 * (x1 + x2), 50 * (y1 + y2)), atol=1.5)


@pytest.mark.parametrize('direction, axes', [('horizontal', 2), ('vertical', 1), ('diagonal', (1, 2))])
def test_labels_are_flipped_with_the_image(tmp_path, direction, axes):
    write_labels(tmp_path / 'Maize' / '1.pt')
    load, box = LoadTokenLabels(str(tmp_path), 4), (0.1, 0.2, 0.8, 0.7)
    plain = load(dict(img_path='train/Maize/1.png', crop_box=box, flip=False, flip_direction=None))
    flipped = load(dict(img_path='train/Maize/1.png', crop_box=box, flip=True, flip_direction=direction))
    assert torch.equal(flipped['gt_token_logits'], plain['gt_token_logits'].flip(axes))
    assert torch.equal(flipped['gt_cls_logits'], plain['gt_cls_logits'])


def test_errors_name_the_file(tmp_path):
    load = LoadTokenLabels(str(tmp_path), 4)
    with pytest.raises(UserError, match='RandomResizedCropWithBox before it'):
        load(dict(img_path='a/b.png'))
    with pytest.raises(UserError, match=r'a/b\.pt do not exist'):
        load(dict(img_path='a/b.png', crop_box=(0, 0, 1, 1)))
    (tmp_path / 'a').mkdir()
    torch.save(torch.zeros(5, 6, 6), tmp_path / 'a/b.pt')
    with pytest.raises(UserError, match=r'b\.pt: expected a tensor \(2, k, rows, columns\), found \(5, 6, 6\)'):
        load(dict(img_path='a/b.png', crop_box=(0, 0, 1, 1)))


def test_the_configs_pipeline_feeds_the_loss(tmp_path):
    """Targets of a batch from the config's own pipeline equal the formula over all classes."""
    root = write_class_folders(tmp_path / 'train', per_class=1, suffixes=('.png',))
    expected = {name: write_labels(tmp_path / 'labels' / name / '00.pt', seed=i) for i, name in enumerate(CLASSES)}
    cfg = load_config(str(ROOT / 'configs/classification/volo-d1_310e_imagenet-token-labels.py'))
    steps = copy.deepcopy(cfg.train_dataloader.dataset.pipeline)
    steps[1].update(scale=(32, 48))
    load = next(step for step in steps if step.type == 'LoadTokenLabels')
    load.update(root=str(tmp_path / 'labels'), grid=(2, 3))
    boxes, pipeline = [], []
    for step in steps:
        pipeline.append(TRANSFORMS.build(step))
        if step.type == 'RandomFlip':
            pipeline.append(lambda results: boxes.append((results['crop_box'], results['flip'])) or results)
    np.random.seed(0)
    samples = []
    for name in CLASSES:
        results = dict(img_path=str(root / name / '00.png'), gt_label=CLASSES.index(name))
        for step in pipeline:
            results = step(results)
        samples.append(results['data_samples'])
    assert cv2.imread(str(root / CLASSES[0] / '00.png')).shape == (32, 40, 3)
    head = MODELS.build({**cfg.model.head, 'num_classes': 3, 'in_channels': 32, 'num_heads': 4})
    x = torch.randn(3, 32, 2, 3)
    losses = head.loss((x,), samples)
    cls_logits, aux_logits = head.both_logits(x)
    corners = torch.tensor([[x1 * 6, y1 * 6, x2 * 6, y2 * 6] for (x1, y1, x2, y2), _ in boxes]) - 0.5
    rois, maps = torch.cat([torch.arange(3.0)[:, None], corners], 1), torch.stack(list(expected.values()))
    smooth = lambda logits: 0.9 * logits.softmax(1) + 0.1 / 3  # noqa: E731
    targets = smooth(roi_align(maps, rois, (2, 3)))
    targets = torch.stack([each.flip(2) if flip else each for each, (_, flip) in zip(targets, boxes)])
    assert {flip for _, flip in boxes} == {True, False}
    whole = smooth(roi_align(maps, rois, (1, 1))[..., 0, 0])
    torch.testing.assert_close(losses['loss'], F.cross_entropy(cls_logits, whole))
    torch.testing.assert_close(losses['loss_aux'], 0.5 * F.cross_entropy(aux_logits.permute(0, 3, 1, 2), targets))
    with pytest.raises(UserError, match=r'grid of \(2, 3\), but the last map has \(3, 3\)'):
        head.loss((torch.randn(3, 32, 3, 3),), samples)
    head.num_classes = 2
    with pytest.raises(UserError, match='have class 2, but the head has num_classes=2'):
        head.loss((x,), samples)
