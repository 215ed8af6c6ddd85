"""RoI features from several levels where the host has the boxes, so that it does not ask the GPU for each level's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor, SingleRoIExtractor
from torch import Tensor

from vitdet_plugin.heads.transfers import to_device


def rois_on_host(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Return (n, 5), as mmdet's ``bbox2roi``, from the boxes (n_i, 4) of each image."""
    images = np.repeat(np.arange(len(boxes)), [len(each) for each in boxes])
    return np.concatenate([images[:, None].astype(np.float32), np.concatenate(boxes)], 1)


def in_float32(maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Convert the maps of all levels once for the box heads and mask heads, if :func:`extract` would for each.

    Without autocast they stay as they are: the layers after them have their dtype.
    """
    return tuple(level.float() for level in maps) if torch.is_autocast_enabled(maps[0].device.type) else maps


def extract(extractor: BaseRoIExtractor, maps: tuple[Tensor, ...], rois: Tensor, on_host: np.ndarray) -> Tensor:
    """Return ``extractor(maps, rois)``, under autocast in its dtype; RoIs are sorted by level on the host.

    Args:
        extractor: mmdet's ``SingleRoIExtractor``; others are called.
        maps: (B, C, H, W) of each level.
        rois: (n, 5), index of the image and x1 y1 x2 y2 in pixels.
        on_host: The same numbers.

    Returns:
        (n, C, height, width).
    """
    maps = maps[:extractor.num_inputs]
    if type(extractor) is not SingleRoIExtractor or len(maps) == 1 or not len(on_host):
        features: Tensor = extractor(maps, rois)
        return features
    levels = _levels(extractor, on_host, len(maps))
    order = np.argsort(levels, kind='stable')
    ends = np.cumsum(np.bincount(levels, minlength=len(maps)))
    on_device = to_device(torch.from_numpy(order), rois.device)
    parts, start, rest, kind = [], 0, [], rois.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else maps[0].dtype
    for layer, level, end in zip(extractor.roi_layers, maps, ends.tolist()):
        # coordinates and features are float32, as compat.mmdet_precision has them
        if end > start:
            parts.append(layer(level.float(), rois[on_device[start:end]].float()).to(dtype))
        else:
            rest.append(level[:0].sum())  # every level has a gradient, for DistributedDataParallel
        start = end
    sorted_features = torch.cat(parts)
    return torch.index_copy(torch.empty_like(sorted_features), 0, on_device, sorted_features) + sum(rest)


def _levels(extractor: SingleRoIExtractor, rois: np.ndarray, count: int) -> np.ndarray:
    levels: np.ndarray = extractor.map_roi_levels(torch.from_numpy(rois), count).numpy()
    return levels
