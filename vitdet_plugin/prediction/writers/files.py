"""Files that are complete at any moment, also if the program is stopped between two results."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime.writers import csv_text


class _AppendedFile:
    """A file to whose end records are written, each in one piece; an existing file is replaced."""

    def __init__(self, path: Path, start: str) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(path, 'wb', buffering=0)
        except OSError as error:
            raise UserError(f'{path} cannot be written ({error.strerror or error}); choose another folder') from error
        self._write(0, start)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, position: int, text: str) -> None:
        content = memoryview(_encode(text))
        try:
            self._file.seek(position)
            while content:
                content = content[self._file.write(content):]
        except OSError as error:
            raise UserError(f'{self.path} cannot be written ({error.strerror or error}); what was written before is '
                            'kept') from error


class LinesFile(_AppendedFile):
    """A text file to which lines are appended.

    Args:
        path: The file.
        start: Its first lines.
    """

    def __init__(self, path: Path, start: str = '') -> None:
        super().__init__(path, start)

    def add(self, text: str) -> None:
        """Append text that ends with a line feed."""
        self._write(self._file.seek(0, os.SEEK_END), text)


class CsvFile(LinesFile):
    """A CSV file.

    Args:
        path: The file.
        columns: Its header.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        super().__init__(path, csv_text([columns]))

    def add_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Append rows."""
        if rows:
            self.add(csv_text(rows))


class JsonArrayFile(_AppendedFile):
    """A JSON file whose last part is an array; each record is written over the end, together with a new end.

    Args:
        path: The file.
        before: Text before the array, such as ``{"images": ``.
        after: Text after it, such as ``}``.
    """

    def __init__(self, path: Path, before: str = '', after: str = '') -> None:
        self._end, self._at, self._is_empty = f']{after}\n', len(_encode(f'{before}[')), True
        super().__init__(path, f'{before}[{self._end}')

    def add(self, records: Sequence[Any]) -> None:
        """Append records to the array."""
        if not records:
            return
        text = ',\n'.join(json.dumps(record, ensure_ascii=False) for record in records)
        text = text if self._is_empty else f',\n{text}'
        self._write(self._at, text + self._end)
        self._at, self._is_empty = self._at + len(_encode(text)), False


def _encode(text: str) -> bytes:
    r"""Return a text in UTF-8; half of a surrogate pair becomes an escape as in JSON, such as ``\udce4``."""
    return text.encode('utf-8', 'backslashreplace')
