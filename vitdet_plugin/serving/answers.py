"""Results of prediction as answers of the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitdet_plugin.prediction.results import Detections


def as_coco(result: Detections, name: str, classes: Sequence[str]) -> dict[str, Any]:
    """Return a result as the content of a COCO annotation file, with ``score`` in its annotations.

    Args:
        result: The result.
        name: Name of the image.
        classes: Class names of the model; ids of categories are 1, 2, 3, ….
    """
    height, width = result.shape
    annotations = []
    for number, found in enumerate(result.to_coco(1), 1):
        area = found['bbox'][2] * found['bbox'][3]
        annotations.append({'id': number, 'iscrowd': 0, 'area': area, **found})
    return dict(images=[dict(id=1, file_name=name, width=width, height=height)],
                categories=[dict(id=number, name=each) for number, each in enumerate(classes, 1)],
                annotations=annotations)
