"""Detectors of mmdet and classifiers of mmpretrain as models that predict batches."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from vitdet_plugin.config.registry import is_classifier
from vitdet_plugin.engine.inference import TestPipeline
from vitdet_plugin.engine.inference_precision import autocast_to, inference_dtype, name_of
from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.compact_masks import compact_masks
from vitdet_plugin.prediction.exported_model import CPU_PIXELS, LARGEST_BATCH
from vitdet_plugin.runtime.model import Found
from vitdet_plugin.utils.mask_rle import encode_masks
from vitdet_plugin.utils.output import warn

_GPU_PIXELS = 8 * 1024 * 1024


class TorchModel:
    """A detector or classifier with its test pipeline.

    Args:
        model: The model, in eval mode.
        cfg: Its config.

    Attributes:
        is_classifier: Whether it predicts classes of images, not objects.

    Raises:
        UserError: The model predicts several tasks; from :meth:`predict`, if it predicts no objects.
    """

    def __init__(self, model: nn.Module, cfg: Config) -> None:
        self.model, self.is_classifier = model, is_classifier(cfg)
        if hasattr(getattr(model, 'head', None), 'task_heads'):
            raise UserError(f'{type(model.head).__name__} predicts several tasks, and only one set of classes can be '
                            'predicted here; a test evaluates all of them')
        self._pipeline = TestPipeline(cfg)
        self._dtype: torch.dtype | None = None
        self._limit: int | None = None  # images of a batch that fit into the memory of the GPU

    @property
    def color_type(self) -> str:
        """How the pipeline decodes image files, see :class:`vitdet_plugin.engine.inference.TestPipeline`."""
        return self._pipeline.color_type

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels of the input for an image of 480 x 640 pixels (height x width)."""
        image = np.zeros((480, 640, 3), np.uint8)
        height, width = self.pack(image, self.load(image))['inputs'].shape[-2:]
        return int(height), int(width)

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16`` or ``fp16``."""
        return name_of(self._dtype)

    def use_dtype(self, asked: str, option: str) -> None:
        """Predict in a type where the device computes faster in it; one line says if it does not.

        Args:
            asked: ``fp32``, ``bf16``, ``fp16`` or ``auto``, see
                :func:`vitdet_plugin.engine.inference_precision.inference_dtype`.
            option: Name of the option, for the message.
        """
        self._dtype = inference_dtype(asked, self.device.type, option)

    def load(self, source: Path | np.ndarray) -> dict[str, Any]:
        """Return the image of a file or array as the pipeline loads it, in ``img``."""
        return self._pipeline.load(source)

    def pack(self, source: Path | np.ndarray, loaded: dict[str, Any]) -> dict[str, Any]:
        """Return the model's input for an image that was loaded."""
        return self._pipeline.pack(source, loaded)

    @staticmethod
    def key(packed: dict[str, Any]) -> Hashable:
        """Return the shape of an input. Only equal shapes form a batch: padding would change the results."""
        return tuple(packed['inputs'].shape)

    def batch_size(self, key: Hashable) -> int:
        """Return a number of images of a shape for which a batch is fast and fits into memory."""
        _, height, width = key  # type: ignore[misc]
        budget = CPU_PIXELS if self.device.type == 'cpu' else _GPU_PIXELS
        return max(1, min(budget // max(height * width, 1), LARGEST_BATCH, self._limit or LARGEST_BATCH))

    def predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> list[Found] | list[np.ndarray]:
        """Return the objects, or the probabilities (K,), of each input.

        A batch that does not fit into the memory of the GPU is predicted in parts.

        Args:
            packs: Results of :meth:`pack` with equal keys.
            score_thr: Lowest score of objects.
        """
        try:
            return self._predict(packs, score_thr)
        except torch.OutOfMemoryError:
            if len(packs) == 1:
                raise
        self._limit = len(packs) // 2
        torch.cuda.empty_cache()
        warn(f'a batch of {len(packs)} images does not fit into the memory of the GPU: predicting {self._limit} at a '
             'time')
        return [found for start in range(0, len(packs), self._limit)
                for found in self.predict(packs[start:start + self._limit], score_thr)]

    def _predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> list[Found] | list[np.ndarray]:
        data = dict(inputs=[each['inputs'] for each in packs], data_samples=[each['data_samples'] for each in packs])
        compact = contextlib.nullcontext() if self.is_classifier else compact_masks(self.model, score_thr)
        with torch.no_grad(), autocast_to(self._dtype, self.device.type), compact:
            samples = self.model.test_step(data)
        if self.is_classifier:
            return [sample.pred_score.float().cpu().numpy() for sample in samples]
        if not all(hasattr(sample, 'pred_instances') for sample in samples):
            raise UserError(f'{type(self.model).__name__} predicts neither objects nor one set of classes, as '
                            'predictions require; a test evaluates it')
        return [_found(sample, score_thr) for sample in samples]


def _found(sample: Any, score_thr: float) -> Found:
    """Return the objects of mmdet's data sample with at least a score, highest score first."""
    instances, masks = sample.pred_instances, sample.pred_instances.get('masks')
    boxes, scores = getattr(instances.bboxes, 'tensor', instances.bboxes), instances.scores.float().cpu().numpy()
    order = np.argsort(-scores, kind='stable')
    kept = order[scores[order] >= score_thr]
    rles = None if masks is None else [
        masks[index] if isinstance(masks, list) else encode_masks(masks[int(index)][None].cpu().numpy())[0]
        for index in kept]
    return Found(boxes.float().cpu().numpy()[kept], scores[kept], instances.labels.cpu().numpy()[kept], rles)
