"""YOLOv5's head: loss compared with a plain loop, decoding, initial values, selection of boxes."""

import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from tests.heads.yolov5_oracle import assignment, loss_parts
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.yolov5_assigner import assign_level
from vitdet_plugin.heads.yolov5_head import COCO_ANCHORS, YOLOv5Head, select_boxes

STRIDES = (8, 16, 32)


def head(num_classes=3, **kwargs):
    torch.manual_seed(0)
    return YOLOv5Head(num_classes, in_channels=[4, 6, 8], **kwargs)


def maps(num_classes, images, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 3, rows * 4 // 2 ** i, columns * 4 // 2 ** i, 5 + num_classes, generator=generator)
            for i in range(3)]


@st.composite
def scenes(draw):
    """(rows and columns of 32 pixels, images, objects); centers also on the edges and in the middle of cells."""
    rows, columns, images = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    count = draw(st.integers(0, 8))

    def coordinate(side):
        inside, on_edges = st.floats(0.125, side * 32 - 0.125, width=32), st.integers(0, side * 8).map(lambda k: 4 * k)
        return draw(st.one_of(inside, on_edges))

    targets = [(draw(st.integers(0, images - 1)), draw(st.integers(0, 2)), coordinate(columns), coordinate(rows),
                draw(st.floats(2, 400, width=32)), draw(st.floats(2, 400, width=32))) for _ in range(count)]
    return rows, columns, images, torch.tensor(targets, dtype=torch.float64).reshape(-1, 6)


@settings(max_examples=40)
@given(scenes())
def test_assignment_equals_the_plain_loop(scene):
    rows, columns, _, targets = scene
    for anchors, stride in zip(COCO_ANCHORS, STRIDES):
        shape = rows * 32 // stride, columns * 32 // stride
        found = assign_level(targets, torch.tensor(anchors, dtype=torch.float64), shape, stride)
        expected = assignment(targets, anchors, shape, stride)
        ours = list(zip(*(each.tolist() for each in found[:5])))
        assert ours == [each[:5] for each in expected]
        torch.testing.assert_close(found.box, torch.tensor([e[5] for e in expected], dtype=torch.float64).view(-1, 4))
        assert all(0 <= row < shape[0] and 0 <= column < shape[1] for _, _, row, column, _ in ours)


@settings(max_examples=25)
@given(scenes(), st.sampled_from([1, 3]), st.sampled_from([0.0, 0.1]))
def test_loss_equals_the_plain_loop(scene, num_classes, smoothing):
    rows, columns, images, targets = scene
    targets[:, 1].clamp_(max=num_classes - 1)
    preds = maps(num_classes, images, rows, columns, seed=len(targets))
    gains = dict(box=1.0, obj=1.0, cls=1.0)
    parts = head(num_classes, gains=gains, scale_gains=False, label_smoothing=smoothing).loss_of_targets(preds, targets)
    expected = loss_parts(preds, targets, COCO_ANCHORS, STRIDES, num_classes, smoothing)
    found = [float(parts[name]) for name in ('loss_bbox', 'loss_obj', 'loss_cls')]
    assert found == pytest.approx(expected, rel=2e-4, abs=1e-5)


def test_the_later_of_two_objects_in_a_cell_counts():
    """The objectness target is the IoU of the later object, on every run and device."""
    targets = torch.tensor([[0, 0, 36.0, 36, 30, 30], [0, 1, 36, 36, 60, 20]])
    preds = [torch.zeros(1, 3, 2 ** (3 - i), 2 ** (3 - i), 8) for i in range(3)]
    for pred in preds:
        pred[..., 4] = 1  # at 0 the cross entropy is the same for every target
    losses = []
    for order in ([0, 1], [1, 0]):
        losses.append(head().loss_of_targets(preds, targets[order])['loss_obj'].item() / head().gains['obj'])
        assert losses[-1] == pytest.approx(loss_parts(preds, targets[order], COCO_ANCHORS, STRIDES, 3)[1], rel=1e-5)
    assert abs(losses[0] - losses[1]) > 1e-3


def test_gains_follow_levels_classes_and_size():
    assert head(80).gains == pytest.approx(dict(box=0.05, cls=0.5, obj=1.0))
    assert head(20, img_size=320).gains == pytest.approx(dict(box=0.05, cls=0.125, obj=0.25))
    four = YOLOv5Head(80, in_channels=[4] * 4, anchors=(*COCO_ANCHORS, COCO_ANCHORS[-1]), strides=(8, 16, 32, 64))
    assert four.gains == pytest.approx(dict(box=0.0375, cls=0.375, obj=0.75))
    assert four.balance == (4.0, 1.0, 0.25, 0.06)


def instances(*boxes):
    return InstanceData(bboxes=torch.tensor(boxes).view(-1, 4), labels=torch.zeros(len(boxes), dtype=torch.long))


def test_loss_counts_each_image_and_takes_corners():
    box = (10.0, 20.0, 60.0, 80.0)
    preds = [p[:1] for p in maps(3, 1, 3, 3, seed=1)]
    twice = [p.repeat(2, 1, 1, 1, 1) for p in preds]
    one = head().loss_by_feat(preds, [instances(box)], [{}])
    two = head().loss_by_feat(twice, [instances(box), instances(box)], [{}, {}])
    nominal = head(nominal_batch=64).loss_by_feat(preds, [instances(box)], [{}])
    direct = head().loss_of_targets(preds, torch.tensor([[0, 0, 35.0, 50, 50, 60]]))
    for name in ('loss_bbox', 'loss_obj', 'loss_cls'):
        assert two[name].item() == pytest.approx(2 * one[name].item(), rel=1e-5)
        assert nominal[name].item() == pytest.approx(64 * one[name].item(), rel=1e-5)
        assert one[name].item() == pytest.approx(direct[name].item(), rel=1e-5)


@pytest.mark.parametrize('objects', [[], [(10.0, 20.0, 60.0, 80.0)]], ids=['none', 'one'])
def test_gradients_reach_every_level(objects):
    model = head()
    features = [torch.randn(1, c, 8 // 2 ** i, 8 // 2 ** i) for i, c in enumerate((4, 6, 8))]
    losses = model.loss_by_feat(*model(features), [instances(*objects)], [{}])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    assert bool(losses['loss_bbox'] > 0) == bool(objects)


def test_extreme_logits_and_bfloat16_stay_finite():
    for value in (-200.0, 200.0):
        preds = [torch.full_like(p, value, requires_grad=True) for p in maps(3, 1, 2, 2, seed=0)]
        loss = sum(head().loss_of_targets(preds, torch.tensor([[0, 1, 30.0, 30, 40, 20]])).values())
        loss.backward()
        assert loss.isfinite() and all(p.grad.isfinite().all() for p in preds)
    with torch.autocast('cpu', torch.bfloat16):
        parts = head().loss_of_targets([p.bfloat16() for p in maps(3, 1, 2, 2, seed=0)],
                                       torch.tensor([[0, 1, 30.0, 30, 40, 20]]))
    assert all(value.dtype == torch.float32 for value in parts.values())


def test_initial_biases():
    model = head(80)
    model.init_weights()
    for conv, stride in zip(model.convs, STRIDES):
        bias = conv.bias.view(3, 85)
        bound = conv.in_channels ** -0.5
        assert (bias[:, 4] - math.log(8 / (640 / stride) ** 2)).abs().max() <= bound
        assert (bias[:, 5:] - math.log(0.6 / (80 - 0.99999))).abs().max() <= bound


def test_decoding():
    pred = torch.zeros(1, 3, 2, 2, 8)
    decoded = head().decode([pred, pred[:, :, :1, :1], pred[:, :, :1, :1]])
    assert decoded.shape == (1, 18, 8)
    assert decoded[0, :4, :2].tolist() == [[4, 4], [12, 4], [4, 12], [12, 12]]  # middle of each cell
    assert decoded[0, ::4, 2:4].tolist()[:3] == [[10, 13], [16, 30], [33, 23]] and (decoded[..., 4:] == 0.5).all()


def random_decoded(images=2, boxes=60, classes=3):
    generator = torch.Generator().manual_seed(0)
    center, size = (torch.rand(images, boxes, 2, generator=generator) * scale + 5 for scale in (60, 30))
    return torch.cat((center, size, torch.rand(images, boxes, 1 + classes, generator=generator)), 2)


@pytest.mark.parametrize('multi_label', [True, False])
def test_selection_equals_a_loop_over_images_and_classes(multi_label):
    decoded = random_decoded()
    results = select_boxes(decoded, score_thr=0.1, iou_threshold=0.5, multi_label=multi_label, max_per_img=1000)
    for image, found in zip(decoded, results):
        corners = torch.cat((image[:, :2] - image[:, 2:4] / 2, image[:, :2] + image[:, 2:4] / 2), 1)
        scores = image[:, 5:] * image[:, 4:5]
        if not multi_label:
            scores = torch.where(scores == scores.amax(1, keepdim=True), scores, 0)
        expected = []
        for label in range(3):
            chosen = ((scores[:, label] > 0.1) & (image[:, 4] > 0.1)).nonzero()[:, 0]
            kept = chosen[torchvision.ops.nms(corners[chosen], scores[chosen, label], 0.5)]
            expected += [(scores[i, label].item(), label, *corners[i].tolist()) for i in kept]
        ours = [(s, k, *b) for s, k, b in zip(found.scores.tolist(), found.labels.tolist(), found.bboxes.tolist())]
        assert ours == sorted(ours, reverse=True, key=lambda each: each[0])
        torch.testing.assert_close(torch.tensor(sorted(ours)), torch.tensor(sorted(expected)), rtol=1e-5, atol=1e-5)


def test_limits_before_and_after_suppression():
    decoded = random_decoded()
    few = select_boxes(decoded, score_thr=0.1, iou_threshold=0.5, multi_label=True, max_per_img=4)
    many = select_boxes(decoded, score_thr=0.1, iou_threshold=0.5, multi_label=True)
    assert all(torch.equal(a.scores, b.scores[:4]) for a, b in zip(few, many))
    first = select_boxes(decoded, score_thr=0.0, multi_label=True, nms_pre=5, with_nms=False)
    assert [len(each) for each in first] == [5, 5]
    assert [len(each) for each in select_boxes(decoded, score_thr=2.0)] == [0, 0]


def test_boxes_are_rescaled_to_the_original_image():
    """An image of 200 x 100 at half its size in a letterbox of 100 x 100: 25 pixels of padding at the top."""
    model = head(test_cfg=dict(score_thr=0.5))
    preds = [torch.full((1, 3, 13 - 4 * i, 13 - 4 * i, 8), -9.0) for i in range(3)]
    preds[0][0, 0, 5, 6, :] = torch.tensor([0, 0, 0, 0, 9, 9, -9, -9.0])  # center (52, 44), 10 x 13
    meta = dict(scale_factor=(0.5, 0.5), letterbox_offset=(0, 25), ori_shape=(100, 200))
    found, = model.predict_by_feat(preds, [meta], rescale=True)
    assert found.bboxes.tolist() == [pytest.approx([94, 25, 114, 51])] and found.labels.tolist() == [0]


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(strides=(8, 16)), 'in_channels=.* must be a list of 2 whole numbers'),
    (dict(gains=dict(bbox=1)), "gains={'bbox': 1} must be a dict; it takes box, cls, obj"),
    (dict(gains=[1]), r'gains=\[1\] must be a dict'), (dict(gains=dict(obj='a')), "gains.obj='a' must be a number"),
    (dict(anchors=3), 'anchors=3 must be a list of length 3'), (dict(cls_pos_weight=0), 'must be a number above 0'),
    (dict(max_ratio=0), 'max_ratio=0 must be'), (dict(balance=[1]), r'balance=\[1\] must be a list of length 3'),
    (dict(img_size=(640, 640)), r'img_size=\(640, 640\) must be'), (dict(nominal_batch=-1), 'nominal_batch=-1 must be'),
    (dict(anchors=[[(0, 0)]] * 3), 'must be .width, height., positive'),
    (dict(strides=(0, 16, 32)), r'strides=\(0, 16, 32\) must be'),
    (dict(label_smoothing=2), 'label_smoothing=2 must be'), (dict(focal_gamma=-1), 'focal_gamma=-1 must be')])
def test_invalid_arguments_are_an_error(kwargs, message):
    with pytest.raises(UserError, match=message):
        head(**kwargs)
