"""Annotation formats that ``vitdet init`` reads: one module each with a constant ``FORMAT`` or ``FORMATS``.

A new format is a new module here, a line in :func:`known_formats`, and a test with files that the test writes itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitdet_plugin.datasets.formats.base import Doubtful, LastResort
from vitdet_plugin.errors import UserError

if TYPE_CHECKING:
    from vitdet_plugin.datasets.formats.base import Format
    from vitdet_plugin.datasets.formats.tree import FileTree

_ARCHIVES = ('.zip', '.tar', '.gz', '.tgz', '.bz2', '.xz', '.7z', '.rar')


class SeveralFormats(UserError):
    """A folder fits several formats that describe different objects."""


def known_formats() -> tuple[Format, ...]:
    """Return all formats, those whose content is specific first."""
    from vitdet_plugin.datasets.formats import (
        cityscapes,
        class_folders,
        coco,
        csv_files,
        cvat,
        label_studio,
        labelme,
        mask_png,
        supervisely,
        via,
        voc,
        yolo,
    )
    return (
        coco.FORMAT,
        yolo.FORMAT,
        voc.FORMAT,
        labelme.FORMAT,
        via.FORMAT,
        cvat.FORMAT,
        label_studio.FORMAT,
        supervisely.FORMAT,
        csv_files.FORMAT,
        cityscapes.FORMAT,
        *mask_png.FORMATS,
        class_folders.FORMAT,
    )


def recognize(tree: FileTree, name: str | None = None) -> tuple[Format, str]:
    """Find the format of a data set.

    Args:
        tree: The files.
        name: Name of the format if the user states it.

    Returns:
        The format and the evidence for it.

    Raises:
        SeveralFormats: Several formats fit the files and do not describe the same objects.
        UserError: No format fits the files, or not the one of that name.
    """
    formats = known_formats()
    if name is not None:
        formats = tuple(each for each in formats if each.name == name)
        if not formats:
            raise UserError(f'--format {name}: not one of {", ".join(each.name for each in known_formats())}')
    found = [(each, evidence) for each in formats
             if (name is not None or each.is_automatic) and (evidence := each.recognize(tree))]
    for kind in (LastResort, Doubtful):
        found = [each for each in found if not isinstance(each[1], kind)] or found
    where = tree.chosen or tree.root
    if not found:
        broken = ''.join(f'; {file} is not valid JSON ({error})' for file, error in tree.json_errors.items())
        archives = [file for file in tree.others if file.suffix.lower() in _ARCHIVES]
        broken += f'; {archives[0]} is an archive: unpack it first' if archives else ''
        images = 0 if tree.chosen else len(tree.images)
        if name is not None:
            raise UserError(f'{where} is not a data set of the format {name} ({images} images, '
                            f'{len(tree.others)} other files{broken}); it needs {formats[0].looks_for}')
        looked_for = '\n'.join(f'  {each.name}: {each.looks_for}' for each in formats)
        raise UserError(f'{where} is not a data set of a known format ({images} images, {len(tree.others)} '
                        f'other files{broken}); looked for:\n{looked_for}')
    if len(found) > 1:
        from vitdet_plugin.datasets.formats.same_objects import choose_equal
        chosen = choose_equal(found, tree)
        if isinstance(chosen, tuple):
            return chosen
        listed = '; '.join(f'{each.name} ({evidence})' for each, evidence in found)
        raise SeveralFormats(f'{where} fits several formats that differ ({chosen}): {listed}; choose one with '
                             '--format, or name one file or subfolder')
    return found[0]
