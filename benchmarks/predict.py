"""Prediction: images per second of the stream against a loop over single images, for the demo's Mask R-CNN.

The reference is the former loop: pipeline, model and post-processing of one image after the other, masks of all
detections as boolean arrays of the whole image, RLE of those that are kept. Weights are random, so that all detections
have about the same score; the threshold of the first row keeps as many of them as a trained model has objects.
"""

import json
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as mask_utils

import vitdet_plugin
from benchmarks.harness import Row, compare
from benchmarks.lsj import one_thread
from vitdet_plugin.api import Inferencer
from vitdet_plugin.demo.demo_set import PHOTOGRAPHS, load_photograph
from vitdet_plugin.engine.inference import TestPipeline

GOAL = 1.5
_OBJECTS = 5  # kept in each image by the threshold of the first row
_SIZE = (160, 120)  # pixels of the demo's images


def rows(quick: bool) -> Iterable[Row | None]:
    vitdet_plugin.register_all()
    count, repeats = (6, 1) if quick else (12, 5)
    with one_thread(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, count)
        threshold = find_threshold(folder, count)
        for objects, score_thr, goal in ((_OBJECTS, threshold, GOAL), (100, 0.0, None)):
            yield compare(_path(objects), 'one image at a time, masks as booleans',
                          partial(stream, name, score_thr, None), partial(loop, name, score_thr), tolerance=1e-2,
                          check=difference, time_goal=goal, repeats=repeats, memory=not quick,
                          note=f'{count} images of {_SIZE[0]} x {_SIZE[1]}')
        yield compare(f'{_path(_OBJECTS)}, --half', 'the same, float32', partial(stream, name, threshold, 'auto'),
                      partial(loop, name, threshold), tolerance=np.inf, check=lambda *_: 0.0, repeats=repeats,
                      memory=False)


def _path(objects: int) -> str:
    return f'predict, Mask R-CNN, {objects} objects an image'


def write_images(folder: Path, count: int) -> None:
    """Write JPEGs of packaged photographs."""
    images = [cv2.resize(load_photograph(package, file), _SIZE) for package, file, *_ in PHOTOGRAPHS['train']]
    for index in range(count):
        cv2.imwrite(str(folder / f'{index:04}.jpg'), images[index % len(images)][..., ::-1])


def detector(half: str | None = None) -> Inferencer:
    """Build the demo's model with random weights."""
    import warnings
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return Inferencer.load('vitdet_demo', device='cpu', half=half)


def find_threshold(folder: Path, count: int) -> float:
    """Return the score that keeps ``_OBJECTS`` detections in an image on average."""
    scores = np.concatenate([found.scores for found in detector().stream(str(folder), score_thr=0.0)])
    return float(np.sort(scores)[::-1][min(_OBJECTS * count, len(scores) - 1)])


def stream(folder: str, score_thr: float, half: str | None) -> Callable[[], list]:
    """Return a function that predicts the folder with ``Inferencer.stream``."""
    model = detector(half)

    def run() -> list:
        results = []
        for found in model.stream(folder, score_thr=score_thr):
            json.dumps(found.as_dict())
            results.append((found.boxes, found.scores))
        return results

    return run


def loop(folder: str, score_thr: float) -> Callable[[], list]:
    """Return a function that predicts the folder as ``predict_each`` did before."""
    built = detector()
    model, pipeline = built.model, TestPipeline(built.cfg)

    def run() -> list:
        results = []
        for path in sorted(Path(folder).iterdir()):
            packed = pipeline(path)
            with torch.no_grad():
                sample = model.test_step(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))[0]
            found = sample.pred_instances
            boxes, scores, masks = found.bboxes.numpy(), found.scores.numpy(), found.masks.numpy()
            order = np.argsort(-scores, kind='stable')
            boxes, scores, masks = boxes[order], scores[order], masks[order]
            kept = scores >= score_thr
            boxes, scores, masks = boxes[kept], scores[kept], masks[kept]
            codes: Any = mask_utils.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
            json.dumps(dict(boxes=boxes.tolist(), scores=scores.tolist(),
                            masks=[dict(size=code['size'], counts=code['counts'].decode()) for code in codes]))
            results.append((boxes, scores))
        return results

    return run


def difference(ours: list, reference: list) -> float:
    """Return the largest difference of the scores in order; a detection at the threshold may be on one side only."""
    worst = 0.0
    for (_, mine), (_, theirs) in zip(ours, reference, strict=True):
        if abs(len(mine) - len(theirs)) > 1:
            return float('inf')
        count = min(len(mine), len(theirs))
        worst = max(worst, float(np.abs(mine[:count] - theirs[:count]).max(initial=0.0)))
    return worst
