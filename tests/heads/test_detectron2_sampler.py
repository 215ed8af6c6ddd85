"""The samples of an image count as ``num`` in the average of the losses."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.configs.loading import load
from vitdet_plugin.heads.detectron2_assigner import Detectron2Assigner
from vitdet_plugin.heads.detectron2_sampler import Detectron2Sampler

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50], [60, 60, 70, 70]])


@pytest.mark.parametrize(('objects', 'counts'), [([[0.0, 0, 10, 10]], (1, 3)), ([], (0, 4))])
def test_an_image_without_positive_anchors_counts_like_any_other(objects, counts):
    objects = InstanceData(bboxes=torch.tensor(objects).reshape(-1, 4), labels=torch.zeros(len(objects)).long())
    anchors = InstanceData(priors=ANCHORS)
    sampler = Detectron2Sampler(num=4, pos_fraction=0.5, add_gt_as_proposals=False)
    result = sampler.sample(Detectron2Assigner(0.7, 0.3).assign(anchors, objects), anchors, objects)
    assert (len(result.pos_inds), len(result.neg_inds)) == counts
    assert result.avg_factor == 4


def test_losses_of_the_recipe_are_averaged_over_the_samples_of_all_images():
    """One image has no object: mmdet divides by 2 * num + 1."""
    cfg = load('vitdet_100e').model
    head = dict(cfg.rpn_head, in_channels=4, feat_channels=4, train_cfg=cfg.train_cfg.rpn, test_cfg=cfg.test_cfg.rpn)
    head = MODELS.build(head)
    levels = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    count = 3 * sum(h * w for h, w in levels)
    head.sampler.num = count
    head.sampler.pos_fraction = 1.0
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(2, 3, *size, generator=generator) for size in levels]
    deltas = [torch.zeros(2, 12, *size) for size in levels]
    objects = [InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([0])),
               InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())]
    metas = [dict(img_shape=(64, 64), pad_shape=(64, 64))] * 2
    loss = sum(head.loss_by_feat(scores, deltas, objects, metas)['loss_rpn_cls'])

    anchors = InstanceData(priors=torch.cat(head.prior_generator.grid_priors(levels, device='cpu')))
    expected = 0.0
    for i in range(2):
        target = head.assigner.assign(anchors, objects[i]).gt_inds
        logits = torch.cat([level[i].permute(1, 2, 0).flatten() for level in scores])[target >= 0]
        expected += binary_cross_entropy_with_logits(logits, target[target >= 0].clamp(max=1).float(), reduction='sum')
    torch.testing.assert_close(loss, expected / (2 * count))
