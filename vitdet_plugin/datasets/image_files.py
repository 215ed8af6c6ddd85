"""Recognize image files in folders by their suffix. A file that is named explicitly may have any suffix."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.dib', '.webp', '.tif', '.tiff', '.ppm', '.pgm',
                  '.pbm', '.pnm', '.jp2', '.gif', '.avif')
MMPRETRAIN_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # read without ``extensions``
_SYSTEM_FILES = ('thumbs.db', 'desktop.ini')


def is_image_file(path: Path) -> bool:
    """Whether the suffix is that of an image, in upper or lower case."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def list_folders(root: Path) -> list[Path]:
    """Return the folders in ``root`` in sorted order, without hidden ones."""
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith('.'))


def list_class_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the files of one class at any depth, without hidden files and folders.

    Returns:
        Images and other files, each sorted by path.
    """
    images, others = [], []
    for path in sorted(folder.rglob('*')):
        if any(part.startswith('.') for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        if is_image_file(path):
            images.append(path)
        elif path.name.lower() not in _SYSTEM_FILES:
            others.append(path)
    return images, others


def walk_files(folder: Path) -> Iterator[tuple[PurePosixPath, bool]]:
    """Yield the path of every file relative to a folder, sorted, and whether it is hidden (``._a.png``, ``.git/``)."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _is_ancestor(os.path.join(parent, name), parent)]
        inside = Path(parent).relative_to(folder)
        found += [PurePosixPath((inside / name).as_posix()) for name in names]
    for path in sorted(found):
        yield path, any(part.startswith('.') for part in path.parts) or path.name.lower() in _SYSTEM_FILES


def _is_ancestor(link: str, folder: str) -> bool:
    """Whether a folder is a link to a folder that contains it, which would be listed again and again."""
    return os.path.islink(link) and Path(folder).resolve().is_relative_to(Path(link).resolve())


class ImageIndex:
    """The images below a folder at any depth, without hidden files, found by name or by name without suffix.

    Attributes:
        folder: The folder.
        images: Paths relative to it, sorted.
        others: Other files that are not hidden.
        hidden: Number of hidden image files, such as the ``._a.png`` of macOS.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.hidden = folder, 0
        self.images: list[PurePosixPath] = []
        self.others: list[PurePosixPath] = []
        self._by_stem: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
        self._by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
        self._by_name_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
        for path, is_hidden in walk_files(folder):
            if is_hidden:
                self.hidden += is_image_file(Path(path))
            elif is_image_file(Path(path)):
                self.images.append(path)
                self._by_stem[path.with_suffix('')].append(path)
                self._by_name[path.name].append(path)
                self._by_name_stem[path.stem].append(path)
            else:
                self.others.append(path)

    def with_stem(self, stem: PurePosixPath) -> list[PurePosixPath]:
        """Return the images of a path without suffix, or of its last part if that occurs in one folder only."""
        found = self._by_stem.get(stem) or self._by_name_stem.get(stem.name, [])
        return found if len({path.parent for path in found}) == 1 else []

    def named(self, name: str, parent: PurePosixPath) -> list[PurePosixPath]:
        """Return the images of a name, with or without suffix, in a folder or else anywhere if it occurs only once."""
        found = self._by_name.get(name) or self.with_stem(parent / name)
        inside = [path for path in found if path.parent == parent]
        return inside or (found if len(found) == 1 else [])

    def notes(self) -> list[str]:
        """Return remarks about files that are not used."""
        notes = [f'{self.hidden} hidden image files in {self.folder} are ignored'] if self.hidden else []
        unknown = [str(path) for path in self.others if path.suffix.lower() not in ('.txt', '.xml', '.json', '.yaml',
                                                                                   '.yml', '.csv', '.cache')]
        if unknown:
            notes.append(f'{len(unknown)} files in {self.folder} are not images by their suffix: '
                         f'{", ".join(unknown[:3])}{", …" if len(unknown) > 3 else ""}')
        return notes
