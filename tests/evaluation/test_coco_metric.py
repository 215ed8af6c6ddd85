"""FastCocoMetric compared with CocoMetric for boxes, masks, single classes and proposals."""

import contextlib
import io
import json

import numpy as np
import pytest
from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS
from pycocotools import mask as rle

from tests.end_to_end.tiny_set import CLASSES, write_tiny_set
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.coco_metric import FastCocoMetric


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """Return an annotation file and (ground truth, prediction) of each image, some with 150 detections."""
    folder = write_tiny_set(tmp_path_factory.mktemp('metric') / 'set', images=6)
    content = json.loads((folder / 'coco.json').read_text())
    content['annotations'][0]['iscrowd'] = 1
    content['annotations'][0]['segmentation'] = rle.frPyObjects(content['annotations'][0]['segmentation'], 64, 64)[0]
    content['annotations'][0]['segmentation']['counts'] = content['annotations'][0]['segmentation']['counts'].decode()
    (folder / 'coco.json').write_text(json.dumps(content))
    rng, results = np.random.default_rng(0), []
    for image in content['images']:
        own = [each for each in content['annotations'] if each['image_id'] == image['id']]
        number = 150 if image['id'] in (2, 3) else 12
        chosen = [own[index] for index in rng.integers(len(own), size=number)]
        boxes = np.array([each['bbox'] for each in chosen]) + rng.normal(0, 2, (number, 4))
        boxes[:, 2:] += boxes[:, :2]
        masks = []
        for x1, y1, x2, y2 in boxes.round().astype(int).clip(0, 64):
            mask = np.zeros((64, 64), np.uint8, order='F')
            mask[y1:y2, x1:x2] = 1
            masks.append(rle.encode(mask))
        scores = rng.random(number).round(1)  # many ties
        labels = np.where(rng.random(number) < 0.8, [each['category_id'] - 1 for each in chosen], rng.integers(3))
        results.append((dict(img_id=image['id'], width=64, height=64), dict(
            img_id=image['id'], bboxes=boxes, scores=scores, labels=labels, masks=masks, mask_scores=scores)))
    return folder / 'coco.json', results


def evaluate(kind, found, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        metric = kind(ann_file=str(found[0]), **kwargs)
        metric.dataset_meta = dict(classes=CLASSES)
        return metric.compute_metrics(found[1])


@pytest.mark.parametrize('kwargs', [
    dict(metric=['bbox', 'segm']), dict(metric='bbox', classwise=True), dict(metric='proposal'),
    dict(metric='bbox', proposal_nums=(1, 5, 100), metric_items=['mAP', 'AR@100', 'AR_l@1000']),
    dict(metric='segm', iou_thrs=np.array([0.5, 0.75]))],
    ids=lambda kwargs: ' '.join(map(str, kwargs)))
def test_same_results(kwargs, found):
    fast, slow = evaluate(FastCocoMetric, found, **kwargs), evaluate(CocoMetric, found, **kwargs)
    assert fast.keys() == slow.keys() and any(value > 0.1 for value in fast.values())
    assert fast == pytest.approx(slow, rel=0, abs=1e-9, nan_ok=True)
    assert evaluate(FastCocoMetric, found, backend='pycocotools', **kwargs) == pytest.approx(slow, abs=0, nan_ok=True)


def test_a_list_of_thresholds(found):
    """As in a config; mmdet's metric requires an array."""
    few, one = (evaluate(FastCocoMetric, found, metric='bbox', iou_thrs=values) for values in ([0.5, 0.75], 0.5))
    assert few['bbox_mAP_50'] == one['bbox_mAP'] and few['bbox_mAP'] == pytest.approx(
        (few['bbox_mAP_50'] + few['bbox_mAP_75']) / 2, abs=1.1e-3)


def test_nothing_found(found):
    nothing = [(truth, dict(img_id=truth['img_id'], bboxes=np.zeros((0, 4)), scores=np.zeros(0),
                            labels=np.zeros(0, int))) for truth, _ in found[1]]
    for kind in (FastCocoMetric, CocoMetric):
        metrics = evaluate(kind, (found[0], nothing), metric='bbox')
        assert metrics['bbox_mAP'] == metrics['bbox_mAP_50'] == 0
        assert metrics.keys() == evaluate(kind, found, metric='bbox').keys()
        assert evaluate(kind, (found[0], nothing), metric='proposal')['AR@100'] == 0


def test_the_metric_of_mmdet_is_not_changed(found):
    """FastCocoMetric does not replace the evaluation in mmdet's module, not even while it computes."""
    import mmdet.evaluation.metrics.coco_metric as module
    own, during = module.COCOeval, []

    class Watched(FastCocoMetric):
        def results2json(self, *args, **kwargs):
            during.append(module.COCOeval)
            return super().results2json(*args, **kwargs)

    evaluate(Watched, found, metric='bbox')
    assert during == [own] and module.COCOeval is own


def test_the_backend_is_selected_by_name(found):
    metric = METRICS.build(dict(type='FastCocoMetric', ann_file=str(found[0]), backend='pycocotools'))
    assert metric.backend == 'pycocotools' and FastCocoMetric(ann_file=str(found[0])).backend == 'faster_coco_eval'
    with pytest.raises(UserError, match="unknown backend='fast'. Use faster_coco_eval or pycocotools"):
        FastCocoMetric(ann_file=str(found[0]), backend='fast')
    with pytest.raises(UserError, match='use_mp_eval'):
        FastCocoMetric(ann_file=str(found[0]), use_mp_eval=True)


def test_values_of_classes_for_boxes_and_masks(found):
    both, boxes, masks = (evaluate(FastCocoMetric, found, metric=metric, classwise=True)
                          for metric in (['bbox', 'segm'], 'bbox', 'segm'))
    own = {f'{name}_precision' for name in CLASSES}
    assert both == {**boxes, **{f'segm_{name}' if name in own else name: value for name, value in masks.items()}}
    assert any(boxes[name] != masks[name] for name in own)
