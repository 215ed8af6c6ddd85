"""Files with results, each record written as it comes."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .errors import ModelError
from .results import Classification, Detections

FORMATS = ('jsonl', 'coco', 'csv')
_BOX_COLUMNS = ('path', 'label', 'name', 'score', 'x1', 'y1', 'x2', 'y2')
_CLASS_COLUMNS = ('path', 'label', 'name', 'score')


class Writer:
    """Writes results to one file.

    ``jsonl`` is a JSON object for each image, ``csv`` a row for each object (of a classifier, for the most likely class
    of each image), ``coco`` an annotation file with images, categories and scored annotations. A JSON-lines or CSV
    file is complete after each image; the annotations of COCO are written at the end.

    Args:
        path: The file; an existing one is replaced.
        kind: One of :data:`FORMATS`.
        classes: Class names of the model.
        is_classifier: Whether the results are classes of images.
        top: Most classes of an image in JSON lines.

    Raises:
        ModelError: An unknown format, or a file that cannot be written.
    """

    def __init__(self, path: Path, kind: str, classes: Sequence[str], is_classifier: bool, top: int = 5) -> None:
        if kind not in FORMATS:
            raise ModelError(f'format {kind!r} is unknown; choose from {", ".join(FORMATS)}')
        if kind == 'coco' and is_classifier:
            raise ModelError('format coco is for detectors, and this model is a classifier; choose jsonl or csv')
        self._path, self._classes, self._top = path, classes, top
        self._add: Callable[[Any], str] = dict(jsonl=self._line, csv=self._rows, coco=self._image)[kind]
        self._images: list[str] = []
        self._is_coco, self._count = kind == 'coco', 0
        self._annotations = path.with_name(f'.{path.name}.{os.getpid()}.part')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._annotations if self._is_coco else path, 'w', encoding='utf-8', newline='')
        except OSError as error:
            raise ModelError(f'{path} cannot be written ({error.strerror}); choose another file') from error
        if kind == 'csv':
            self._file.write(csv_text([_CLASS_COLUMNS if is_classifier else _BOX_COLUMNS]))

    def add(self, result: Detections | Classification) -> None:
        """Write the result of an image."""
        try:
            self._file.write(self._add(result))
            self._file.flush()
        except OSError as error:
            raise ModelError(f'{self._path} cannot be written ({error.strerror}); what was written before is kept'
                             ) from error

    def close(self) -> None:
        """Complete the file."""
        self._file.close()
        if not self._is_coco:
            return
        categories = [dict(id=number, name=name) for number, name in enumerate(self._classes, 1)]
        draft = self._annotations.with_name(f'{self._annotations.name}.json')
        with open(draft, 'w', encoding='utf-8') as whole, open(self._annotations, encoding='utf-8') as annotations:
            whole.write(f'{{"info": {{}}, "categories": {_json(categories)},\n"images": [')
            whole.write(',\n'.join(self._images))
            whole.write('],\n"annotations": [')
            whole.writelines(annotations)
            whole.write(']}\n')
        self._annotations.unlink()
        os.replace(draft, self._path)

    def _line(self, result: Detections | Classification) -> str:
        record = result.as_dict(self._top) if isinstance(result, Classification) else result.as_dict()
        return _json(record) + '\n'

    def _rows(self, result: Detections | Classification) -> str:
        if isinstance(result, Classification):
            return csv_text([(result.path, int(result.labels[0]), result.name, f'{result.score:.6g}')])
        return csv_text([(result.path, int(label), name, f'{score:.6g}', *(f'{value:.2f}' for value in box))
                     for label, name, score, box in zip(result.labels, result.names, result.scores, result.boxes)])

    def _image(self, result: Detections) -> str:
        height, width = result.shape
        number = len(self._images) + 1
        self._images.append(_json(dict(id=number, file_name=result.path, width=width, height=height)))
        text = ''
        for found in result.to_coco(number):
            text += ',\n' * (self._count > 0)
            self._count += 1
            area = found['bbox'][2] * found['bbox'][3]
            text += _json({'id': self._count, 'iscrowd': 0, 'area': area, **found})
        return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def csv_text(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as lines of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\r\n').writerows(rows)
    return text.getvalue()
