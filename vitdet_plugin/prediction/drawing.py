"""Drawn results: an image file for each image, a video file for each video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vitdet_plugin.engine.image_source import Clip
from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.results import Classification, Detections
from vitdet_plugin.utils.mask_rle import RleMasks
from vitdet_plugin.utils.output_folder import OutputFolder
from vitdet_plugin.visualization.draw import Objects, draw_objects, draw_predictions_and_ground_truth, write_figure
from vitdet_plugin.visualization.draw_classes import draw_classification

_CODECS = (('.mp4', 'mp4v'), ('.avi', 'MJPG'))  # the second one is in every build of OpenCV


class Drawings:
    """Writes drawn results below a folder.

    Args:
        folder: Output folder; files in it that another program wrote are not replaced.
        classes: Class names of the model.
        score_thr: Lowest score, for the captions.
    """

    def __init__(self, folder: Path | OutputFolder, classes: Sequence[str], score_thr: float) -> None:
        self._output = folder if isinstance(folder, OutputFolder) else OutputFolder(folder)
        self._classes, self._score_thr = classes, score_thr
        self._clip: Clip | None = None
        self._video: VideoFile | None = None

    def add(self, image: np.ndarray, result: Detections | Classification, name: str, clip: Clip | None) -> None:
        """Draw a result.

        Args:
            image: (H, W, 3) uint8 in BGR order.
            result: What was predicted for it.
            name: Path of the image file below the folder without suffix, or that of the video.
            clip: The video that the image is a frame of.

        Raises:
            UserError: The file cannot be written, or is not one of an earlier run.
        """
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        if clip is None:
            path = self._output.claim(self._output.folder / f'{name}.jpg')
            write_figure(path, draw_result(rgb, result, self._classes, self._score_thr))
            return
        if clip is not self._clip or self._video is None:
            self.close()
            self._clip, self._video = clip, VideoFile(self._output, name, clip.rate)
        figure = draw_objects(rgb, objects_of(result).limit(), self._classes) if isinstance(result, Detections) else \
            draw_result(rgb, result, self._classes, self._score_thr)
        self._video.add(figure)

    def close(self) -> None:
        """Complete the video that is being written."""
        if self._video is not None:
            self._video.close()
        self._clip = self._video = None


class VideoFile:
    """A video, ``.mp4`` or where OpenCV cannot write it ``.avi``.

    Args:
        output: Output folder.
        name: Path below it, without suffix.
        rate: Frames per second.
    """

    def __init__(self, output: OutputFolder, name: str, rate: float) -> None:
        self._output, self._path, self._rate = output, output.folder / name, rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, figure: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8 in RGB order; it is scaled to the size of the first one.

        Raises:
            UserError: OpenCV cannot write videos here.
        """
        if self._writer is None:
            self._size = tuple(side + side % 2 for side in figure.shape[1::-1])  # codecs require even sides
            self._writer = self._open()
        height, width = figure.shape[:2]
        frame = cv2.cvtColor(figure, cv2.COLOR_RGB2BGR)
        if self._size != (width, height):
            frame = cv2.resize(frame, self._size)
        self._writer.write(frame)

    def close(self) -> None:
        """Complete the file."""
        if self._writer is not None:
            self._writer.release()

    def _open(self) -> cv2.VideoWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for suffix, codec in _CODECS:
            path = self._output.claim(self._path.with_name(self._path.name + suffix))
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), self._rate, self._size)
            if writer.isOpened():
                return writer
        raise UserError(f'cannot write the video {self._path}; choose another folder, or draw no results')


def draw_result(rgb: np.ndarray, result: Detections | Classification, classes: Sequence[str],
                score_thr: float) -> np.ndarray:
    """Return a figure (H', W', 3) uint8 in RGB order with a caption.

    Args:
        rgb: The image (H, W, 3) uint8 in RGB order.
        result: What was predicted for it.
        classes: Class names of the model.
        score_thr: Lowest score, for the caption.
    """
    if isinstance(result, Detections):
        return draw_predictions_and_ground_truth(rgb, objects_of(result), None, classes, score_thr)
    scores = np.zeros(len(result.scores), np.float32)
    scores[result.labels] = result.scores
    return draw_classification(rgb, scores, classes)


def objects_of(result: Detections) -> Objects:
    """Return a result for drawing; its masks are decoded one at a time."""
    masks = None if result.rles is None else RleMasks(result.rles)
    return Objects(result.boxes, result.labels, result.scores, masks)
