"""DINO's head with the limits of the original code."""

from functools import partial

from mmdet.models.dense_heads import DeformableDETRHead, DINOHead
from mmdet.models.layers import inverse_sigmoid
from mmdet.registry import MODELS
from torch import Tensor

from vitdet_plugin.compat.patching import with_globals

_forward = with_globals(DeformableDETRHead.forward, inverse_sigmoid=partial(inverse_sigmoid, eps=1e-3))


@MODELS.register_module()
class OriginalDINOHead(DINOHead):
    """mmdet's ``DINOHead``, equal to that of DINO's authors and OpenGVLab for boxes of less than 1/1000 of the image.

    Boxes are refined before the sigmoid. Reference coordinates closer to 0 or 1 than 1e-3 are limited to that, as in
    the decoder; mmdet 3 limits them to 1e-5 in the head.
    """

    def forward(self, hidden_states: Tensor, references: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the class scores (layers, B, queries, classes) and boxes (layers, B, queries, 4) of every layer."""
        return _forward(self, hidden_states, references)
