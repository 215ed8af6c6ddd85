"""JSON, JSON lines and CSV: one record for an image or an object."""

from __future__ import annotations

import json
from typing import Any

from vitdet_plugin.prediction.format_names import FILES
from vitdet_plugin.prediction.results import Classification, Detections, as_record, name_of
from vitdet_plugin.prediction.writers.base import Writer
from vitdet_plugin.prediction.writers.files import CsvFile, JsonArrayFile, LinesFile
from vitdet_plugin.utils.output_folder import OutputFolder

_OBJECT_COLUMNS = ('filename', 'width', 'height', 'class', 'xmin', 'ymin', 'xmax', 'ymax', 'score', 'frame')
_CLASS_COLUMNS = ('file', 'class', 'score')


class JsonWriter(Writer):
    """``predictions.json``: an array with a record for each image."""

    def __init__(self, output: OutputFolder, **options: Any) -> None:
        super().__init__(output, **options)
        self.path = output.claim(self.folder / FILES['json'])
        self._file = JsonArrayFile(self.path)

    def add(self, result: Detections | Classification, name: str) -> None:
        """Append a record."""
        self._file.add([as_record(result, self.top)])


class JsonLinesWriter(Writer):
    """``predictions.jsonl``: a line with a record for each image."""

    def __init__(self, output: OutputFolder, **options: Any) -> None:
        super().__init__(output, **options)
        self.path = output.claim(self.folder / FILES['jsonl'])
        self._file = LinesFile(self.path)

    def add(self, result: Detections | Classification, name: str) -> None:
        """Append a line."""
        height, width = result.shape
        record = dict(as_record(result, self.top), width=width, height=height)
        self._file.add(json.dumps(record, ensure_ascii=False) + '\n')


class CsvWriter(Writer):
    """``predictions.csv``: a row for each object, with its box in pixels; or the class of each image."""

    def __init__(self, output: OutputFolder, **options: Any) -> None:
        super().__init__(output, **options)
        self.path = output.claim(self.folder / FILES['csv'])

    def add(self, result: Detections | Classification, name: str) -> None:
        """Append the rows of an image."""
        is_class = isinstance(result, Classification)
        if self._file is None:
            self._file = CsvFile(self.path, _CLASS_COLUMNS if is_class else _OBJECT_COLUMNS)
        if isinstance(result, Classification):
            self._file.add_rows([(name_of(result), result.name, f'{result.score:.6f}')])
            return
        height, width = result.shape
        frame = '' if result.frame is None else result.frame
        self._file.add_rows([
            (result.path or name, width, height, class_name, *(f'{value:.2f}' for value in box), f'{score:.6f}', frame)
            for class_name, box, score in zip(result.names, result.boxes.tolist(), result.scores)])
