"""Detectors and classifiers in files, as functions that return arrays; see :mod:`vitdet_plugin.runtime` for more."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime import Model, ModelError, load
from vitdet_plugin.utils.runtime_errors import model_errors


class _File:
    """A model in a file.

    Attributes:
        model: The model.
        classes: Names of the classes; empty if unknown.
        shape: Height and width of the input in pixels.
        channels: Number of channels of the input.
    """

    def __init__(self, path: str | Path, kind: str) -> None:
        try:
            self.model: Model = load(path)
        except ModelError as error:
            if 'is neither a detector nor a classifier' not in str(error):
                raise UserError(str(error)) from error
            self.model = None  # type: ignore[assignment]
        if self.model is None or self.model.is_classifier != (kind == 'classifier'):
            raise UserError(f'{path} is not a {kind} written by "vitdet export". Export it again.')
        self.classes, self.shape, self.channels = self.model.classes, self.model.shape, self.model.channels

    def _predict(self, source: str | Path | np.ndarray, score_thr: float) -> list:
        with model_errors():
            image = source if isinstance(source, np.ndarray) else self.model.read(source)
            return self.model.predict_prepared([self.model.prepare(image)], score_thr)


class OnnxDetector(_File):
    """Detector loaded from a file of ``vitdet export``.

    Images are prepared as by the test pipeline of the config. What is then smaller than a fixed input is padded on the
    right and at the bottom.

    Args:
        path: The file.

    Attributes:
        model, classes, shape, channels: As above.

    Raises:
        UserError: If the file does not exist or was not written by ``vitdet export`` for a detector.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, 'detector')

    def __call__(self, source: str | Path | np.ndarray, score_thr: float = 0.3) -> dict[str, np.ndarray]:
        """Detect objects in an image.

        Args:
            source: Image file, or an array of shape ``(H, W, C)`` with the model's number of channels, uint8; BGR if
                there are 3.
            score_thr: Lowest score of detections.

        Returns:
            Detections, highest score first: ``boxes`` of shape ``(N, 4)`` (x1, y1, x2, y2 in pixels of the image),
            ``scores`` of shape ``(N,)`` and ``labels`` of shape ``(N,)``; for a file with masks over the boxes also
            ``masks`` of shape ``(N, m, m)``, their probabilities.

        Raises:
            UserError: If the image cannot be read, or has another number of channels.
        """
        found, = self._predict(source, score_thr)
        masks = {} if found.grids is None else dict(masks=found.grids)
        return dict(boxes=found.boxes, scores=found.scores, labels=found.labels, **masks)


class OnnxClassifier(_File):
    """Classifier loaded from a file of ``vitdet export``.

    Args:
        path: The file.

    Attributes:
        model, classes, shape, channels: As above.

    Raises:
        UserError: If the file does not exist or was not written by ``vitdet export`` for a classifier.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, 'classifier')

    def __call__(self, source: str | Path | np.ndarray) -> np.ndarray:
        """Classify an image.

        Args:
            source: Image file, or an array of shape ``(H, W, 3)``, uint8, in BGR order.

        Returns:
            Probabilities of shape ``(num_classes,)``.

        Raises:
            UserError: If the output of the test pipeline does not have the exported input shape.
        """
        return self._predict(source, 0.0)[0]
