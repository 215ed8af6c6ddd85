"""YOLO: a text file of labels for each image."""

from __future__ import annotations

from typing import Any

from vitdet_plugin.prediction.format_names import FILES
from vitdet_plugin.prediction.results import Classification, Detections
from vitdet_plugin.prediction.writers.base import Writer
from vitdet_plugin.utils.output_files import write_text
from vitdet_plugin.utils.output_folder import OutputFolder


class YoloWriter(Writer):
    """``labels/NAME.txt``, empty for an image without objects, and ``classes.txt`` with a class name per line."""

    def __init__(self, output: OutputFolder, **options: Any) -> None:
        super().__init__(output, **options)
        self.path = self.folder / FILES['yolo']
        write_text(output.claim(self.folder / 'classes.txt'), ''.join(f'{name}\n' for name in self.classes))

    def add(self, result: Detections | Classification, name: str) -> None:
        """Write the labels of an image."""
        assert isinstance(result, Detections)
        lines = result.to_yolo(self.save_conf)
        write_text(self.output.claim(self.path / f'{name}.txt'), ''.join(f'{line}\n' for line in lines))
