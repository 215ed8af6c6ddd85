"""Facts about the model and the limits, for users of the server."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitdet_plugin import __version__
from vitdet_plugin.api import Detections, Inferencer
from vitdet_plugin.runtime.backends import OPENVINO
from vitdet_plugin.serving.options import FORMATS, FORMATS_OF_CLASSES
from vitdet_plugin.serving.service import Service
from vitdet_plugin.visualization.draw import class_color

LOWEST_THRESHOLD = 0.05  # of the objects that the page receives; its slider selects among them


def describe(service: Service, name: str) -> dict[str, Any]:
    """Predict a gray image, so that the first request is as fast as others, and return facts for ``GET /info``.

    Args:
        service: The model and the settings.
        name: Name of the model for people.
    """
    inferencer, settings = service.inferencer, service.settings
    found = service.predict(np.full((480, 640, 3), 114, np.uint8), 0.9)
    has_masks = isinstance(found, Detections) and found.rles is not None
    height, width = inferencer.input_size
    classes = list(inferencer.classes)
    return dict(
        name=name, version=__version__, model=_architecture(inferencer),
        task='classify' if inferencer.is_classifier else 'segment' if has_masks else 'detect', classes=classes,
        colors=['#{:02x}{:02x}{:02x}'.format(*class_color(label)) for label in range(len(classes))],
        input_size=[height, width], tile=settings.tile, threshold=settings.score_thr,
        lowest_threshold=min(LOWEST_THRESHOLD, settings.score_thr),
        formats=list(FORMATS_OF_CLASSES if inferencer.is_classifier else FORMATS), max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels)


def _architecture(inferencer: Inferencer) -> str:
    cfg = inferencer.cfg
    if cfg is None:
        return 'OpenVINO' if inferencer.model.model.path.suffix.lower() == OPENVINO else 'ONNX'
    parts = [cfg.model.get('type'), (cfg.model.get('backbone') or {}).get('type')]
    return ', '.join(str(part).rpartition('.')[2] for part in parts if part)
