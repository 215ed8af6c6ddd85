"""Writers of prediction results, one module for each format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.format_names import FORMATS_OF_CLASSES, RESULTS
from vitdet_plugin.prediction.results import Classification, Detections
from vitdet_plugin.prediction.writers.base import Writer
from vitdet_plugin.prediction.writers.coco import CocoWriter
from vitdet_plugin.prediction.writers.labelme import LabelMeWriter
from vitdet_plugin.prediction.writers.tables import CsvWriter, JsonLinesWriter, JsonWriter
from vitdet_plugin.prediction.writers.yolo import YoloWriter
from vitdet_plugin.utils.output_folder import OutputFolder

FORMATS: dict[str, type[Writer]] = {
    'coco': CocoWriter, 'yolo': YoloWriter, 'labelme': LabelMeWriter, 'csv': CsvWriter, 'jsonl': JsonLinesWriter,
    'json': JsonWriter}

__all__ = ['FORMATS', 'ResultFiles', 'Writer', 'check_formats']


def check_formats(formats: Sequence[str], is_classifier: bool | None = None) -> list[str]:
    """Return the formats without repetitions.

    Args:
        formats: Names of formats.
        is_classifier: Whether classes of images are written, not objects; None if that is not known yet.

    Raises:
        UserError: An unknown format, or one that the model has no results for.
    """
    for name in formats:
        if name not in FORMATS:
            raise UserError(f'format {name!r} is unknown; choose from {", ".join(FORMATS)}')
        if is_classifier and name not in FORMATS_OF_CLASSES:
            raise UserError(f'format {name} is for detectors, and this model is a classifier; choose from '
                            f'{", ".join(FORMATS_OF_CLASSES)}')
    return list(dict.fromkeys(formats))


class ResultFiles:
    """Files in several formats. They are created with the first result.

    Args:
        folder: Output folder; files of images in it that another program wrote are not replaced.
        formats: Names of formats.
        classes: Class names of the model.
        top: Most classes of an image that JSON files of a classifier list.
        save_conf: Whether to append scores to YOLO's lines.

    Attributes:
        output: The output folder.
    """

    def __init__(self, folder: Path | OutputFolder, formats: Sequence[str], classes: Sequence[str], top: int = 5,
                 save_conf: bool = False) -> None:
        self.output = folder if isinstance(folder, OutputFolder) else OutputFolder(folder, RESULTS)
        self._formats = list(formats)
        self._options = dict(classes=tuple(classes), top=top, save_conf=save_conf)
        self._writers: list[Writer] | None = None

    def add(self, result: Detections | Classification, name: str) -> None:
        """Write the result of an image.

        Args:
            result: The result.
            name: Path of the image's own files below the folder, without suffix; different for every image.

        Raises:
            UserError: A file cannot be written, or is not one of an earlier run.
        """
        if self._writers is None:
            self._writers = [FORMATS[name](self.output, **self._options) for name in self._formats]
        for writer in self._writers:
            writer.add(result, name)

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers or ():
            writer.close()

    @property
    def paths(self) -> list[Path]:
        """The files and folders that were written."""
        return [writer.path for writer in self._writers or ()]
