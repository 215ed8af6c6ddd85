"""Co-DETR: losses, gradients, customized queries and prediction."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope

from tests.detr.co_small import co_dino_cfg
from tests.detr.small import CLASSES, build, predict
from tests.hosts.test_matrix import samples
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.co_positives import PositionQuery, Positives, collate_positives

SHAPES = [(64, 96), (64, 96)]


def model_and_images(**changes):
    cfg = co_dino_cfg()
    cfg.update(changes)
    return build(cfg).train(), torch.randn(2, 3, 64, 96)


def test_every_part_learns():
    model, images = model_and_images()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(3):
        torch.manual_seed(0)  # the same noise and samples
        losses = model.loss(images, samples(None))
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[2] < totals[1] < totals[0]
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    silent = [name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().max() > 0]
    assert not [name for name in silent if name.split('.')[0] in (
        'backbone', 'aux_rpn_head', 'aux_roi_heads', 'aux_bbox_heads', 'customized_queries', 'downsample')
        and '.scales.' not in name]  # of a level without a positive anchor
    assert {'rpn.loss_rpn_cls', 'aux0.loss_bbox', 'aux1.loss_centerness', 'aux0.query_loss_cls',
            'aux1.d0.query_loss_iou'} <= set(losses)


@pytest.mark.parametrize(('part', 'reached'), [
    ('rpn.', {'aux_rpn_head'}), ('aux0.loss', {'aux_roi_heads'}), ('aux1.loss', {'aux_bbox_heads'}),
    ('aux0.query', {'decoder', 'bbox_head'}), ('aux1.query', {'decoder', 'bbox_head'})])
def test_each_loss_reaches_backbone_and_encoder(part, reached):
    model, images = model_and_images()
    losses = {name: value for name, value in model.loss(images, samples(None)).items() if name.startswith(part)}
    total, _ = model.parse_losses(losses)
    total.backward()
    touched = {name.split('.')[0] for name, p in model.named_parameters()
               if p.grad is not None and p.grad.abs().max() > 0}
    assert {'backbone', 'neck', 'encoder', *reached} <= touched


def test_weights_of_the_losses():
    found = {}
    for query, aux in ((1.0, 2.0), (0.5, 1.0)):
        model, images = model_and_images(customized_loss_weight=query, aux_loss_weight=aux)
        torch.manual_seed(0)
        found[query] = model.loss(images, samples(None))
    plain, half = found[1.0], found[0.5]
    for name, factor in (('aux0.query_loss_bbox', 2), ('aux1.loss_bbox', 2), ('aux0.loss_cls', 2), ('loss_cls', 1),
                         ('aux0.acc', 1), ('rpn.loss_rpn_cls', 2)):
        for left, right in zip(*(each[name] if isinstance(each[name], list) else [each[name]]
                                 for each in (plain, half))):
            torch.testing.assert_close(left, factor * right)
    model, images = model_and_images()  # lambda 2 is counted for both layers of the decoder
    torch.manual_seed(0)
    head = model.aux_bbox_heads[0]
    memory, inputs, _ = model._encode(images, samples(None))
    expected, _ = head.loss_and_positives(model.build_pyramid(memory, inputs['spatial_shapes']), samples(None))
    torch.testing.assert_close(plain['aux1.loss_bbox'][0], 2 * 2.0 * expected['loss_bbox'][0])


def test_targets_of_customized_queries():
    boxes = torch.tensor([[0.0, 0.0, 48.0, 32.0], [10.0, 20.0, 30.0, 60.0], [-8.0, 0.0, 40.0, 64.0]])
    objects = torch.tensor([[0.0, 0.0, 40.0, 30.0], [12.0, 20.0, 30.0, 50.0], [0.0, 0.0, 40.0, 64.0]])
    empty = Positives(boxes[:0], objects[:0], torch.zeros(0, dtype=torch.long))
    found = collate_positives([Positives(boxes, objects, torch.tensor([2, 0, 1])), empty], SHAPES, CLASSES, 300)
    for i, ((x1, y1, x2, y2), (a1, b1, a2, b2)) in enumerate(zip(boxes.tolist(), objects.tolist())):
        expected = [(x1 + x2) / 2 / 96, (y1 + y2) / 2 / 64, (x2 - x1) / 96, (y2 - y1) / 64]
        assert found.boxes[0, i].tolist() == pytest.approx(expected)
        assert found.targets[0, i].tolist() == pytest.approx(
            [(a1 + a2) / 2 / 96, (b1 + b2) / 2 / 64, (a2 - a1) / 96, (b2 - b1) / 64])
    assert found.labels.tolist() == [[2, 0, 1], [CLASSES] * 3]
    assert found.is_real.tolist() == [[True] * 3, [False] * 3]
    labels, weights, targets, box_weights, positives, negatives = found.as_dino_targets()
    assert (positives, negatives) == (3, 0) and [float(each.sum()) for each in weights] == [3, 0]
    assert [float(each.sum()) for each in box_weights] == [12, 0] and not targets[1].any()
    few = collate_positives([Positives(boxes, objects, torch.tensor([2, 0, 1]))], SHAPES[:1], CLASSES, 2)
    assert few.boxes.shape == (1, 2, 4)
    for box, label in zip(few.boxes[0], few.labels[0]):  # a box keeps its object
        assert label in found.labels[0, (found.boxes[0] - box).abs().sum(1) < 1e-6]


def test_padding_has_no_influence():
    model, images = model_and_images()
    model.eval()
    memory, inputs, _ = model._encode(images, samples(None))
    boxes = torch.rand(2, 3, 4) * 40
    boxes[..., 2:] += boxes[..., :2] + 4
    first, second = (Positives(each, each + 1, torch.tensor([0, 1, 2])) for each in boxes)
    outs = []
    for pair in ([first, second], [first, Positives(*(each[:1] for each in vars(second).values()))]):
        targets = collate_positives(pair, SHAPES, CLASSES, 300)
        states = model.forward_decoder(
            query=model.customized_queries[0](targets.boxes), memory=memory, reference_points=targets.boxes,
            dn_mask=targets.attention_mask(8), **inputs)['hidden_states']
        outs.append(states)
    torch.testing.assert_close(outs[0][:, 0], outs[1][:, 0])
    assert not torch.allclose(outs[0][:, 1, :1], outs[1][:, 1, :1])  # the queries of one image attend to each other


def test_images_without_objects():
    model, images = model_and_images()
    empty = samples(None)
    for each in empty:
        each.gt_instances = each.gt_instances[:0]
    total, _ = model.parse_losses(model.loss(images, empty))
    total.backward()
    assert torch.isfinite(total)
    assert not [name for name, p in model.customized_queries.named_parameters() if p.grad is None or p.grad.any()]


def test_contents_of_a_query():
    """Sines and cosines of x, y, width and height in turn, then a linear layer and a norm."""
    from vitdet_plugin.heads.co_positives import encode_boxes
    box = [0.1, 0.6, 0.3, 0.9]
    found = encode_boxes(torch.tensor([[box]]), 4)[0, 0].reshape(4, 4)
    for value, row in zip(box, found):
        angle = 2 * torch.pi * value
        expected = [f(torch.tensor(each)) for each in (angle, angle / 100) for f in (torch.sin, torch.cos)]
        torch.testing.assert_close(row, torch.stack(expected))
    assert PositionQuery(8)(torch.rand(2, 5, 4)).shape == (2, 5, 8)


def test_prediction_equals_dino():
    model, images = model_and_images()
    cfg = copy.deepcopy(co_dino_cfg())
    for name in [name for name in cfg if name.startswith('aux_') or name in ('proposal_cfg', 'customized_loss_weight')]:
        del cfg[name]
    cfg.type = 'DINO'
    cfg.bbox_head.type = 'OriginalDINOHead'
    dino = build(cfg, 1)
    result = dino.load_state_dict(model.state_dict(), strict=False)
    assert not result.missing_keys
    for found, expected in zip(predict(model.eval(), images, SHAPES), predict(dino, images, SHAPES), strict=True):
        assert torch.equal(found.bboxes, expected.bboxes) and torch.equal(found.scores, expected.scores)
        assert len(found) == 10


def test_soft_nms_and_other_heads():
    cfg = co_dino_cfg()
    cfg.test_cfg.nms = dict(type='soft_nms', iou_threshold=0.8)
    images = torch.randn(2, 3, 64, 96)
    query = predict(build(cfg), images, SHAPES)
    plain = predict(build(co_dino_cfg()), images, SHAPES)
    for found, before in zip(query, plain, strict=True):
        assert 0 < len(found) <= len(before) and (found.scores <= before.scores[:len(found)] + 1e-6).all()
    for head in ('roi_head.0', 'bbox_head.0'):
        found = predict(build({**co_dino_cfg(), 'predict_with': head}), images, SHAPES)
        assert all(each.bboxes.shape[1] == 4 and len(each) for each in found)


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(predict_with='rpn'), r"predict_with='rpn' is unknown; choose one of query, roi_head.0, bbox_head.0"),
    (dict(aux_rpn_head=None), r'aux_roi_heads requires proposals; set model\.aux_rpn_head')])
def test_mistakes(changes, message):
    init_default_scope('mmdet')
    with pytest.raises(UserError, match=message):
        build({**co_dino_cfg(), **changes})


def test_dinos_head_is_refused():
    cfg = co_dino_cfg()
    cfg.bbox_head.type = 'DINOHead'
    with pytest.raises(UserError, match=r"bbox_head\.type='DINOHead' cannot train customized queries"):
        build(cfg)
