"""Compare an exported model with the predictions of mmdet and mmpretrain."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from vitdet_plugin.config.dataset_config import split_datasets
from vitdet_plugin.datasets.image_files import is_image_file
from vitdet_plugin.evaluation.complexity import detection_sample
from vitdet_plugin.runtime.masks import paste_region

_CELLS = (1, 8, 32)  # pixels of a cell of the noise images
_REAL_IMAGES = 2
_PIXELS = 1e-3  # part of the pixels of a mask without probabilities that may differ: those at the threshold


def noise_images(shape: tuple[int, int], channels: int) -> list[Tensor]:
    """Return noise of several scales, (1, channels, H, W) each with whole values from 0 to 255."""
    random = torch.Generator().manual_seed(0)
    images = []
    for cell in _CELLS:
        noise = torch.randint(0, 256, (1, channels, *(-(-side // cell) for side in shape)), generator=random).float()
        large = noise.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
        images.append(large[..., :shape[0], :shape[1]].contiguous())
    return images


def real_images(cfg: Config, shape: tuple[int, int], channels: int) -> list[Tensor]:
    """Return the first images of the test set, if it exists on this machine, resized to ``shape``.

    Returns:
        Images of shape (1, channels, H, W), RGB or the channels of the file, with values from 0 to 255.
    """
    images: list[Tensor] = []
    for _, dataset in split_datasets(cfg, 'test'):
        prefix = dataset.get('data_prefix') or {}
        parts = [prefix] if isinstance(prefix, str) else [str(each) for each in prefix.values()][:1]
        folder = os.path.join(dataset.get('data_root') or '', *parts)
        if not os.path.isdir(folder):
            continue
        with os.scandir(folder) as entries:
            names = sorted(itertools.islice((each.path for each in entries if is_image_file(Path(each.path))), 100))
        for name in names[:_REAL_IMAGES]:
            image = read_image(name, channels)
            if image is not None:
                resized = cv2.resize(image, shape[::-1]).reshape(*shape, channels)
                images.append(torch.from_numpy(to_planes(resized).copy()).float()[None])
    return images[:_REAL_IMAGES]


def read_image(path: str | os.PathLike, channels: int) -> np.ndarray | None:
    """Read an image with a number of channels: (H, W, channels), BGR if there are 3; None if that is impossible."""
    flag = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)
    image = cv2.imread(os.fspath(path), flag)
    if image is None:
        return None
    image = image.reshape(*image.shape[:2], -1)
    return image if image.shape[2] == channels else None


def to_planes(image: np.ndarray) -> np.ndarray:
    """(H, W, C) as loaded -> (C, H, W) as exported models expect it: RGB if there are 3 channels."""
    return (image[..., ::-1] if image.shape[2] == 3 else image).transpose(2, 0, 1)


def preprocessed(model: nn.Module, images: Tensor, make_sample: Callable[[Tensor], Any]) -> dict[str, Any]:
    """Pass images (B, C, H, W) through the model's own data preprocessor, in the order in which pipelines load them."""
    plain = images.flip(1) if images.shape[1] == 3 else images
    samples = [make_sample(image) for image in images]
    return model.data_preprocessor(dict(inputs=list(plain.byte()), data_samples=samples), False)


def predict_classes(model: nn.Module, images: Tensor) -> Tensor:
    """Return the probabilities (B, K) that a classifier of mmpretrain predicts for images (B, C, H, W)."""
    from mmpretrain.structures import DataSample
    data = preprocessed(model, images, lambda image: DataSample())
    return torch.stack([each.pred_score for each in model.predict(data['inputs'], data['data_samples'])]).float()


def extract_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Return the feature maps of a detector of mmdet for images (B, C, H, W)."""
    return tuple(model.extract_feat(preprocessed(model, images, _sample)['inputs']))


def predict_detections(model: nn.Module, images: Tensor) -> list[tuple[np.ndarray, ...]]:
    """Return what mmdet's ``predict`` gives for each of the images (B, C, H, W).

    Returns:
        For each image boxes (N, 4), scores (N,), labels (N,) and, if the model has them, masks (N, H, W): probabilities
        of all pixels in 255 steps, uint8; bool for models that return no probabilities.
    """
    data = preprocessed(model, images, _sample)
    with _soft_masks(model):
        results = model.predict(data['inputs'], data['data_samples'], rescale=False)
    detections = []
    for found in (result.pred_instances for result in results):
        parts = [found.bboxes, found.scores, found.labels] + (
            [found.masks[..., :images.shape[2], :images.shape[3]]] if 'masks' in found else [])  # without padding
        detections.append(tuple(part.detach().cpu().numpy() for part in parts))
    return detections


def paste_masks(masks: np.ndarray, boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Place masks (N, m, m) over their boxes, as mmdet does on a CPU: uint8 (N, H, W), in 255 steps."""
    pasted = np.zeros((len(masks), *shape), np.uint8)
    for image, mask, box in zip(pasted, masks, boxes):
        region, left, top = paste_region(mask, box, shape)
        image[top:top + region.shape[0], left:left + region.shape[1]] = region * 255
    return pasted


def difference_of_rows(found: Sequence[np.ndarray], expected: Sequence[Any], side: int, steps: int = 0,
                       threshold: float | None = None) -> float:
    """Return the maximum difference of detections from their nearest row, as rows of equal score can be swapped.

    Rows are compared in both directions, so that a row too many counts. One row in a hundred (of 20 or more, one) is
    not compared, since rounding can change the result of NMS for an IoU near the threshold.

    Args:
        found: Boxes, scores, labels and optionally masks; rows with score 0 are padding.
        expected: The same of the reference.
        side: Longer side of the image in pixels; box differences are relative to it.
        steps: Masks are whole numbers of this many steps, and one step more or less is no difference.
        threshold: If given, masks of ``found`` are 0 or 1 and those of ``expected`` are compared with this value; a
            pixel that differs counts by the distance of the expected value from the threshold. Masks of bool have no
            such value: the part of the pixels that differ counts, if it is above :data:`_PIXELS`.
    """
    ours, theirs = ([np.asarray(part) for part in rows] for rows in (found, expected))
    ours, theirs = ([part[rows[1] > 0] for part in rows] for rows in (ours, theirs))

    def gap(mask: np.ndarray, soft: np.ndarray) -> np.ndarray:
        if soft.dtype == bool:
            share = (mask != soft).mean((1, 2))
            return 1 + steps * np.where(share > _PIXELS, share, 0)
        if threshold is None:
            return np.abs(mask.astype(np.float32) - soft.astype(np.float32)).max((1, 2), initial=0)
        beyond = soft.astype(np.float32) - threshold
        return np.where(mask > 0, -beyond, beyond).max((1, 2), initial=0)

    return max(_one_way(ours, theirs, side, steps, gap),
               _one_way(theirs, ours, side, steps, lambda soft, mask: gap(mask, soft)))


def _one_way(rows: list[np.ndarray], others: list[np.ndarray], side: int, steps: int,
             gap_of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    (boxes, scores, labels, *masks), count = rows, len(rows[0])
    if not count:
        return 0.0
    spared = count // 100 or int(count >= 20)
    if not len(others[0]):
        return float('inf') if count > spared else 0.0
    distance = np.maximum(np.abs(boxes[:, None] - others[0]).max(2) / side, np.abs(scores[:, None] - others[1]))
    distance[labels[:, None] != others[2]] = np.inf
    nearest = distance.argmin(1)
    difference = distance[np.arange(count), nearest]
    for mask, other in zip(masks, others[3:]):
        gap = gap_of(mask, other[nearest])
        difference = np.maximum(difference, np.maximum(gap - 1, 0) / steps if steps else gap)
    return float(np.sort(difference)[count - 1 - spared])


@contextlib.contextmanager
def _soft_masks(model: nn.Module) -> Iterator[None]:
    """Let the model return probabilities instead of masks cut at ``mask_thr_binary``."""
    cfg = getattr(getattr(model, 'roi_head', None), 'test_cfg', None)
    if cfg is None or 'mask_thr_binary' not in cfg:
        yield
        return
    before, cfg['mask_thr_binary'] = cfg['mask_thr_binary'], -1
    try:
        yield
    finally:
        cfg['mask_thr_binary'] = before


def _sample(image: Tensor) -> Any:
    return detection_sample(tuple(image.shape[1:]))
