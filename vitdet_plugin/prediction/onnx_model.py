"""Exported models (``vitdet export``) that predict one image at a time with ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitdet_plugin.engine.image_arrays import is_cut_jpeg
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.comparison import read_image
from vitdet_plugin.export.onnx_detector import OnnxDetector
from vitdet_plugin.prediction.compact_masks import paste_mask
from vitdet_plugin.prediction.found import Found

_MASK_THRESHOLD = 0.5  # of files written before the threshold was stored


class OnnxModel:
    """A detector or classifier in an ONNX file.

    Args:
        path: File written by ``vitdet export``.

    Attributes:
        is_classifier: Whether it predicts classes of images, not objects.
        classes: Names of the classes; empty if unknown.

    Raises:
        UserError: The file cannot be used, or ONNX Runtime is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._model, self.is_classifier = _open(path)
        except ImportError as error:
            raise UserError(f'{path} requires the package {error.name}. Run pip install "vitdet-plugin[onnx]".'
                            ) from error
        self.classes: list[str] = self._model.classes
        about = self._model.session.get_modelmeta().custom_metadata_map
        self._mask_threshold = float(json.loads(about.get('mask_threshold', str(_MASK_THRESHOLD))))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        height, width = self._model.session.get_inputs()[0].shape[-2:]
        return int(height), int(width)

    def load(self, source: Path | np.ndarray) -> dict[str, Any]:
        """Return the image of a file or array in ``img``, (H, W, C).

        Raises:
            UserError: The file is not an image.
        """
        if isinstance(source, np.ndarray):
            return dict(img=source)
        channels = 3 if self.is_classifier else self._model.channels
        try:
            image = None if is_cut_jpeg(Path(source)) else read_image(source, channels)
        except OSError as error:
            raise UserError(f'{source} cannot be read ({error.strerror}); check the file') from error
        if image is None:
            raise UserError(f'{source} cannot be read as an image of {channels} channels; replace it or give another '
                            'file')
        return dict(img=image)

    def pack(self, source: Path | np.ndarray, loaded: dict[str, Any]) -> dict[str, Any]:
        """Return what :meth:`predict` takes."""
        return loaded

    @staticmethod
    def key(packed: dict[str, Any]) -> Hashable:
        """Return what the inputs of a batch have in common."""
        return tuple(packed['img'].shape)

    @staticmethod
    def batch_size(key: Hashable) -> int:
        """Return 1, as exported models take one image."""
        return 1

    def predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> list[Found] | list[np.ndarray]:
        """Return the objects, or the probabilities (K,), of each input."""
        if self.is_classifier:
            return [self._model(each['img']) for each in packs]
        return [self._detect(each['img'], score_thr) for each in packs]

    def _detect(self, image: np.ndarray, score_thr: float) -> Found:
        found = self._model(image, score_thr)
        rles = None
        if 'masks' in found:
            rles = [paste_mask(torch.from_numpy(mask), torch.from_numpy(box), image.shape[:2], self._mask_threshold)
                    for mask, box in zip(found['masks'], found['boxes'])]
        return Found(found['boxes'], found['scores'], found['labels'].astype(np.int64), rles).best_first(score_thr)


def _open(path: str | Path) -> tuple[Any, bool]:
    """Return the model of a file, and whether it is a classifier."""
    from vitdet_plugin.export.onnx import OnnxClassifier
    try:
        return OnnxDetector(path), False
    except UserError as error:
        if 'is not a detector' not in str(error):
            raise
    try:
        return OnnxClassifier(path), True
    except UserError as error:
        raise UserError(f'{path} is neither a detector nor a classifier written by "vitdet export" (without '
                        '--features); export it again') from error
