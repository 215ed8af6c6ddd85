"""Which files count as pictures when a folder is searched; a picture that is named is read whatever its suffix."""

from pathlib import Path

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.dib', '.webp', '.tif', '.tiff', '.ppm', '.pgm',
                  '.pbm', '.pnm', '.jp2', '.gif', '.avif')


def is_picture(path: Path) -> bool:
    """Whether its suffix is a picture's, in either case."""
    return path.suffix.lower() in IMAGE_SUFFIXES
