"""Average precision by size and of masks, thresholds and calibration, against CocoMetric and their definitions."""

import numpy as np
import pytest
import torch

from vitdet_plugin.evaluation.average_precision import average_precision, object_sizes
from vitdet_plugin.evaluation.box_errors import Boxes
from vitdet_plugin.evaluation.calibration import calibration
from vitdet_plugin.evaluation.detections import boxes_of_instances
from vitdet_plugin.evaluation.score_threshold import THRESHOLDS, threshold_curve, threshold_curves
from vitdet_plugin.utils.mask_rle import encode_masks

SIDE = 240


def masks_of(boxes, random):
    """Return ellipses in boxes (N, 4), of shape (N, 240, 240), some of them moved."""
    y, x = np.mgrid[:SIDE, :SIDE]
    masks = []
    for x1, y1, x2, y2 in boxes + random.choice([0, 0, 6], (len(boxes), 1)):
        masks.append(((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1)
    return np.array(masks)


@pytest.fixture(scope='module')
def objects():
    """Annotations of all sizes, detections near them, and the masks of both, of six images."""
    random = np.random.default_rng(1)
    truth, found, masks = [], [], []
    for _ in range(6):
        corner = random.uniform(0, 90, (7, 2))
        true = np.concatenate([corner, corner + random.choice([20, 60, 140], (7, 1))], 1)
        near = true + random.normal(0, 2, true.shape)
        both = [masks_of(each, random) for each in (true, near)]
        labels = random.integers(0, 2, 7)
        truth.append(Boxes(true, labels, None, None, encode_masks(both[0])))
        found.append(Boxes(near, np.where(random.random(7) < 0.8, labels, 0), random.random(7), None,
                           encode_masks(both[1])))
        masks.append(both)
    return truth, found, masks


@pytest.mark.parametrize('metric', ['bbox', 'segm'])
def test_values_equal_those_of_cocometric(objects, metric):
    from mmdet.evaluation import CocoMetric
    truth, found, masks = objects
    ours = average_precision(truth, found, 3, metric == 'segm')
    theirs = CocoMetric(classwise=False, metric=metric)
    theirs.dataset_meta = dict(classes=('a', 'b', 'never'))
    for index, (true, predicted, (_, near)) in enumerate(zip(truth, found, masks)):
        instances = [dict(bbox=box.tolist(), bbox_label=int(label), ignore_flag=0, mask=rle)
                     for box, label, rle in zip(true.boxes, true.labels, true.rles)]
        theirs.process({}, [dict(img_id=index, ori_shape=(SIDE, SIDE), instances=instances, pred_instances=dict(
            bboxes=torch.tensor(predicted.boxes), scores=torch.tensor(predicted.scores),
            labels=torch.tensor(predicted.labels), masks=torch.tensor(near)))])
    expected = theirs.evaluate(len(truth))
    for name, value in zip(('mAP', 'mAP_50', 'mAP_75'), np.nanmean(ours.ap[:2], 0)):
        assert expected[f'coco/{metric}_{name}'] == pytest.approx(value, abs=6e-4)
    if metric == 'segm':  # CocoMetric takes the sizes of annotated boxes in the data set from the boxes
        for name, value in zip('sml', np.nanmean(ours.by_size[:2], 0)):
            assert expected[f'coco/{metric}_mAP_{name}'] == pytest.approx(value, abs=6e-4)
    assert np.isnan(ours.ap[2]).all() and np.isnan(ours.by_size[2]).all() and np.isfinite(ours.by_size[:2]).all()
    assert [len(each) for each in ours.scores] == [sum((each.labels == label).sum() for each in found)
                                                   for label in range(3)]
    assert 0.5 < np.concatenate(ours.is_correct).mean() < 1


def test_masks_of_annotations_in_every_encoding():
    polygon = [10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]
    counts = [2] + [3] + [95]  # three pixels of the first column of a 10 x 10 image
    compressed = encode_masks(np.eye(4, dtype=bool)[None])[0]
    box = dict(bbox=[0, 0, 5, 5], bbox_label=0)
    found = [boxes_of_instances([{**box, 'mask': mask}], shape) for mask, shape in (
        ([polygon], (40, 40)), (dict(size=[10, 10], counts=counts), (10, 10)), (compressed, (4, 4)),
        (compressed, (5, 4)), ([], (4, 4)), ([[1, 2]], (4, 4)))]
    assert [object_sizes(each)[0] for each in found] == [200, 3, 4, 25, 25, 25]
    assert [each.rles is None for each in found] == [False] * 3 + [True] * 3


def test_nothing_was_found():
    truth = [Boxes(np.array([[0, 0, 10, 10]]), np.array([1]), None)]
    none = [Boxes(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))]
    found = average_precision(truth, none, 2)
    np.testing.assert_array_equal(found.ap, [[np.nan] * 3, [0] * 3])
    np.testing.assert_array_equal(found.by_size[1], [0, np.nan, np.nan])


def test_thresholds():
    scores, is_correct = np.array([0.9, 0.6, 0.6, 0.2]), np.array([True, True, False, False])
    curve = threshold_curve(scores, is_correct, 3)
    assert curve.precision[[0, 20, 21, 60, 61, 90, 91]] == pytest.approx([2 / 4, 2 / 4, 2 / 3, 2 / 3, 1, 1, 1])
    assert curve.recall[[0, 60, 61, 90, 91]] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3, 0])
    assert 0.21 <= THRESHOLDS[curve.best] <= 0.6 and curve.f1[curve.best] == pytest.approx(2 / 3)
    assert threshold_curve(np.zeros(0), np.zeros(0, bool), 3).best is None
    overall, each = threshold_curves([scores, scores[:0]], [is_correct, is_correct[:0]], np.array([3, 0]))
    np.testing.assert_array_equal(overall.f1, curve.f1)
    assert each[1].best is None and np.isnan(each[1].recall).all()


def test_calibration():
    found = calibration(np.array([0.95, 1.0, 0.55, 0.55]), np.array([True, True, True, False]))
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert found.accuracy[[5, 9]] == pytest.approx([0.5, 1]) and found.confidence[9] == pytest.approx(0.975)
    assert found.error == pytest.approx(0.5 * 0.05 + 0.5 * 0.025) and np.isnan(found.accuracy[0])
