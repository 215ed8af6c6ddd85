"""Shapes of DINO's decoder as published: a box is encoded by ``2 * embed_dims`` numbers (arXiv 2203.03605).

onedl-mmdetection 3.5 encodes it by ``4 * embed_dims``, so the weights that mmdet, OpenGVLab and DINO's authors publish
do not fit it. mmdet 3.3 has their shape, but only for ``embed_dims=256``.
"""

import functools

from torch import nn

from vitdet_plugin.compat.patching import Patch, with_globals

_OWNER = 'mmdet.models.layers.transformer.dino_layers.DinoTransformerDecoder'
_WHY = 'encodes boxes by another number of features than the published weights of DINO'
_UPSTREAM = 'mmdet 3.3, onedl-mmdetection 3.5'
_LAYERS = Patch(_OWNER, '_init_layers', why=_WHY, upstream=_UPSTREAM)
_FORWARD = Patch(_OWNER, 'forward', why=_WHY, upstream=_UPSTREAM)


def install() -> None:
    """Replace the construction and the forward pass of mmdet's DINO decoder, once."""
    _LAYERS.install(_published_layers)
    _FORWARD.install(_published_forward)


def _published_layers(init_layers):
    @functools.wraps(init_layers)
    def build(self) -> None:
        init_layers(self)
        first = self.ref_point_head.layers[0]
        if first.in_features != 2 * self.embed_dims:
            self.ref_point_head.layers[0] = nn.Linear(2 * self.embed_dims, first.out_features)

    return build


def _published_forward(forward):
    @functools.wraps(forward)
    def encode(self, *args, **kwargs):
        features = self.ref_point_head.layers[0].in_features // 4  # of each of the four coordinates
        return with_globals(forward, coordinate_to_encoding=functools.partial(_encoding, features))(
            self, *args, **kwargs)

    return encode


def _encoding(features: int, coordinates, num_feats: int = 0):
    from mmdet.models.layers.transformer.utils import coordinate_to_encoding
    return coordinate_to_encoding(coordinates, num_feats=features)
