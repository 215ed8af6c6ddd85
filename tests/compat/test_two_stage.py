"""The samples of the region proposal network share their masks with the original ones."""

from types import SimpleNamespace

import numpy as np
import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from vitdet_plugin.compat.two_stage import shared_element


class Recorder:
    """Detector that records what its two heads get."""

    with_rpn, train_cfg, test_cfg = True, dict(rpn_proposal={}), SimpleNamespace(rpn={})

    def __init__(self):
        self.rpn_head = self.roi_head = self
        self.seen = []

    def extract_feat(self, images):
        return images

    def loss_and_predict(self, maps, samples, proposal_cfg):
        self.seen.append(samples)
        self.loss = lambda maps, proposals, samples: self.seen.append(samples) or {}
        return dict(loss_cls=torch.zeros(())), []


def sample():
    result = DetDataSample(metainfo=dict(img_shape=(8, 8)))
    result.gt_instances = InstanceData(bboxes=torch.ones(2, 4), labels=torch.tensor([3, 4]),
                                       masks=BitmapMasks(np.zeros((2, 8, 8), np.uint8), 8, 8))
    return result


def test_one_class_for_the_proposals_only():
    samples, detector = [sample(), sample()], Recorder()
    assert 'rpn_loss_cls' in TwoStageDetector.loss(detector, torch.zeros(2, 3, 8, 8), samples)
    proposal_samples, roi_samples = detector.seen
    assert roi_samples is samples
    for ours, original in zip(proposal_samples, samples, strict=True):
        assert ours.gt_instances.labels.tolist() == [0, 0] and original.gt_instances.labels.tolist() == [3, 4]
        assert ours.gt_instances.masks is original.gt_instances.masks and ours.img_shape == (8, 8)


def test_fields_of_a_copy_are_its_own():
    original = sample().gt_instances
    shared = shared_element(original)
    shared.scores = torch.zeros(2)
    shared.pop('bboxes')
    assert set(original.keys()) == {'bboxes', 'labels', 'masks'}
    assert set(shared.keys()) == {'scores', 'labels', 'masks'} and shared.masks is original.masks
