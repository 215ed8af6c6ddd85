"""The cascade RoI head: its differences from mmdet's."""

import pytest
import torch
from mmdet.structures.bbox import bbox2roi

from tests.heads.tiny_cascade import CLASSES, SIZE, boxes, cascade, features, proposals, samples

ROIS = torch.cat([torch.zeros(6, 1), boxes(6)], 1)
LOSS_NAMES = {f's{stage}.{name}' for stage in range(3) for name in ('loss_cls', 'loss_bbox', 'acc')}


def metas(*args, **kwargs):
    return [sample.metainfo for sample in samples(*args, **kwargs)]


def test_feature_gradients_are_scaled_by_a_third_and_weight_gradients_are_not():
    head = cascade(with_mask=False)
    x = features(1)
    scaled = head._bbox_forward(1, x, ROIS)['cls_score'].square().sum()
    plain = head.bbox_head[1](head.bbox_roi_extractor[1](x[:4], ROIS))[0].square().sum()
    assert scaled == plain
    weight = head.bbox_head[1].fc_cls.weight
    ours, reference = (torch.autograd.grad(loss, [x[0], weight]) for loss in (scaled, plain))
    assert reference[0].abs().max() > 0
    torch.testing.assert_close(ours[0], reference[0] / 3)
    torch.testing.assert_close(ours[1], reference[1])


def test_one_mask_head_and_three_box_heads():
    head = cascade()
    assert len(head.bbox_head) == 3
    masks = {name.split('.')[1] for name in head.state_dict() if name.startswith('mask_head.')}
    assert masks == {'convs', 'upsample', 'conv_logits'}  # no stage index


def test_box_deltas_are_class_agnostic_with_smaller_stds_in_later_stages():
    head = cascade()
    assert [stage.fc_reg.out_features for stage in head.bbox_head] == [4, 4, 4]
    stds = [list(stage.bbox_coder.stds) for stage in head.bbox_head]
    assert stds == [pytest.approx([1 / w, 1 / w, 2 / w, 2 / w]) for w in (10, 20, 30)]


def test_training_losses_are_finite_and_every_parameter_has_a_gradient():
    head = cascade()
    x = features()
    losses = head.loss(x, proposals(30, 30), samples(3, 2))
    assert set(losses) == LOSS_NAMES | {'loss_mask'}
    total = sum(value for name, value in losses.items() if 'loss' in name)
    assert total.isfinite() and all(value > 0 for name, value in losses.items() if 'loss_cls' in name)
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert x[0].grad.abs().max() > 0


def test_default_stage_loss_weights():
    assert list(cascade().stage_loss_weights) == [1.0, 1.0, 1.0]


def test_boxes_only():
    head = cascade(with_mask=False)
    assert set(head.loss(features(), proposals(30, 30), samples(3, 2))) == LOSS_NAMES
    result = head.predict(features(), proposals(5, 4), samples(0, 0))
    assert 'masks' not in result[0]


@pytest.mark.parametrize('counts', [(3, 0), (0, 0)])
def test_images_without_ground_truth_train(counts):
    head = cascade()
    losses = head.loss(features(), proposals(20, 20), samples(*counts))
    total = sum(value for name, value in losses.items() if 'loss' in name)
    assert total.isfinite()
    total.backward()
    assert all(p.grad is not None for p in head.parameters())  # all ranks must have gradients for the same parameters
    if counts == (0, 0):
        assert losses['loss_mask'] == 0 and losses['s0.loss_bbox'] == 0


@pytest.mark.parametrize('counts', [(0, 12), (0, 0)])
def test_no_proposals(counts):
    head = cascade()
    losses = head.loss(features(), proposals(*counts), samples(2, 0))
    assert all(value.isfinite().all() for value in losses.values())
    head.eval()
    with torch.no_grad():
        results = head.predict(features(), proposals(*counts), samples(0, 0))
    assert len(results[0]) == 0 and results[0].masks.shape == (0, SIZE, SIZE)
    assert (len(results[1]) > 0) == (counts[1] > 0)


def test_refined_boxes_are_clipped_to_the_image_and_not_to_the_padding():
    head = cascade()
    deltas = torch.full((6, 4), 30.0)  # far to the right and below
    results = dict(cls_score=torch.zeros(6, CLASSES + 1), bbox_pred=deltas)
    [refined] = head._refine(0, ROIS, results, metas(0, img_shape=(40, 50)), (6,))
    assert refined[:, [0, 2]].max() <= 50 and refined[:, [1, 3]].max() <= 40
    assert refined[:, 2].max() == 50 and refined[:, 3].max() == 40


@torch.no_grad()
def test_predicted_boxes_stay_inside_an_image_smaller_than_its_padding():
    head = cascade().eval()
    [result] = head.predict(features(1), proposals(40), samples(0, img_shape=(40, 50)), rescale=False)
    assert len(result) > 0
    assert result.bboxes[:, 2].max() <= 50 and result.bboxes[:, 3].max() <= 40


def test_refined_boxes_of_training_are_kept_except_those_without_area(monkeypatch):
    """Ground truth that stage 0 added stays among the proposals, as in detectron2."""
    head, x = cascade(with_mask=False), features(1)
    received = []
    original = head._assign_and_sample
    monkeypatch.setattr(head, '_assign_and_sample', lambda stage, x, boxes, *rest: received.append(
        boxes[0].bboxes) or original(stage, x, boxes, *rest))
    empty = torch.tensor([[200.0, 200, 210, 210]])  # clips to nothing
    given = proposals(10)
    given[0] = given[0].new(bboxes=torch.cat([given[0].bboxes, empty]), scores=torch.ones(11))
    head.loss(x, given, samples(2))
    first, second, third = (len(boxes) for boxes in received)
    assert first == 11 and second == 10 + 2 and third <= second
    assert all((boxes[:, 2:] > boxes[:, :2]).all() for boxes in received[1:])


def expected_scores(head, x, rois, img_metas):
    """Mean of the stages' probabilities at their refined boxes, computed with mmdet's modules."""
    probabilities = []
    for stage, box_head in enumerate(head.bbox_head):
        scores, deltas = box_head(head.bbox_roi_extractor[stage](x[:4], rois))
        probabilities.append(scores.softmax(1))
        decoded = box_head.bbox_coder.decode(rois[:, 1:], deltas, max_shape=img_metas[0]['img_shape'])
        last, rois = rois, torch.cat([rois[:, :1], decoded], 1)
    return sum(probabilities) / len(probabilities), last, rois


@torch.no_grad()
def test_probabilities_are_averaged_over_the_stages():
    head, x = cascade().eval(), features(1)
    mean, last_rois, _ = expected_scores(head, x, ROIS, metas(0))
    rois, scores, _ = head._refine_roi(x, ROIS, metas(0), (6,))
    torch.testing.assert_close(scores[0].softmax(1), mean)
    torch.testing.assert_close(rois[0], last_rois)


@torch.no_grad()
def test_probabilities_are_averaged_with_sigmoid_scores_too():
    head, x = cascade(loss_cls=dict(type='FederatedSigmoidLoss')).eval(), features(1)
    rois, stages = ROIS, []
    for stage in range(3):
        results = head._bbox_forward(stage, x, rois)
        stages.append(results['cls_score'][:, :-1].sigmoid())
        rois = bbox2roi(head._refine(stage, rois, results, metas(0), (6,)))
    _, scores, _ = head._refine_roi(x, ROIS, metas(0), (6,))
    found = head.bbox_head[-1].loss_cls.get_activation(scores[0])
    torch.testing.assert_close(found[:, :-1], sum(stages) / 3)
    assert (found[:, -1] == 0).all()


@torch.no_grad()
def test_detections_do_not_depend_on_the_rest_of_the_batch():
    head, x = cascade().eval(), features(2)
    both = head.predict(x, proposals(8, 5), samples(0, 0))
    alone = head.predict(tuple(level[:1] for level in x), proposals(8), samples(0))
    torch.testing.assert_close(both[0].bboxes, alone[0].bboxes, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(both[0].scores, alone[0].scores, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_forward_returns_raw_outputs():
    head = cascade().eval()
    scores, deltas, masks = head.forward(features(), proposals(4, 3), samples(0, 0))
    assert [len(s) for s in scores] == [4, 3] and deltas[0].shape == (4, 4)
    assert masks.shape == (7, CLASSES, 28, 28)
