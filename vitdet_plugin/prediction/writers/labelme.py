"""LabelMe: a JSON file for each image, to be corrected by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vitdet_plugin.prediction.format_names import FILES
from vitdet_plugin.prediction.polygons import simple_polygons
from vitdet_plugin.prediction.results import Classification, Detections
from vitdet_plugin.prediction.writers.base import Writer
from vitdet_plugin.utils.mask_rle import decode_mask
from vitdet_plugin.utils.output_files import write_text
from vitdet_plugin.utils.output_folder import OutputFolder

_VERSION = '5.0.1'  # of the format


class LabelMeWriter(Writer):
    """``labelme/NAME.json`` with the path of the image relative to it; parts of an object have the same group."""

    def __init__(self, output: OutputFolder, **options: Any) -> None:
        super().__init__(output, **options)
        self.path = self.folder / FILES['labelme']

    def add(self, result: Detections | Classification, name: str) -> None:
        """Write the objects of an image."""
        assert isinstance(result, Detections)
        target = self.output.claim(self.path / f'{name}.json')
        height, width = result.shape
        shapes = [shape for index in range(len(result)) for shape in _shapes(result, index)]
        content = dict(version=_VERSION, flags={}, shapes=shapes, imagePath=_image_path(result, name, target),
                       imageData=None, imageHeight=height, imageWidth=width)
        write_text(target, json.dumps(content, ensure_ascii=False))


def _shapes(result: Detections, index: int) -> list[dict[str, Any]]:
    common = dict(label=result.names[index], description='', flags={}, score=float(result.scores[index]))
    polygons = [] if result.rles is None else simple_polygons(decode_mask(result.rles[index]))
    if not polygons:
        x1, y1, x2, y2 = result.boxes[index].tolist()
        return [dict(common, points=[[x1, y1], [x2, y2]], group_id=None, shape_type='rectangle')]
    group = index if len(polygons) > 1 else None
    return [dict(common, points=polygon.tolist(), group_id=group, shape_type='polygon') for polygon in polygons]


def _image_path(result: Detections, name: str, target: Path) -> str:
    if result.path is None:
        return name
    if '://' in result.path or result.frame is not None:
        return result.path
    try:
        return Path(os.path.relpath(result.path, target.parent)).as_posix()
    except ValueError:  # another drive of Windows
        return os.path.abspath(result.path)
