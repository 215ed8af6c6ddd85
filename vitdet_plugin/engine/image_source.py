"""One image to predict: a file, a frame of a video, or an image in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from vitdet_plugin.engine.image_urls import download_image
from vitdet_plugin.engine.video_frames import VideoFrames
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import escape, is_unicode


@dataclass(frozen=True)
class Clip:
    """A video, camera or network stream that frames belong to.

    Attributes:
        name: Path, camera or URL.
        output: Path of a drawn video below the output folder, without suffix.
        rate: Frames per second.
        is_live: Whether its frames come in real time.
    """

    name: str
    output: PurePath
    rate: float
    is_live: bool = False


@dataclass(frozen=True)
class ImageSource:
    """One image to predict.

    Attributes:
        name: Path, or a description for messages.
        output: Path of a drawn image below the output folder, without suffix.
        path: Image or video file, URL or camera; None for an image in memory.
        array: Image in memory, (H, W, 3) uint8 in BGR order.
        video: Video that the image is a frame of, to be decoded by :meth:`content`.
        frame: Number of the frame, from 0.
        clip: What the frame belongs to.
        color_type: How a URL is decoded.
        is_found: Whether the file was found in a folder or list, not named by the caller.
        is_hidden: Whether the file was found and is hidden, such as the ``._a.jpg`` of macOS.
        fault: Why the image cannot be used.
    """

    name: str
    output: PurePath
    path: Path | str | None = None
    array: np.ndarray | None = None
    video: VideoFrames | None = None
    frame: int | None = None
    clip: Clip | None = None
    color_type: str = 'color'
    is_found: bool = False
    is_hidden: bool = False
    fault: UserError | None = None

    def content(self) -> Path | np.ndarray:
        """Return the path of an image file, or the array (H, W, 3) of another image.

        Raises:
            UserError: The frame cannot be decoded, the image not downloaded, or the name of the file is not UTF-8, so
                that no results can name it.
        """
        if self.fault is not None:
            raise self.fault
        if isinstance(self.path, Path) and not is_unicode(str(self.path)):
            raise UserError(f'{escape(str(self.path))} has a name that is not UTF-8; rename it')
        if self.array is not None:
            return self.array
        if self.video is not None:
            assert self.frame is not None
            return self.video.read(self.frame)
        if isinstance(self.path, str):
            return download_image(self.path, self.color_type)
        assert self.path is not None
        return self.path
