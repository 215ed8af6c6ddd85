"""The image library that is installed: OpenCV, or else Pillow."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

from .errors import ModelError


@lru_cache(None)
def opencv() -> ModuleType | None:
    """Return OpenCV, or None if it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


@lru_cache(None)
def pillow() -> ModuleType | None:
    """Return ``PIL.Image``, or None if Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError:
        return None
    return Image


def check_libraries() -> None:
    """Check that one of them is installed.

    Raises:
        ModelError: None is.
    """
    if opencv() is None and pillow() is None:
        raise ModelError('images require OpenCV or Pillow. Run pip install opencv-python-headless, or pillow')
