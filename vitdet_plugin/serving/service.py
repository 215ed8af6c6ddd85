"""The model of the server: one thread predicts one image after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from vitdet_plugin.api import Classification, Detections, Inferencer
from vitdet_plugin.engine.image_arrays import bgr_array
from vitdet_plugin.prediction.drawing import draw_result
from vitdet_plugin.prediction.results import as_record
from vitdet_plugin.serving.answers import as_coco
from vitdet_plugin.serving.faults import RequestFault
from vitdet_plugin.serving.images import Decoded, decode_upload, encode_jpeg
from vitdet_plugin.serving.options import Options
from vitdet_plugin.serving.settings import Settings
from vitdet_plugin.serving.upload import Upload

MOST_REQUESTS = 16  # whose uploads are in memory
_Value = TypeVar('_Value')


class Answer(NamedTuple):
    """The answer to a request.

    Attributes:
        content: Content of a JSON file, or a JPEG file.
        may_differ: Whether a browser may display the image turned in another way.
    """

    content: dict[str, Any] | bytes
    may_differ: bool


class Service:
    """A model and the thread that uses it, so that requests do not interfere.

    Args:
        inferencer: The model.
        settings: Settings of the server.
    """

    def __init__(self, inferencer: Inferencer, settings: Settings) -> None:
        self.inferencer, self.settings = inferencer, settings
        self._thread = ThreadPoolExecutor(1, 'predict')
        self._admitted = 0

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request from the start of its upload to its answer.

        Raises:
            RequestFault: Too many requests at once.
        """
        if self._admitted >= MOST_REQUESTS:
            raise RequestFault(503, f'{MOST_REQUESTS} requests are waiting; try again later')
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def run(self, function: Callable[..., _Value], *words: Any) -> _Value:
        """Return ``function(*words)``, called in the thread of the model."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *words)

    def answer(self, upload: Upload, options: Options) -> Answer:
        """Predict an uploaded image.

        Raises:
            RequestFault: The image cannot be decoded.
        """
        image, may_differ = self._decode(upload)
        result = self.predict(image, options.threshold)
        classes = self.inferencer.classes
        if options.format == 'image':
            figure = draw_result(cv2.cvtColor(bgr_array(image), cv2.COLOR_BGR2RGB), result, classes, options.threshold)
            return Answer(encode_jpeg(cv2.cvtColor(figure, cv2.COLOR_RGB2BGR)), may_differ)
        if options.format == 'coco':
            assert isinstance(result, Detections)
            return Answer(as_coco(result, upload.name, classes), may_differ)
        height, width = result.shape
        record = {**as_record(result, options.top), 'path': upload.name, 'width': width, 'height': height}
        return Answer(record, may_differ)  # as ``vitdet predict --format jsonl`` writes it

    def preview(self, upload: Upload) -> bytes:
        """Return an uploaded image as the model receives it, as JPEG, for browsers that cannot display the file.

        Raises:
            RequestFault: The image cannot be decoded.
        """
        return encode_jpeg(self._decode(upload).image)

    def predict(self, image: np.ndarray, threshold: float) -> Detections | Classification:
        """Return the result of an image (H, W, 3) uint8 in BGR order, or (H, W) in gray."""
        found, = self.inferencer.predict(image, threshold, tile=self.settings.tile, overlap=self.settings.overlap)
        return found

    def _decode(self, upload: Upload) -> Decoded:
        return decode_upload(upload.content, self.settings.max_pixels, self.inferencer.color_type)
