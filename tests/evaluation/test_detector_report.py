import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.end_to_end.tiny_set import CONFIG, load_tool, write_tiny_set
from vitdet_plugin.evaluation.box_errors import Boxes, iou, match_boxes
from vitdet_plugin.evaluation.detector_report import build_report, mean_of_classes
from vitdet_plugin.visualization.figures import plain
from vitdet_plugin.visualization.report_figures import draw_detector_report

A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]
SHIFTED = [0, 5, 10, 15]  # IoU 1/3 with A


def boxes(*entries, ignored=None):
    """Build ``Boxes`` from entries (box, label[, score])."""
    scores = np.array([entry[2] for entry in entries]) if entries and len(entries[0]) == 3 else np.zeros(0)
    return Boxes(np.array([entry[0] for entry in entries], float).reshape(-1, 4),
                 np.array([entry[1] for entry in entries], int), scores,
                 None if ignored is None else np.array(ignored))


def test_iou():
    np.testing.assert_allclose(iou(np.array([A, FAR], float), np.array([A, SHIFTED], float)), [[1, 1 / 3], [0, 0]])


@pytest.mark.parametrize('found, errors, cell', [
    ([(A, 0, .9)], {}, (0, 0)),
    ([(A, 1, .9)], {'classification': 1}, (0, 1)),
    ([(SHIFTED, 0, .9)], {'localization': 1}, (2, 0)),
    ([(SHIFTED, 1, .9)], {'both': 1, 'missed': 1}, (2, 1)),
    ([(FAR, 0, .9)], {'background': 1, 'missed': 1}, (2, 0)),
    ([(A, 0, .9), (A, 0, .8)], {'duplicate': 1}, (2, 0)),
    ([], {'missed': 1}, (0, 2)),
])
def test_error_types(found, errors, cell):
    matches = match_boxes(boxes((A, 0)), boxes(*found), 2)
    matrix, kinds = matches.confusion, matches.errors()
    assert {kind: count for kind, count in kinds.items() if count} == errors
    assert matches.is_found.tolist() == [bool({'correct', 'classification'} & set(matches.kinds))]
    assert len(matches.kinds) == len(found)
    assert matrix[cell] == 1
    assert matrix[:2].sum() == 1 and matrix[:, :2].sum() == len(found)


def test_the_correct_class_is_matched_before_a_higher_overlap():
    matches = match_boxes(boxes((A, 0)), boxes((A, 1, .9), ([0, 0, 10, 8], 0, .5)), 2)
    assert matches.confusion[0, 0] == 1 and matches.confusion[2, 1] == 1
    assert matches.kinds == ['classification', 'correct']


def test_boxes_in_ignored_regions_do_not_count():
    truth = boxes((A, 0), ([40, 40, 80, 80], 0), ignored=[False, True])
    matches = match_boxes(truth, boxes((A, 0, .9), (FAR, 0, .8)), 1)
    assert matches.confusion.tolist() == [[1, 0], [0, 0]] and not any(matches.errors().values())
    assert matches.kinds == ['correct', 'ignored'] and matches.is_found.all()


def random_boxes(random, count, scored):
    corner = random.uniform(0, 60, (count, 2))
    found = np.concatenate([corner, corner + random.uniform(8, 40, (count, 2))], 1)
    return Boxes(found, random.integers(0, 3, count), random.random(count) if scored else None)


@pytest.mark.parametrize(('images', 'objects'), [(8, 6), (1, 450)])  # more than 100 detections of a class
def test_average_precision_equals_that_of_cocometric(images, objects):
    from mmdet.evaluation import CocoMetric
    random = np.random.default_rng(0)
    truth = [random_boxes(random, objects, False) for _ in range(images)]
    found = []
    for true in truth:  # slightly displaced objects and random boxes
        extra = random_boxes(random, 3, True)
        displaced = Boxes(true.boxes + random.normal(0, 1.5, true.boxes.shape),
                          np.where(random.random(objects) < 0.8, true.labels, 1), random.random(objects))
        found.append(Boxes(*(np.concatenate([getattr(displaced, name), getattr(extra, name)])
                             for name in ('boxes', 'labels', 'scores'))))
    report = build_report(truth, found, ['a', 'b', 'c', 'never'], score_thr=0.0)
    metric = CocoMetric(classwise=True, metric='bbox')
    metric.dataset_meta = dict(classes=('a', 'b', 'c', 'never'))
    for index, (true, predicted) in enumerate(zip(truth, found)):
        metric.process({}, [dict(
            img_id=index, ori_shape=(120, 120), pred_instances=dict(
                bboxes=torch.tensor(predicted.boxes), scores=torch.tensor(predicted.scores),
                labels=torch.tensor(predicted.labels)),
            instances=[dict(bbox=box.tolist(), bbox_label=int(label), ignore_flag=0)
                       for box, label in zip(true.boxes, true.labels)])])
    theirs = metric.evaluate(len(truth))
    mean = report.mean_ap()
    for name, value in zip(('mAP', 'mAP_50', 'mAP_75'), mean):
        assert theirs[f'coco/bbox_{name}'] == pytest.approx(value, abs=6e-4)
    for name, value in zip('sm', mean_of_classes(report.boxes.by_size)):
        assert theirs[f'coco/bbox_mAP_{name}'] == pytest.approx(value, abs=6e-4)
    assert 0.1 < mean[0] < 0.9 and np.isnan(report.ap[3]).all() and report.objects.sum() == images * objects
    assert (np.diff(report.curves[0, 0]) <= 1e-9).all()
    assert report.confusion[:3].sum() == images * objects
    assert report.confusion[:, :3].sum() == images * (objects + 3)


def test_names_with_signs_of_matplotlib_are_drawn_as_they_are(tmp_path):
    names = ['$\\frac$', '_background_', '5$ {a_b}^']
    report = build_report([boxes((A, 0), (B, 1), (FAR, 2))], [boxes((A, 0, .9), (B, 1, .8), (FAR, 2, .7))], names)
    for path in draw_detector_report(report, tmp_path):
        assert cv2.imread(str(path)).std() > 5
    assert [plain(name) for name in names] == ['\\$\\frac\\$', ' _background_', '5\\$ {a_b}^']


def test_command(tmp_path, capsys):
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    write_tiny_set(tmp_path, images=3)
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(CONFIG).model).state_dict()), tmp_path / 'w.pth')
    data = [f'{split}_dataloader.dataset.data_root={tmp_path}' for split in ('val', 'test')]
    command = load_tool('analysis/report').main
    for split in ('test', 'val'):
        out = tmp_path / f'{split} report'
        assert command([str(CONFIG), str(tmp_path / 'w.pth'), '--split', split, '--out', str(out), '--device', 'cpu',
                        '--score-thr', '0.02', '--maps', '0', '--cfg-options', *data]) == 0
        record = json.loads((out / 'report.json').read_text())
        assert record['images'] == 3 and record['classes'] == ['apple', 'lime', 'plum']
        for name in ('curves.png', 'confusion.png', 'errors.png'):
            assert cv2.imread(str(out / name)).std() > 5
    assert 'missed' in capsys.readouterr().out
