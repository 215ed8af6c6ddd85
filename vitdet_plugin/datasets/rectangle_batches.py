"""Validation in batches of images with similar aspect ratios, padded to the smallest rectangle that holds them."""

from __future__ import annotations

import copy

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import get_world_size
from mmengine.registry import DATASETS

from vitdet_plugin.transforms.letterbox import batch_shapes


@DATASETS.register_module()
class RectangleBatches:
    """A data set sorted by aspect ratio that gives :class:`LetterBox` the rectangle of each batch.

    Rectangles have fewer padded pixels than squares: about a quarter less for the images of COCO. Use it with
    ``DefaultSampler`` without shuffling. With several ranks, their batches of one step have the same shape.

    Args:
        dataset: Data set of mmdet, or its config, with ``LetterBox`` in the pipeline.
        batch_size: Batch size of the data loader.
        img_size: Longest side in pixels, as in ``LetterBox``.
        stride: See :func:`vitdet_plugin.transforms.letterbox.batch_shapes`.
        pad: Likewise.
        lazy_init: Load the data set on :meth:`full_init` instead of at once.
    """

    def __init__(self, dataset: dict | BaseDataset, batch_size: int, img_size: int = 640, stride: int = 32,
                 pad: float = 0.5, lazy_init: bool = False) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.batch_size, self.rectangle = batch_size, dict(img_size=img_size, stride=stride, pad=pad)
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict:
        """Meta information of the wrapped data set."""
        return copy.deepcopy(self.dataset.metainfo)

    def full_init(self) -> None:
        """Load the data set and sort it."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        infos = (self.dataset.get_data_info(i) for i in range(len(self.dataset)))
        sizes = np.array([(info['width'], info['height']) for info in infos], dtype=float).reshape(-1, 2)
        self._images_per_batch = self.batch_size * get_world_size()
        self._order, self._shapes = batch_shapes(sizes, self._images_per_batch, **self.rectangle)
        self._fully_initialized = True

    def get_data_info(self, idx: int) -> dict:
        """Return the entry of an image with its ``batch_shape`` (height, width) in pixels."""
        info = self.dataset.get_data_info(int(self._order[idx]))
        info['batch_shape'] = self._shapes[idx // self._images_per_batch]
        return info

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int):
        return self.dataset.pipeline(self.get_data_info(idx))
