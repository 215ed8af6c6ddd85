"""Exported models (``vitdet export``) in files of ONNX or OpenVINO, run by :mod:`vitdet_plugin.runtime`."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.found import Found
from vitdet_plugin.runtime import ModelError, load
from vitdet_plugin.utils.output import warn

_PIXELS = 4 * 224 * 224  # of a batch, beyond which larger batches are no faster on a CPU
_LARGEST_BATCH = 32


class ExportedModel:
    """A detector or classifier in a file.

    Args:
        path: File written by ``vitdet export``.

    Attributes:
        is_classifier: Whether it predicts classes of images, not objects.
        classes: Names of the classes; empty if unknown.

    Raises:
        UserError: The file cannot be used, or a package is missing.
    """

    def __init__(self, path: str | Path) -> None:
        with _user_errors():
            self.model = load(path)
        self.is_classifier, self.classes = self.model.is_classifier, self.model.classes
        self._is_warned = False

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels of the input for an image of 480 x 640 pixels (height x width)."""
        if not self.model.has_dynamic_size:
            return self.model.shape
        return self.model.prepare(np.zeros((480, 640, self.model.channels), np.uint8)).canvas

    def load(self, source: Path | np.ndarray) -> dict[str, Any]:
        """Return the image of a file or array in ``img``, (H, W, C).

        Raises:
            UserError: The file is not an image.
        """
        if isinstance(source, np.ndarray):
            return dict(img=source)
        with _user_errors():
            return dict(img=self.model.read(source))

    def pack(self, source: Path | np.ndarray, loaded: dict[str, Any]) -> dict[str, Any]:
        """Return what :meth:`predict` takes.

        Raises:
            UserError: The image does not fit the model.
        """
        with _user_errors('' if isinstance(source, np.ndarray) else f'{source}: '):
            return dict(prepared=self.model.prepare(loaded['img']))

    @staticmethod
    def key(packed: dict[str, Any]) -> Hashable:
        """Return what the inputs of a batch have in common."""
        return packed['prepared'].canvas

    def batch_size(self, key: Hashable) -> int:
        """Return a number of images for which a batch is fast: 1 if the file takes single images."""
        height, width = key  # type: ignore[misc]
        return self.model.batch or max(1, min(_PIXELS // max(height * width, 1), _LARGEST_BATCH))

    def predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> list[Found] | list[np.ndarray]:
        """Return the objects, or the probabilities (K,), of each input."""
        if len(packs) > (self.model.batch or len(packs)) and not self._is_warned:
            self._is_warned = True
            warn(f'{self.model.path} takes {self.model.batch} image at a time: export with --dynamic batch for batches')
        with _user_errors():
            found = self.model.predict_prepared([each['prepared'] for each in packs], score_thr)
        return found if self.is_classifier else [  # type: ignore[return-value]
            Found(each.boxes, each.scores, each.labels, each.rles) for each in found]  # type: ignore[union-attr]


@contextmanager
def _user_errors(prefix: str = '') -> Iterator[None]:
    """Raise the errors of the runtime as those of this package."""
    try:
        yield
    except ModelError as error:
        raise UserError(f'{prefix}{error}') from error
