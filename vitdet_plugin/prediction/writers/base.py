"""What the writers have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitdet_plugin.prediction.results import Classification, Detections
from vitdet_plugin.utils.output_folder import OutputFolder


class Writer:
    """Writes results as they come.

    Args:
        output: Output folder.
        classes: Class names of the model.
        top: Most classes of an image that are listed by a classifier.
        save_conf: Whether to append scores to YOLO's lines.

    Attributes:
        path: The file, or the folder of the files.
    """

    path: Path

    def __init__(self, output: OutputFolder, classes: tuple[str, ...] = (), top: int = 5,
                 save_conf: bool = False) -> None:
        self.output, self.folder = output, output.folder
        self.classes, self.top, self.save_conf = classes, top, save_conf
        self._file: Any = None  # with one file for all images

    def add(self, result: Detections | Classification, name: str) -> None:
        """Write the result of an image with this name of its own files."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file; what was written is complete before."""
        if self._file is not None:
            self._file.close()
