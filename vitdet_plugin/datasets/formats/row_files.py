"""Text files of rows, one file for each image, such as those of KITTI and DOTA."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, find_image
from vitdet_plugin.datasets.formats.files import load_text, sample, weigh
from vitdet_plugin.datasets.formats.tree import FileTree

_TRIED_ROWS = 5
_OTHER_FILES = ('readme', 'classes', 'labels', 'train', 'val', 'test', 'trainval')  # without suffix


def rows_of(text: str) -> list[tuple[int, str]]:
    """Return the number and the text of each line that is not blank."""
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def find_row_files(tree: FileTree, is_row: Callable[[str], bool], is_header: Callable[[str], bool] = lambda row: False
                   ) -> list[PurePosixPath]:
    """Return the text files of the folders in which a file has rows of a format.

    Args:
        tree: The files.
        is_row: Whether a line is a row of the format.
        is_header: Whether a line is one that may precede the rows.
    """
    files = [file for file in tree.with_suffix('.txt')
             if not file.stem.lower().startswith(_OTHER_FILES) or tree.with_stem(file.stem)]
    folders = set()
    for file in sample(files, per_folder=8, limit=48):
        if file.parent not in folders:
            rows = [row for _, row in rows_of(tree.read_text(file) or '') if not is_header(row)][:_TRIED_ROWS]
            if rows and 2 * sum(map(is_row, rows)) >= len(rows):  # a few may be damaged
                folders.add(file.parent)
    return [file for file in files if file.parent in folders]


def weigh_row_files(tree: FileTree, files: Sequence[PurePosixPath], what: str) -> str | None:
    """Return the evidence for a format with such files, weighed by the images that belong to them; None without files.

    Args:
        tree: The files.
        files: Result of :func:`find_row_files`.
        what: Describes the files.
    """
    if not files:
        return None
    return weigh(f'{len(files)} text files {what}, such as {files[0]}',
                 [find_image(tree, name, file) for file in files[:20] for name in image_names(file)])


def read_rows(collector: Collector, file: PurePosixPath, is_header: Callable[[str], bool] = lambda row: False
              ) -> list[tuple[AnnotatedImage, int, str]]:
    """Add the image of a file and return the rows with the image and their line; faults become problems."""
    try:
        rows = [row for row in rows_of(load_text(collector.tree, file)) if not is_header(row[1])]
    except ValueError as error:
        collector.problem(collector.tree.path(file), *error.args)
        return []
    to = collector.add_image(image_names(file), file, objects=len(rows))
    return [] if to is None else [(to, number, text) for number, text in rows]


def image_names(file: PurePosixPath) -> list[str]:
    """Return names, without suffix, of the image of a text file: in the folder of images next to its own, or anywhere.

    ``training/label_2/1.txt`` belongs to ``training/image_2/1``, ``labelTxt/1.txt`` to ``images/1``.
    """
    folder = re.sub(r'^label(s|txt)?', 'image', file.parent.name, flags=re.IGNORECASE)
    siblings = [file.parent.parent / name / file.stem for name in dict.fromkeys((folder, 'images'))]
    return [*(str(each) for each in siblings if folder != file.parent.name), str(file.parent / file.stem)]


def to_floats(words: Sequence[str]) -> list[float] | None:
    """Return words as numbers, or None if one is not a number."""
    try:
        return [float(word) for word in words]
    except ValueError:
        return None
