"""COCO: a list of results, and the images and categories that their ids stand for."""

from __future__ import annotations

import json
from typing import Any

from vitdet_plugin.prediction.format_names import COCO_IMAGES, FILES
from vitdet_plugin.prediction.results import Classification, Detections
from vitdet_plugin.prediction.writers.base import Writer
from vitdet_plugin.prediction.writers.files import JsonArrayFile
from vitdet_plugin.utils.output_folder import OutputFolder


class CocoWriter(Writer):
    """``coco_results.json`` for ``COCO.loadRes``, and ``coco_images.json``, the annotation file for it without objects.

    Images have the ids 1, 2, 3, … in the order of prediction, categories in the order of the classes.
    """

    def __init__(self, output: OutputFolder, **options: Any) -> None:
        super().__init__(output, **options)
        self.path = output.claim(self.folder / FILES['coco'])
        images = output.claim(self.folder / COCO_IMAGES)
        categories = [dict(id=index + 1, name=name) for index, name in enumerate(self.classes)]
        names = json.dumps(categories, ensure_ascii=False)
        head = f'{{"info": {{}}, "categories": {names}, "annotations": [], "images": '
        self._results, self._images = JsonArrayFile(self.path), JsonArrayFile(images, head, '}')
        self._count = 0

    def add(self, result: Detections | Classification, name: str) -> None:
        """Append the objects of an image."""
        assert isinstance(result, Detections)
        self._count += 1
        height, width = result.shape
        image: dict[str, Any] = dict(id=self._count, file_name=result.path or name, width=width, height=height)
        if result.frame is not None:
            image['frame'] = result.frame
        self._images.add([image])  # first, so that every result has its image
        self._results.add(result.to_coco(self._count))

    def close(self) -> None:
        """Close the files."""
        self._results.close()
        self._images.close()
