"""COCO evaluation: faster-coco-eval, as used by FastCocoMetric, against pycocotools."""

import contextlib
import io
from functools import partial

import numpy as np

from benchmarks.harness import compare


def detections(images: int, classes: int, per_image: int, seed: int = 0) -> tuple[dict, list[dict]]:
    """Return ground truth and detections in COCO format: seven objects per image, detected with noise, and others."""
    rng = np.random.default_rng(seed)
    truth = dict(images=[dict(id=i, width=640, height=480, file_name=f'{i}.jpg') for i in range(1, images + 1)],
                 categories=[dict(id=c, name=str(c)) for c in range(1, classes + 1)], annotations=[])
    found = []
    for image in range(1, images + 1):
        boxes = np.concatenate([rng.uniform(0, 400, (7, 2)), rng.uniform(10, 200, (7, 2))], 1)
        labels = rng.integers(1, classes + 1, 7)
        for box, label in zip(boxes.tolist(), labels.tolist()):
            truth['annotations'].append(dict(
                id=len(truth['annotations']) + 1, image_id=image, category_id=label, bbox=box, area=box[2] * box[3],
                iscrowd=int(rng.random() < 0.01), segmentation=_polygon(box)))
        for number in range(per_image):
            base = int(rng.integers(7))
            box = (boxes[base] + rng.normal(0, 5, 4)).clip(1).tolist()
            label = int(labels[base]) if number % 3 else int(rng.integers(1, classes + 1))
            found.append(dict(image_id=image, category_id=label, bbox=box, score=float(rng.random())))
    return truth, found


def _polygon(box: list[float]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def evaluating(fast: bool, kind: str, images: int, per_image: int):
    """Return a step that evaluates once and returns the twelve metrics."""
    from mmdet.datasets.api_wrappers import COCO
    from pycocotools import mask as rle
    from pycocotools.cocoeval import COCOeval

    from vitdet_plugin.evaluation.coco_metric import fast_evaluation
    truth, found = detections(images, 80, per_image)
    if kind == 'segm':
        found = [dict({key: value for key, value in each.items() if key != 'bbox'},
                      segmentation=rle.frPyObjects(_polygon(each['bbox']), 480, 640)[0]) for each in found]
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = truth
        api.createIndex()
        results = api.loadRes(found)
    kind_of = fast_evaluation() if fast else COCOeval

    def step():
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = kind_of(api, results, kind)
            evaluation.params.maxDets = [100, 300, 1000]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return np.asarray(evaluation.stats[:12], dtype=float)
    return step


def rows(quick: bool):
    images = 60 if quick else 300
    for kind, per_image in (('bbox', 100),) if quick else (('bbox', 100), ('segm', 100)):
        yield compare(f'COCO {kind}, {images} images x {per_image} detections', 'pycocotools',
                      partial(evaluating, True, kind, images, per_image),
                      partial(evaluating, False, kind, images, per_image), tolerance=1e-9, repeats=5, memory=False)
