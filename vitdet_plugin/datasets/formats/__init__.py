"""Annotation formats that ``vitdet init`` reads: one module each with a constant ``FORMAT`` or ``FORMATS``.

A new format is a new module here, its name in ``_MODULES``, and a test with files that the test writes itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vitdet_plugin.datasets.archives import archive_suffix
from vitdet_plugin.datasets.formats.base import Doubtful, LastResort
from vitdet_plugin.errors import UserError

if TYPE_CHECKING:
    from vitdet_plugin.datasets.formats.base import Format
    from vitdet_plugin.datasets.formats.tree import FileTree

# the formats are tried in this order: those whose content is specific first
_MODULES = (
    'coco', 'coco_panoptic', 'yolo', 'voc', 'labelme', 'via', 'cvat', 'label_studio', 'supervisely', 'createml',
    'vott', 'datumaro', 'ground_truth', 'huggingface', 'kitti', 'dota', 'wider_face', 'csv_files', 'cityscapes',
    'mask_png', 'class_folders')


class SeveralFormats(UserError):
    """A folder fits several formats that describe different objects."""


class ForeignAnnotations(UserError):
    """A folder holds annotations of a form that is not read."""


def known_formats() -> tuple[Format, ...]:
    """Return all formats, those whose content is specific first."""
    modules = [import_module(f'{__name__}.{name}') for name in _MODULES]
    return tuple(each for module in modules for each in getattr(module, 'FORMATS', None) or [module.FORMAT])


def recognize(tree: FileTree, name: str | None = None) -> tuple[Format, str]:
    """Find the format of a data set.

    Args:
        tree: The files.
        name: Name of the format if the user states it.

    Returns:
        The format and the evidence for it.

    Raises:
        ForeignAnnotations: No format fits but that of class folders at most, and there are annotations that are not
            read.
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
    if name is None and all(each.name == 'class-folders' and isinstance(evidence, LastResort)
                            for each, evidence in found):
        _refuse_foreign(tree, bool(found))
    where = tree.chosen or tree.root
    if not found:
        images = 0 if tree.chosen else len(tree.images)
        if not (tree.images or tree.others):
            raise UserError(f'{where} has no files that a data set could consist of; give the folder of the data set')
        broken = _describe_broken(tree)
        if name is not None:
            raise UserError(f'{where} is not a data set of the format {name} ({images} images, '
                            f'{len(tree.others)} other files{broken}); it needs {formats[0].looks_for}')
        from vitdet_plugin.datasets.formats.class_folders import single_class_folder
        if one := single_class_folder(tree):
            raise UserError(f'{where} is not a data set of a known format: it has one folder of images, {one}, but a '
                            'classifier needs a folder for each of two or more classes, and a detector annotations')
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


def _describe_broken(tree: FileTree) -> str:
    """Return JSON files that cannot be parsed, and an archive, as the end of a list."""
    broken = ''.join(f'; {file} is not valid JSON ({error})' for file, error in tree.json_errors.items())
    archives = [file for file in tree.others if archive_suffix(file)]
    return broken + (f'; {archives[0]} is an archive: give it in place of the folder, or unpack it first' if archives
                     else '')


def _refuse_foreign(tree: FileTree, is_class_folders: bool) -> None:
    """Raise if there are annotations that no format reads, in place of taking the folders as classes."""
    from vitdet_plugin.datasets.formats.foreign import describe_foreign
    if not (foreign := describe_foreign(tree, is_class_folders)):
        return
    where = tree.chosen or tree.root
    if is_class_folders:
        raise ForeignAnnotations(f'{where}: {foreign}; --format class-folders takes the folders as classes')
    images = 0 if tree.chosen else len(tree.images)
    raise ForeignAnnotations(f'{where} is not a data set of a known format ({images} images, {len(tree.others)} other '
                             f'files{_describe_broken(tree)}): {foreign}')
