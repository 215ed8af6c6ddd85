import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from vitdet_plugin.engine.tta import FlipTTAModel


class Stub(nn.Module):
    def test_step(self, data):
        return data


def view(boxes, scores, flip, width=20, height=10):
    sample = DetDataSample(metainfo=dict(flip=flip, flip_direction='horizontal', ori_shape=(height, width)))
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = True
    sample.pred_instances = InstanceData(bboxes=torch.tensor(boxes).float(), scores=torch.tensor(scores),
                                         labels=torch.zeros(len(boxes), dtype=torch.long), masks=masks)
    return sample


@pytest.fixture
def model():
    return FlipTTAModel(nms=dict(type='nms', iou_threshold=0.5), max_per_img=2, module=Stub())


def test_the_best_view_of_an_object_is_kept_with_its_own_mask(model):
    """One object has score 0.4 in the original view and 0.9 in the flipped one, another is found in one view only."""
    original, flipped = view([[2, 1, 8, 9]], [0.4], False), view([[12, 1, 18, 9], [0, 0, 4, 4]], [0.9, 0.6], True)
    (merged,) = model.merge_preds([(original, flipped)])
    found = merged.pred_instances
    assert found.bboxes.tolist() == [[2, 1, 8, 9], [16, 0, 20, 4]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.bboxes.int().tolist()):
        assert mask[y1:y2, x1:x2].all() and mask.sum() == (x2 - x1) * (y2 - y1)


def test_limits_and_empty_images(model):
    many = view([[0, 0, 3, 3], [5, 0, 8, 3], [10, 0, 13, 3]], [0.3, 0.2, 0.1], False)
    empty = view([], [], True)
    empty.pred_instances.bboxes = torch.zeros(0, 4)
    assert len(model.merge_preds([(many, empty)])[0].pred_instances) == 2
    first = view([], [], False)
    first.pred_instances.bboxes = torch.zeros(0, 4)
    assert len(model.merge_preds([(first, empty)])[0].pred_instances) == 0
