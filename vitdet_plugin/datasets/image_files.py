"""Recognize image files in folders by their suffix. A file that is named explicitly may have any suffix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vitdet_plugin.runtime.sources import IMAGE_SUFFIXES

MMPRETRAIN_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # read without ``extensions``
SYSTEM_FILES = ('thumbs.db', 'desktop.ini')  # of Windows, in lower case


def is_image_file(path: Path) -> bool:
    """Whether the suffix is that of an image, in upper or lower case."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_resource_fork(path: Path) -> bool:
    """Whether a file is one that macOS adds to archives in a folder of their own; it holds no image."""
    return '__MACOSX' in path.parts[:-1]


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
        elif path.name.lower() not in SYSTEM_FILES:
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
        yield path, any(part.startswith('.') for part in path.parts) or path.name.lower() in SYSTEM_FILES


def _is_ancestor(link: str, folder: str) -> bool:
    """Whether a folder is a link to a folder that contains it, which would be listed again and again."""
    return os.path.islink(link) and Path(folder).resolve().is_relative_to(Path(link).resolve())
