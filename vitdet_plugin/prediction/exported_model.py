"""Exported models (``vitdet export``) in files of ONNX or OpenVINO, run by :mod:`vitdet_plugin.runtime`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitdet_plugin.engine.inference_precision import inference_dtype
from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime import load
from vitdet_plugin.runtime.backends import OPENVINO
from vitdet_plugin.runtime.model import Found
from vitdet_plugin.utils.output import warn
from vitdet_plugin.utils.runtime_errors import model_errors

CPU_PIXELS = 4 * 224 * 224  # of a batch, beyond which larger batches are no faster on a CPU
LARGEST_BATCH = 32


class ExportedModel:
    """A detector or classifier in a file.

    Args:
        path: File written by ``vitdet export``.
        threads, half, library, providers: As for :func:`vitdet_plugin.runtime.load`.

    Attributes:
        model: The model of the runtime.
        is_classifier: Whether it predicts classes of images, not objects.
        classes: Names of the classes; empty if unknown.
        precision: Type that it predicts in: ``fp32``, ``bf16``, ``fp16`` or ``int8``.

    Raises:
        UserError: The file cannot be used, or a package is missing.
    """

    def __init__(self, path: str | Path, threads: int | None = None, half: bool = False,
                 library: str | None = None, providers: Sequence[str] | None = None) -> None:
        with model_errors():
            self.model = load(path, threads=threads, providers=providers, half=half, library=library)
        self.is_classifier, self.classes = self.model.is_classifier, self.model.classes
        kind = self.model.session.metadata.get('precision', '')
        self.precision = {'"half"': 'fp16', '"int8"': 'int8'}.get(kind, 'fp32')
        self._is_warned = False

    @classmethod
    def in_dtype(cls, path: str | Path, asked: str | None, option: str, threads: int | None = None) -> ExportedModel:
        """Load a file that predicts in a type, if it can.

        Args:
            path: The file.
            asked: ``fp32``, ``bf16``, ``fp16`` or ``auto``; None for the file's own type.
            option: Name of the option, for messages.
            threads: Threads of the processor.

        Raises:
            UserError: An ONNX file of another type, or a file that cannot be used.
        """
        if Path(path).suffix.lower() == OPENVINO:
            is_half = inference_dtype(asked or 'fp32', 'cpu', option) is not None
            model = cls(path, threads, is_half)
            model.precision = 'bf16' if is_half else 'fp32'
            return model
        model = cls(path, threads)
        if asked not in (None, model.precision):
            other = 'without --half and --int8' if asked == 'fp32' else 'with --half'
            raise UserError(f'{path}: {option} cannot be used with an ONNX file, which predicts in its own type '
                            f'({model.precision}); leave it out, or export the model again {other}')
        return model

    @property
    def color_type(self) -> str:
        """How the pipeline decodes image files, as in mmcv: ``'color'``, ``'grayscale'``, …."""
        return self.model.decoding[0]

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
        with model_errors():
            return dict(img=self.model.read(source))

    def pack(self, source: Path | np.ndarray, loaded: dict[str, Any]) -> dict[str, Any]:
        """Return what :meth:`predict` takes.

        Raises:
            UserError: The image does not fit the model.
        """
        with model_errors('' if isinstance(source, np.ndarray) else f'{source}: '):
            return dict(prepared=self.model.prepare(loaded['img']))

    @staticmethod
    def key(packed: dict[str, Any]) -> Hashable:
        """Return what the inputs of a batch have in common."""
        return packed['prepared'].canvas

    def batch_size(self, key: Hashable) -> int:
        """Return a number of images for which a batch is fast: 1 if the file takes single images."""
        height, width = key  # type: ignore[misc]
        return self.model.batch or max(1, min(CPU_PIXELS // max(height * width, 1), LARGEST_BATCH))

    def predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> list[Found] | list[np.ndarray]:
        """Return the objects, or the probabilities (K,), of each input."""
        if len(packs) > (self.model.batch or len(packs)) and not self._is_warned:
            self._is_warned = True
            warn(f'{self.model.path} takes {self.model.batch} image at a time: export with --dynamic batch for batches')
        with model_errors():
            return self.model.predict_prepared([each['prepared'] for each in packs], score_thr)
