"""MixToken of token labeling (arXiv 2104.10858): a box of tokens is exchanged between the images of a batch."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS

from vitdet_plugin.backbones.volo import MIX_BOX, Box, MixedImages
from vitdet_plugin.utils.arguments import check_whole


@MODELS.register_module()
class MixTokenDataPreprocessor(BaseDataPreprocessor):
    """mmpretrain's ``ClsDataPreprocessor`` that also draws the box of MixToken, in training.

    It returns the inputs as :class:`MixedImages` and writes the box to the data samples' metainfo, as ``mix_box``.
    The backbone (``VOLO``) exchanges the tokens after its stem, the head (``VOLOClsHead``) adapts the targets.

    Args:
        stride: Stride of the backbone's last map in pixels; the box is drawn on its grid.
        kwargs: See ``ClsDataPreprocessor``. Its attributes, such as ``mean``, are available here too.
    """

    def __init__(self, stride: int = 16, **kwargs: Any) -> None:
        super().__init__()
        check_whole(1, stride=stride)
        self.stride = stride
        self.images = MODELS.build({**kwargs, 'type': 'mmpretrain.ClsDataPreprocessor'})

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return ``inputs`` (B, C, H, W), in training with the box, and ``data_samples``."""
        batch = self.images(data, training)
        if not training:
            return batch
        rows, columns = (-(-side // self.stride) for side in batch['inputs'].shape[-2:])
        box = draw_box(rows, columns)
        for sample in batch['data_samples'] or ():
            sample.set_metainfo({MIX_BOX: box})
        return {**batch, 'inputs': MixedImages(batch['inputs'], box)}

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'images':  # not built yet
                raise
            return getattr(self.images, name)


def draw_box(rows: int, columns: int) -> Box:
    """Draw CutMix's box (arXiv 1905.04899) on a grid: share of the area uniform in [0, 1], center uniform, clipped.

    Returns:
        (top, bottom, left, right), ends exclusive.
    """
    side = (1.0 - torch.rand((), device='cpu').item()) ** 0.5
    edges: list[int] = []
    for size in (rows, columns):
        length, center = int(size * side), int(torch.randint(size, (), device='cpu'))
        edges += [max(center - length // 2, 0), min(center + (length + 1) // 2, size)]
    return tuple(edges)
