"""LVIS AP: agreement with the official lvis-api, and the rules for classes that are not annotated everywhere."""

import json

import numpy as np
import pytest
import torch

from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.lvis_metric import LVISDetMetric

# Results of the official lvis-api 0.5.3 on `random_set` with the detections of `jittered`.
OFFICIAL = dict(
    bbox_mAP=0.32122, bbox_mAP_50=0.55038, bbox_mAP_75=0.35599, bbox_mAP_s=0.13586, bbox_mAP_m=0.40125,
    bbox_mAP_l=0.85, bbox_mAP_r=0.34611, bbox_mAP_c=0.30655, bbox_mAP_f=0.31101, segm_mAP=0.31493,
    segm_mAP_50=0.54595, segm_mAP_75=0.35832, segm_mAP_s=0.13511, segm_mAP_m=0.39559, segm_mAP_l=0.75,
    segm_mAP_r=0.35476, segm_mAP_c=0.29833, segm_mAP_f=0.29170)
CLASSES, SIDE = 6, 300


def random_set(rng: np.random.Generator) -> dict:
    images, annotations = [], []
    for i in range(1, 31):
        present = set()
        for _ in range(rng.integers(0, 6)):
            k = int(rng.integers(1, CLASSES + 1))
            x, y = rng.uniform(0, 150, 2)
            w, h = rng.uniform(5, 120, 2)
            present.add(k)
            annotations.append(dict(id=len(annotations) + 1, image_id=i, category_id=k, bbox=[x, y, w, h],
                                    area=w * h * rng.uniform(.5, 1),
                                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]]))
        absent = [k for k in range(1, CLASSES + 1) if k not in present and rng.random() < .4]
        partly = [k for k in range(1, CLASSES + 1) if rng.random() < .3]
        images.append(dict(id=i, width=SIDE, height=SIDE, neg_category_ids=absent, not_exhaustive_category_ids=partly,
                           coco_url=f'http://images.cocodataset.org/train2017/{i:012}.jpg'))
    categories = [dict(id=k + 1, name=f'c{k}', frequency='rcf'[k % 3], image_count=5) for k in range(CLASSES)]
    return dict(info={}, licenses=[], images=images, annotations=annotations, categories=categories)


def jittered(content: dict, rng: np.random.Generator):
    """Yield (image id, boxes, scores, labels) of moved, duplicated, mislabeled and random objects."""
    for image in content['images']:
        boxes, scores, labels = [], [], []
        for each in content['annotations']:
            if each['image_id'] == image['id'] and rng.random() < .9:
                for _ in range(rng.integers(1, 3)):
                    x, y, w, h = np.array(each['bbox']) + rng.normal(0, 3, 4)
                    boxes.append([x, y, x + max(w, 3), y + max(h, 3)])
                    scores.append(rng.random())
                    labels.append(each['category_id'] - 1 if rng.random() < .8 else rng.integers(0, CLASSES))
        for _ in range(rng.integers(1, 12)):
            x, y = rng.uniform(0, 150, 2)
            w, h = rng.uniform(5, 120, 2)
            boxes.append([x, y, x + w, y + h])
            scores.append(rng.random() * .6)
            labels.append(rng.integers(0, CLASSES))
        yield image['id'], boxes, scores, labels


def score(path, content: dict, detections, metric='bbox', **kwargs) -> dict:
    path.write_text(json.dumps(content))
    evaluator = LVISDetMetric(str(path), metric, **kwargs)
    evaluator.dataset_meta = dict(classes=[each['name'] for each in content['categories']])
    for image_id, boxes, scores, labels in detections:
        masks = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes):
            mask[max(int(y1), 0):int(y2), max(int(x1), 0):int(x2)] = True
        found = dict(bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                     scores=torch.tensor(scores, dtype=torch.float32), labels=torch.tensor(labels, dtype=torch.int64),
                     masks=masks)
        evaluator.process({}, [dict(img_id=image_id, ori_shape=(SIDE, SIDE), pred_instances=found)])
    return evaluator.compute_metrics(evaluator.results)


def test_agrees_with_the_official_api(tmp_path):
    rng = np.random.default_rng(0)
    content = random_set(rng)
    found = score(tmp_path / 'gt.json', content, jittered(content, rng), ['bbox', 'segm'])
    assert found == pytest.approx(OFFICIAL, abs=1e-4)


@pytest.mark.parametrize(('absent', 'partly', 'expected'), [
    ([], [], 1.0),  # class 2 is not annotated in image 1: a detection of it is not evaluated
    ([2], [], 0.5),  # class 2 is known to be absent: a false positive with a higher score than the true positive
    ([2], [2], 1.0),  # the annotations of class 2 are not exhaustive: not a false positive
])
def test_detections_of_partly_annotated_classes(tmp_path, absent, partly, expected):
    box = dict(bbox=[10, 10, 50, 50], area=2500, segmentation=[[10, 10, 60, 10, 60, 60, 10, 60]])
    content = dict(
        images=[dict(id=1, width=SIDE, height=SIDE, neg_category_ids=absent, not_exhaustive_category_ids=partly),
                dict(id=2, width=SIDE, height=SIDE, neg_category_ids=[], not_exhaustive_category_ids=[])],
        annotations=[dict(id=1, image_id=2, category_id=2, **box)],
        categories=[dict(id=1, name='a', frequency='f'), dict(id=2, name='b', frequency='r')])
    detections = [(1, [[10, 10, 60, 60]], [0.9], [1]), (2, [[10, 10, 60, 60]], [0.5], [1])]
    found = score(tmp_path / 'gt.json', content, detections)
    assert found['bbox_mAP'] == found['bbox_mAP_r'] == pytest.approx(expected, abs=1e-3)
    assert found['bbox_mAP_f'] == -1  # class a was never annotated


def test_only_the_best_detections_of_an_image_are_evaluated(tmp_path):
    rng = np.random.default_rng(1)
    content = random_set(rng)
    detections = list(jittered(content, rng))
    best = [(i, *zip(*sorted(zip(b, s, k), key=lambda each: -each[1])[:3])) for i, b, s, k in detections]
    limited = score(tmp_path / 'gt.json', content, detections, max_dets=3)
    assert limited == score(tmp_path / 'gt.json', content, [(i, list(b), list(s), list(k)) for i, b, s, k in best])
    assert limited != score(tmp_path / 'gt.json', content, detections)


def test_ap_without_detections_is_zero(tmp_path):
    content = random_set(np.random.default_rng(0))
    found = score(tmp_path / 'gt.json', content, [(image['id'], [], [], []) for image in content['images']])
    assert found['bbox_mAP'] == 0


def test_unknown_metric(tmp_path):
    with pytest.raises(UserError, match='unknown metric proposal. Use bbox, segm or both'):
        score(tmp_path / 'gt.json', random_set(np.random.default_rng(0)), [], 'proposal')
