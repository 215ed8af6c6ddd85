"""A folder into which commands write many files: files that they did not write are not replaced."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import warn

RECORD = '.vitdet_files'  # a path per line, relative to the folder
_NAMED = 3


class OutputFolder:
    """The files of a folder that this run and earlier ones wrote, which are recorded in the folder.

    Args:
        folder: The folder; it is created with the first file.
        results: Names of files that no other program writes: they are replaced without a record.
    """

    def __init__(self, folder: str | Path, results: Sequence[str] = ()) -> None:
        self.folder, self._results = Path(folder), results
        self._record = self.folder / RECORD
        self._earlier: set[str] | None = None
        self._written: set[str] = set()

    def claim(self, path: Path) -> Path:
        """Record that a file is written, before it is.

        Args:
            path: A file in the folder or a subfolder.

        Returns:
            The path.

        Raises:
            UserError: It exists, and no earlier run wrote it: it may be an image that is predicted.
        """
        name = self._name(path)
        if name not in self._written and name not in self._of_earlier_runs():
            if name not in self._results:
                self.check(path)
                self._append(name)
        self._written.add(name)
        return path

    def check(self, path: Path) -> None:
        """Check that a file can be written.

        Raises:
            UserError: As for :meth:`claim`.
        """
        if os.path.lexists(path) and self._name(path) not in self._written | self._of_earlier_runs():
            raise UserError(f'{path} exists and was not written by an earlier run, so it is not replaced; choose '
                            'another output folder')

    def is_of_earlier_run(self, path: Path) -> bool:
        """Whether an earlier run wrote a file."""
        return self._name(path) in self._of_earlier_runs()

    def report_others(self) -> None:
        """Print a warning that names files of earlier runs that this one did not replace."""
        others = sorted(name for name in self._of_earlier_runs() - self._written if (self.folder / name).is_file())
        if others:
            names = ', '.join(others[:_NAMED]) + ' …' * (len(others) > _NAMED)
            count = f'{len(others)} files' if len(others) > 1 else 'a file'
            warn(f'{self.folder} also holds {count} of an earlier run ({names}): delete what is no longer needed, or '
                 'give another output folder')

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.folder).replace(os.sep, '/')

    def _of_earlier_runs(self) -> set[str]:
        if self._earlier is None:
            is_recorded = self._record.is_file()
            text = self._record.read_text(encoding='utf-8', errors='surrogateescape') if is_recorded else ''
            found = {name for name in self._results if (self.folder / name).is_file()}
            self._earlier = {*text.split('\n')} - {''} | found
        return self._earlier

    def _append(self, name: str) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._record, 'a', encoding='utf-8', errors='surrogateescape') as file:
                file.write(f'{name}\n')
        except OSError as error:
            raise UserError(f'{self._record} cannot be written ({error.strerror or error}); choose another folder'
                            ) from error
