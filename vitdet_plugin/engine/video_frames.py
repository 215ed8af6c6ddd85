"""Frames of video files and cameras, decoded by OpenCV one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vitdet_plugin.errors import UserError

VIDEO_SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.flv')
_CAMERA = re.compile(r'camera:(\d+)')
_STREAMS = ('rtsp://', 'rtmp://', 'udp://')
_SLACK = 0.1  # part of the frames by which the number in the header of a file may be wrong
_DEFAULT_RATE = 25.0  # frames per second of a drawn video whose source has no usable rate


def is_video_file(path: Path) -> bool:
    """Whether the suffix is that of a video, in upper or lower case."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_live(name: str) -> bool:
    """Whether a name is that of a camera (``camera:0``) or of a network stream (``rtsp://…``)."""
    return bool(_CAMERA.fullmatch(name)) or name.startswith(_STREAMS)


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
        self._count: int | None = None
        capture = self._open()
        is_video, self.estimate = capture.grab(), max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.rate = _usable_rate(capture)
        capture.release()
        if not is_video:
            raise UserError(f'{path} cannot be read as a video by OpenCV; convert it, or extract its frames as images')

    def __len__(self) -> int:
        if self._count is None:
            capture, self._count = self._open(), 0
            while capture.grab():  # the number in the header of the file may be wrong
                self._count += 1
            capture.release()
        return self._count

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode the frames once, (H, W, 3) uint8 in BGR order.

        Raises:
            UserError: After the last frame that can be decoded, if the header states many more.
        """
        capture, count = self._open(), 0
        try:
            while True:
                is_read, image = capture.read()
                if not is_read:
                    break
                count += 1
                yield image
        finally:
            capture.release()
        if count < (1 - _SLACK) * self.estimate:
            raise UserError(f'{self.path}: only {count} of {self.estimate} frames can be decoded')

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


class LiveFrames:
    """The frames of a camera or network stream, until it ends.

    Args:
        name: ``camera:0``, ``camera:1``, …, or the URL of a stream.

    Raises:
        UserError: It cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        match = _CAMERA.fullmatch(name)
        self._capture = cv2.VideoCapture(int(match[1]) if match else name)
        if not self._capture.isOpened():
            raise UserError(f'{name} cannot be opened by OpenCV; check that it is connected and not in use'
                            if match else f'{name} cannot be opened by OpenCV; check the address')
        self.rate = _usable_rate(self._capture)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield frames (H, W, 3) uint8 in BGR order."""
        try:
            while True:
                is_read, image = self._capture.read()
                if not is_read:
                    return
                yield image
        finally:
            self._capture.release()


def _usable_rate(capture: cv2.VideoCapture) -> float:
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0.1 < rate <= 1000 else _DEFAULT_RATE
