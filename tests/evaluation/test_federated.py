"""Reports on LVIS files: detections of classes that are not annotated in an image are neither correct nor wrong."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.evaluation.test_detector_report import FAR, A, B, boxes
from tests.evaluation.test_lvis_metric import CLASSES, OFFICIAL, jittered, random_set
from vitdet_plugin.evaluation.box_errors import Boxes, match_boxes
from vitdet_plugin.evaluation.detections import read_detections
from vitdet_plugin.evaluation.detector_report import build_report, report_of_split
from vitdet_plugin.evaluation.federated import AnnotatedClasses
from vitdet_plugin.visualization.html_report.detector import detector_sections
from vitdet_plugin.visualization.html_report.elements import to_html


def annotated(truth, known, partly=()):
    truth.annotated = AnnotatedClasses(frozenset(known), frozenset(partly))
    return truth


def write_set(folder, content):
    """Write an LVIS file and return the config of its data set."""
    init_default_scope('mmdet')
    (folder / 'lvis.json').write_text(json.dumps(content))
    names = tuple(each['name'] for each in content['categories'])
    return Config(dict(test_dataloader=dict(dataset=dict(
        type='CocoDataset', ann_file=str(folder / 'lvis.json'), data_prefix=dict(img=''), test_mode=True, pipeline=[],
        metainfo=dict(classes=names)))))


def test_average_precision_is_that_of_the_official_api(tmp_path):
    rng = np.random.default_rng(0)
    content = random_set(rng)
    rows = [dict(image_id=image, category_id=int(label) + 1, score=float(score),
                 bbox=[float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])])
            for image, *found in jittered(content, rng) for box, score, label in zip(*found)]
    for image in content['images']:
        image['file_name'] = f'{image["id"]}.jpg'
    (tmp_path / 'results.json').write_text(json.dumps(rows))
    split = read_detections(write_set(tmp_path, content), 'test', tmp_path / 'results.json')
    report = report_of_split(split, 0.0)
    expected = [OFFICIAL[f'bbox_mAP{name}'] for name in ('', '_50', '_75')]
    assert report.mean_ap() == pytest.approx(expected, abs=1e-4)
    assert report.unjudged > 50 and f'  {report.unjudged} more are not judged: ' in str(report)
    assert report.as_dict()['unjudged'] == report.unjudged and len(report.classes) == CLASSES
    page = ''.join(map(to_html, detector_sections(report)))
    assert 'AP as LVIS defines it' in page and f'{report.unjudged} more boxes are not judged' in page


def test_errors_of_classes_that_were_not_looked_for_do_not_count():
    truth = annotated(boxes((A, 0), (B, 1)), known=[0, 1, 2], partly=[1])
    found = boxes((A, 0, .9), (FAR, 0, .8), (FAR, 1, .7), (FAR, 2, .6), (FAR, 3, .5), (A, 3, .4), (A, 1, .3))
    matches = match_boxes(truth, found, 4)
    assert matches.kinds == ['correct', 'background', 'ignored', 'background', 'ignored', 'ignored', 'ignored']
    assert matches.is_found.tolist() == [True, False] and matches.missed == 1
    assert matches.confusion.sum() == 4


def test_unmatched_boxes_are_false_positives_only_where_their_class_was_annotated():
    found = [boxes((A, 0, .5), (FAR, 0, .9)), boxes((FAR, 0, .8)), boxes((FAR, 0, .7))]

    def precision(*rules):
        truth = [boxes((A, 0)), Boxes(np.zeros((0, 4)), np.zeros(0, int)), Boxes(np.zeros((0, 4)), np.zeros(0, int))]
        report = build_report([annotated(each, *rule) for each, rule in zip(truth, rules)], found, ['a'], score_thr=0.0)
        return report.ap[0, 1], report.unjudged
    assert precision(([0],), ([0],), ([0],)) == (pytest.approx(0.25), 0)
    assert precision(([0],), ([0],), ([],)) == (pytest.approx(1 / 3), 1)  # the third image was not looked at
    assert precision(([0], [0]), ([],), ([],)) == (pytest.approx(1), 3)  # the first only in part


def test_a_coco_file_has_no_such_rules(tmp_path):
    content = random_set(np.random.default_rng(0))
    content['images'] = [dict(id=each['id'], width=300, height=300, file_name='a.jpg') for each in content['images']]
    (tmp_path / 'results.json').write_text('[]')
    split = read_detections(write_set(tmp_path, content), 'test', tmp_path / 'results.json')
    assert all(each.annotated is None for each in split.truth)
    report = report_of_split(split)
    assert report.unjudged is None and 'unjudged' not in report.as_dict() and 'not judged' not in str(report)
