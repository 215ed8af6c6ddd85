"""The module that is exported, and what mmdet or mmpretrain predict for images with which its files are compared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.comparison import (
    difference_of_rows,
    extract_maps,
    noise_images,
    paste_masks,
    predict_classes,
    predict_detections,
    real_images,
)
from vitdet_plugin.export.mask_queries import MaskQueryDetector
from vitdet_plugin.export.modules import ExportedClassifier, ExportedDetector, ExportedFeatures
from vitdet_plugin.export.queries import QueryDetector
from vitdet_plugin.layers.lora import merge_lora

DYNAMIC = ('batch', 'size')
MASKS = ('boxes', 'image')
_LARGEST_SIDE = 16384  # pixels
_LEAST_EXAMPLE = (272, 368)  # pixels: at least three cells of stride 128


@dataclass
class Exportable:
    """A module that can be exported, with what every format needs for it.

    Attributes:
        module: Takes images (B, C, H, W), RGB if C is 3, with values from 0 to 255. Its ``output_names`` are the names
            of its outputs.
        example: Images with which a graph is captured: (1, C, H, W), or two images if the batch is dynamic.
        dynamic_shapes: ``dynamic_shapes`` of ``torch.export.export``, for one positional argument; None if all
            sizes are fixed.
        references: Images and expected outputs, see :func:`compare`.
    """

    module: nn.Module
    example: Tensor
    dynamic_shapes: tuple[dict[int, Any]] | None
    references: list[Reference]


def build_module(loaded: LoadedModel, shape: tuple[int, int], *, features: bool = False, dynamic: Collection[str] = (),
                 masks: str = 'boxes') -> Exportable:
    """Build the module of a model that every export format captures. Call it without gradients.

    Args:
        loaded: A classifier or a detector.
        shape: Height and width of the example in pixels.
        features: Whether to export only the backbone and neck of a detector.
        dynamic: What the graph leaves open, of :data:`DYNAMIC`.
        masks: 'boxes' for probabilities over the boxes, 'image' for pasted masks.

    Raises:
        UserError: The model cannot be exported, an argument is unknown, or the model cannot take any size.
    """
    if unknown := [each for each in dynamic if each not in DYNAMIC]:
        raise UserError(f'dynamic={unknown[0]!r} is unknown; choose from {", ".join(DYNAMIC)}')
    if masks not in MASKS:
        raise UserError(f'masks={masks!r} is unknown; choose from {", ".join(MASKS)}')
    model = loaded.model.cpu()
    module = (ExportedClassifier(model) if loaded.is_classifier else ExportedFeatures(model) if features else
              ExportedDetector(model, masks)).eval()
    if 'size' in dynamic:
        _check_divisor(module)
    groups = _choose_images(module, loaded.cfg, shape, dynamic)
    references = [Reference(module, images) for images in groups]
    merge_lora(module)
    stride = _largest_stride(module, groups[0][:1]) if 'size' in dynamic else 0
    return Exportable(module, _example(groups[0][:1], dynamic), _dynamic_shapes(dynamic, stride), references)


def capture(exportable: Exportable) -> torch.export.ExportedProgram:
    """Capture the graph of the module. Call it without gradients."""
    options: dict[str, Any] = {}
    if 'prefer_deferred_runtime_asserts_over_guards' in inspect.signature(torch.export.export).parameters:
        options['prefer_deferred_runtime_asserts_over_guards'] = True  # torch cannot prove what follows from padding
    return torch.export.export(exportable.module, (exportable.example,), strict=False,
                               dynamic_shapes=exportable.dynamic_shapes, **options)


def _example(image: Tensor, dynamic: Collection[str]) -> Tensor:
    """Return images with which a graph is captured: no dynamic size may be 1, in no level of the feature maps."""
    if 'size' in dynamic:
        image = image.repeat(1, 1, *(-(-least // side) for least, side in zip(_LEAST_EXAMPLE, image.shape[2:])))
    return torch.cat([image, image]) if 'batch' in dynamic else image


def _dynamic_shapes(dynamic: Collection[str], stride: int) -> tuple[dict[int, Any]] | None:
    axes: dict[int, Any] = {}
    if 'batch' in dynamic:
        axes[0] = torch.export.Dim('batch', min=1, max=4096)
    if 'size' in dynamic:  # torch takes no side of a map for 1; the written graph does not depend on that
        axes[2], axes[3] = (torch.export.Dim(name, min=stride + 1, max=_LARGEST_SIDE) for name in ('height', 'width'))
    return (axes,) if axes else None


def _largest_stride(module: nn.Module, images: Tensor) -> int:
    """Return the largest stride of the maps of a model in pixels."""
    model = module.model
    strides = list(getattr(model.backbone, 'out_strides', ()))
    for head in (getattr(model, name, None) for name in ('rpn_head', 'bbox_head')):
        strides += list(getattr(getattr(head, 'prior_generator', None), 'strides', ()) or getattr(head, 'strides', ()))
    strides = [each if isinstance(each, int) else max(each) for each in strides]
    if isinstance(getattr(module, 'heads', None), (QueryDetector, MaskQueryDetector)):  # whose head has no strides
        images = module.preprocess(images)
        strides += [-(-images.shape[2] // each.shape[2]) for each in model.extract_feat(images)]
    return max(strides, default=64)


def compare(run: Callable[[np.ndarray], Sequence[np.ndarray]], references: Sequence[Reference]) -> float:
    """Return the largest difference between an exported model and the predictions of the model itself.

    Args:
        run: Calls the exported model with images (B, C, H, W), float32, and returns its outputs.
        references: Those of :class:`Exportable`.

    Returns:
        The difference, relative to the largest value (for boxes, to the side of the image).
    """
    return max(reference.difference(run(reference.images.numpy())) for reference in references)


class Reference:
    """What PyTorch computes for images: the outputs of the exported module, and the predictions of the model.

    Attributes:
        images: (B, C, H, W).
        count: Number of detections in the images.
    """

    def __init__(self, module: nn.Module, images: Tensor) -> None:
        outputs = module(images)
        self.images = images
        self.outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        self.is_detector = isinstance(module, ExportedDetector)
        self.count, self.predicted = 0, ()
        if self.is_detector:
            self.detections = predict_detections(module.model, images)
            self.count = sum(len(each[0]) for each in self.detections)
            self.is_pasted = module.masks == 'image'
            is_soft = not any(part.dtype == bool for each in self.detections for part in each[3:])
            self.threshold = module.heads.cfg['mask_thr_binary'] if self.is_pasted and is_soft else None
        else:
            predict = extract_maps if isinstance(module, ExportedFeatures) else predict_classes
            predicted = predict(module.model, images)
            self.predicted = (predicted,) if isinstance(predicted, Tensor) else predicted

    def difference(self, found: Sequence[np.ndarray]) -> float:
        """Return the maximum difference of outputs, relative to the largest value."""
        if not self.is_detector:
            return max(relative_difference(a, b) for reference in (self.outputs, self.predicted)
                       for a, b in zip(found, reference, strict=True))
        shape, worst = tuple(self.images.shape[2:]), 0.0
        for index, expected in enumerate(self.detections):
            ours = [part[index] for part in found]
            own = [part[index] for part in self.outputs]
            if self.is_pasted:  # a pixel at the threshold may differ; masks are compared with those of mmdet below
                own = own[:3]
            worst = max(worst, difference_of_rows(ours[:len(own)], own, max(shape)))
            if len(ours) > 3 and not self.is_pasted:
                ours = [*ours[:3], paste_masks(ours[3], ours[0], shape)]
            worst = max(worst, difference_of_rows(ours, expected, max(shape), steps=255, threshold=(
                255 * self.threshold if self.threshold is not None else None)))
        return worst


def relative_difference(found: np.ndarray, expected: Tensor) -> float:
    """Return the maximum difference relative to the largest expected value."""
    reference = expected.numpy()
    if found.shape != reference.shape:
        return float('inf')
    return float(np.abs(found - reference).max() / max(np.abs(reference).max(), 1e-12))


def _check_divisor(module: nn.Module) -> None:
    """Refuse a dynamic size that the padding inside the graph would not make valid."""
    divisor = getattr(module.model.backbone, 'size_divisor', None) or 1
    if module.preprocess.divisor % divisor:
        name = getattr(module.model.backbone, 'size_divisor_name', '') or str(divisor)
        raise UserError(f'a dynamic size requires that the graph pads images to a multiple of {name}, but '
                        f'pad_size_divisor is {module.preprocess.divisor}. Add --cfg-options '
                        f'model.data_preprocessor.pad_size_divisor={divisor}, or export a fixed size')


def _choose_images(module: nn.Module, cfg: Config, shape: tuple[int, int], dynamic: Collection[str]) -> list[Tensor]:
    """Return groups of images of one size, (B, C, H, W) each: images of the test set and noise.

    Noise is of the scale with the most detections. With a dynamic size there are images of two other sizes, one of
    them upright if ``shape`` is not; with a dynamic batch, all images of ``shape`` are also one group.
    """
    channels = module.preprocess.channels
    groups = [_of_shape(module, cfg, shape, channels)]
    if 'size' in dynamic:
        other = max(shape[0] * 3 // 4 - 3, 1), max(shape[1] * 7 // 8 - 5, 1)
        groups += [_of_shape(module, cfg, size, channels)[:2] for size in (other, other[::-1])]
    if 'batch' in dynamic:
        if len(groups[0]) < 3:
            groups[0] = [*groups[0], *noise_images(shape, channels)][:3]
        return [groups[0][0], *(torch.cat(group) for group in groups)]
    return [image for group in groups for image in group]


def _of_shape(module: nn.Module, cfg: Config, shape: tuple[int, int], channels: int) -> list[Tensor]:
    noise = noise_images(shape, channels)
    if isinstance(module, ExportedDetector):
        noise.sort(key=lambda image: -int((module(image)[1] > 0).sum()))
    return [noise[0], *real_images(cfg, shape, channels)]
