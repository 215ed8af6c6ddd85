"""Recognize image files in folders by their suffix. A file that is named explicitly may have any suffix."""

from __future__ import annotations

from pathlib import Path

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.dib', '.webp', '.tif', '.tiff', '.ppm', '.pgm',
                  '.pbm', '.pnm', '.jp2', '.gif', '.avif')


def is_image_file(path: Path) -> bool:
    """Whether the suffix is that of an image, in upper or lower case."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def find_image(folder: Path, stem: str) -> Path | None:
    """Return the image named ``stem`` plus any known suffix in a folder, or None."""
    for suffix in IMAGE_SUFFIXES:
        for variant in (suffix, suffix.upper()):
            if (path := folder / f'{stem}{variant}').is_file():
                return path
    return None


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
        (images if is_image_file(path) else others).append(path)
    return images, others
