"""Frames of video files, decoded by OpenCV one after the other."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vitdet_plugin.errors import UserError

VIDEO_SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.flv')


def is_video_file(path: Path) -> bool:
    """Whether the suffix is that of a video, in upper or lower case."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class VideoFrames:
    """The frames of a video file. They are meant to be read in order; going back decodes from the beginning.

    Args:
        path: Existing file.

    Raises:
        UserError: OpenCV cannot read any frame of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture: cv2.VideoCapture | None = None
        self._next = 0
        capture, self._count = self._open(), 0
        while capture.grab():  # the number in the header of the file may be wrong
            self._count += 1
        capture.release()
        if not self._count:
            raise UserError(f'{path} cannot be read as a video by OpenCV; convert it, or extract its frames as images')

    def __len__(self) -> int:
        return self._count

    def read(self, frame: int) -> np.ndarray:
        """Return a frame as an array (H, W, 3) uint8 in BGR order.

        Raises:
            UserError: The frame cannot be decoded.
        """
        if self._capture is None or frame < self._next:
            self._capture, self._next = self._open(), 0
        while self._next < frame and self._capture.grab():
            self._next += 1
        is_read, image = self._capture.read()
        self._next += 1
        if not is_read:
            raise UserError(f'{self.path}: frame {frame} cannot be decoded')
        return image

    def _open(self) -> cv2.VideoCapture:
        return cv2.VideoCapture(str(self.path))
