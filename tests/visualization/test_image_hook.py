import types

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import HOOKS
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from tests.end_to_end.tiny_set import CLASSES, write_tiny_set
from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.image_hook import PredictionImageHook, annotated_objects, predicted_objects

SQUARE = np.zeros((8, 8), np.uint8)
SQUARE[2:6, 1:5] = 1


def rle(compressed=True):
    packed = mask_utils.encode(np.asfortranarray(SQUARE))
    if compressed:
        return packed
    flat, counts, last = SQUARE.T.ravel(), [0], 0
    for value in flat:
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return dict(size=[8, 8], counts=counts)


@pytest.mark.parametrize('mask', [[[1, 2, 5, 2, 5, 6, 1, 6]], rle(), rle(compressed=False)])
def test_formats_of_annotated_masks(mask):
    instances = [dict(bbox=[1, 2, 5, 6], bbox_label=2, mask=mask, ignore_flag=0),
                 dict(bbox=[0, 0, 8, 8], bbox_label=1, mask=mask, ignore_flag=1)]
    objects = annotated_objects(instances, (8, 8))
    assert objects.labels.tolist() == [2] and np.array_equal(objects.masks[0], SQUARE.astype(bool))
    assert annotated_objects([dict(bbox=[1, 2, 5, 6], bbox_label=0)], (8, 8)).masks is None
    assert len(annotated_objects([], (8, 8))) == 0


@pytest.mark.parametrize('masks', [torch.from_numpy(SQUARE)[None].bool(), [rle()], None])
def test_formats_of_predicted_masks(masks):
    found = InstanceData(bboxes=torch.ones(1, 4), labels=torch.ones(1, dtype=torch.long), scores=torch.ones(1))
    if masks is not None:
        found.masks = masks
    objects = predicted_objects(DetDataSample(pred_instances=found), (8, 8))
    assert (objects.masks is None) if masks is None else np.array_equal(objects.masks[0], SQUARE.astype(bool))


@pytest.mark.parametrize('most, written', [(0, 5), (3, 3), (2, 2), (99, 5)])
def test_images_are_evenly_spaced(tmp_path, most, written):
    from mmdet.datasets import CocoDataset
    root = write_tiny_set(tmp_path / 'set', images=5)
    dataset = CocoDataset(ann_file='coco.json', data_root=str(root), data_prefix=dict(img='images/'),
                          metainfo=dict(classes=CLASSES), test_mode=True, pipeline=[])
    loader = types.SimpleNamespace(dataset=dataset, batch_size=2)
    runner = types.SimpleNamespace(test_dataloader=loader, visualizer=types.SimpleNamespace(dataset_meta=None))
    hook = PredictionImageHook(str(tmp_path / 'out'), max_images=most)
    hook.before_test(runner)
    for batch in range(3):
        samples = []
        for index in range(2 * batch, min(2 * batch + 2, 5)):
            info = dataset.get_data_info(index)
            sample = DetDataSample(metainfo=dict(img_path=info['img_path'], img_id=info['img_id']))
            sample.pred_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long),
                                                 scores=torch.zeros(0))
            samples.append(sample)
        hook.after_test_iter(runner, batch, outputs=samples)
    images = sorted((tmp_path / 'out').glob('*.jpg'))
    assert len(images) == written and images[0].name == '001.jpg'
    assert cv2.imread(str(images[0])).shape[1] == 2 * 560 + 36  # two panels, with ground truth


def test_former_names(tmp_path):
    former = dict(type='PredictionPictureHook', out_dir=str(tmp_path), max_pictures=7)  # language: ok
    hook = HOOKS.build(former)
    assert isinstance(hook, PredictionImageHook) and hook.max_images == 7


@pytest.mark.parametrize(('files', 'written'), [(('a.jpg', 'a.png'), ['a.jpg.jpg', 'a.png.jpg']),
                                                (('x/im.png', 'y/im.png'), ['x_im.jpg', 'y_im.jpg'])])
def test_images_of_equal_names_have_different_figures(tmp_path, files, written):
    infos = []
    for number, name in enumerate(files):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
        infos.append(dict(img_path=str(tmp_path / name), img_id=number, instances=[]))
    dataset = type('Dataset', (), dict(get_data_info=lambda self, index: infos[index], __len__=lambda self: 2,
                                       metainfo=dict(classes=CLASSES)))()
    runner = types.SimpleNamespace(test_dataloader=types.SimpleNamespace(dataset=dataset, batch_size=2),
                                   visualizer=types.SimpleNamespace(dataset_meta=None))
    hook = PredictionImageHook(str(tmp_path / 'out'))
    hook.before_test(runner)
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0))
    hook.after_test_iter(runner, 0, outputs=[
        DetDataSample(metainfo=dict(img_path=info['img_path'], img_id=info['img_id']), pred_instances=empty)
        for info in infos])
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == written


def test_images_of_the_dataset_are_not_replaced(tmp_path):
    """The folder of the images as output folder."""
    cv2.imwrite(str(tmp_path / 'a.jpg'), np.zeros((8, 8, 3), np.uint8))
    dataset = type('Dataset', (), dict(get_data_info=lambda self, index: dict(img_path=str(tmp_path / 'a.jpg')),
                                       __len__=lambda self: 1))()
    runner = types.SimpleNamespace(test_dataloader=types.SimpleNamespace(dataset=dataset))
    with pytest.raises(UserError, match='a.jpg would be replaced, which is an input; choose another path'):
        PredictionImageHook(str(tmp_path)).before_test(runner)
