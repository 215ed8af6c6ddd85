"""Classes that were annotated in each image only in part, as in LVIS (arXiv:1908.03195, section 3)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np

from vitdet_plugin.datasets.coco import ABSENT, PARTLY, read_coco


@dataclass(frozen=True)
class AnnotatedClasses:
    """Which detections of an image can be judged.

    Attributes:
        known: Labels of the classes that are annotated in the image or known to be absent. Detections of other classes
            are neither correct nor wrong.
        partly: Labels of the classes of which only some objects are annotated. Their detections without a matching
            object are neither correct nor wrong.
    """

    known: frozenset[int]
    partly: frozenset[int]

    def is_unknown(self, labels: np.ndarray) -> np.ndarray:
        """Return a mask (N,) of the labels of classes that were not looked for in the image."""
        return ~np.isin(labels, list(self.known))

    def is_partly(self, labels: np.ndarray) -> np.ndarray:
        """Return a mask (N,) of the labels of classes of which only some objects are annotated."""
        return np.isin(labels, list(self.partly))


def annotated_classes(dataset: Any) -> dict[Any, AnnotatedClasses]:
    """Return the annotated classes of each image by its id; empty if the annotation file states none.

    Args:
        dataset: Data set of mmdet in COCO format, perhaps inside of others.
    """
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    file, label_of = Path(str(getattr(dataset, 'ann_file', '') or '')), getattr(dataset, 'cat2label', None)
    if label_of is None or file.suffix != '.json' or not file.is_file():
        return {}
    with file.open('rb') as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as text:
        if all(text.find(f'"{key}"'.encode()) < 0 for key in (ABSENT, PARTLY)):
            return {}
    content = read_coco(file, needs_annotations=False)
    if not any(ABSENT in image or PARTLY in image for image in content['images']):
        return {}
    present: dict[Any, set[int]] = defaultdict(set)
    for each in content['annotations']:
        present[each.get('image_id')].add(each.get('category_id'))

    def labels(ids: Any) -> frozenset[int]:
        return frozenset(label_of[each] for each in ids if each in label_of)
    return {image['id']: AnnotatedClasses(labels({*present[image['id']], *(image.get(ABSENT) or ())}),
                                          labels(image.get(PARTLY) or ()))
            for image in content['images']}
