"""Published names of ConvNeXt weights (V1 and V2; timm, mmpretrain and mmdet) and their names in this project."""

from __future__ import annotations

from torch import Tensor

from vitdet_plugin.checkpoints.detr import TRANSFORMER
from vitdet_plugin.checkpoints.formats import Drop, Format

_LEAF = r'(weight|bias)'
# Prefixes of the official detectors and classifiers, and of FCMAE's pre-training (`encoder.`).
_PREFIX = r'(?:backbone\.|encoder\.)?'
_BLOCK = _PREFIX + r'stages\.(\d)\.(\d+)\.'


def _shape(name: str, value: Tensor) -> Tensor:
    """Flatten to the shapes used here: official GRN weights are (1, 1, 1, C), pointwise layers may be (C, D, 1, 1)."""
    if '.grn.' in name:
        return value.flatten()
    return value.flatten(1) if '.mlp.fc' in name and value.ndim == 4 else value


_HEADS = (r'((?:neck|rpn_head|roi_head|bbox_head|mask_head|panoptic_head)\..*)', r'\1')
_TRANSFORMER = (rf'((?:{"|".join(TRANSFORMER)})(?:\..*)?)', r'\1')  # of DINO and its relatives

OFFICIAL = Format(
    'ConvNeXt',
    keys=('*stages.0.0.dwconv.weight',),
    rules=[
        (_PREFIX + rf'downsample_layers\.0\.([01])\.{_LEAF}', r'backbone.stem.\1.\2'),
        (_PREFIX + rf'downsample_layers\.([123])\.([01])\.{_LEAF}', r'backbone.stages.\1.downsample.\2.\3'),
        (_BLOCK + rf'dwconv\.{_LEAF}', r'backbone.stages.\1.blocks.\2.conv_dw.\3'),
        (_BLOCK + rf'norm\.{_LEAF}', r'backbone.stages.\1.blocks.\2.norm.\3'),
        (_BLOCK + rf'pwconv([12])\.{_LEAF}', r'backbone.stages.\1.blocks.\2.mlp.fc\3.\4'),
        (_BLOCK + r'grn\.gamma', r'backbone.stages.\1.blocks.\2.mlp.grn.weight'),
        (_BLOCK + r'grn\.beta', r'backbone.stages.\1.blocks.\2.mlp.grn.bias'),
        (_BLOCK + r'gamma', r'backbone.stages.\1.blocks.\2.gamma'),
        (rf'(?:backbone\.)?norm([0-3])\.{_LEAF}', r'backbone.norm\1.\2'),
        (rf'norm\.{_LEAF}', r'head.norm.\1'),
        (rf'head\.{_LEAF}', r'head.fc.\1'),
        (r'(mask_token|decoder.*|proj\..*|pred\..*)', Drop('decoder of the pre-training')),
        _HEADS,
    ],
    adapt=_shape,
)

TIMM = Format(
    'ConvNeXt, timm',
    keys=('stem.0.weight', 'stages.0.blocks.0.conv_dw.weight'),
    without=('norm[0-3].weight',),  # this project's backbone
    rules=[
        (r'((?:stem|stages)\..*)', r'backbone.\1'),
        (r'(head\.(?:norm|fc)\..*)', r'\1'),
    ],
    adapt=_shape,
)


def _openmmlab(name: str, keys: tuple[str, ...], last_norm: list) -> Format:
    block = r'backbone\.stages\.(\d)\.(\d+)\.'
    return Format(name, keys, rules=[
        (rf'backbone\.downsample_layers\.0\.([01])\.{_LEAF}', r'backbone.stem.\1.\2'),
        (rf'backbone\.downsample_layers\.([123])\.([01])\.{_LEAF}', r'backbone.stages.\1.downsample.\2.\3'),
        (block + rf'depthwise_conv\.{_LEAF}', r'backbone.stages.\1.blocks.\2.conv_dw.\3'),
        (block + rf'norm\.{_LEAF}', r'backbone.stages.\1.blocks.\2.norm.\3'),
        (block + rf'pointwise_conv([12])\.{_LEAF}', r'backbone.stages.\1.blocks.\2.mlp.fc\3.\4'),
        (block + r'grn\.gamma', r'backbone.stages.\1.blocks.\2.mlp.grn.weight'),
        (block + r'grn\.beta', r'backbone.stages.\1.blocks.\2.mlp.grn.bias'),
        (block + r'gamma', r'backbone.stages.\1.blocks.\2.gamma'),
        *last_norm,
        (r'(head\.fc\..*)', r'\1'),
        (r'data_preprocessor\..*', Drop('the data preprocessor has mean and std')),
        _HEADS, _TRANSFORMER,
    ], adapt=_shape)


_DEPTHWISE = 'backbone.stages.0.0.depthwise_conv*'
MMDET = _openmmlab('ConvNeXt, mmdet', (_DEPTHWISE, 'backbone.norm0.weight'),
                   [(rf'backbone\.norm([0-3])\.{_LEAF}', r'backbone.norm\1.\2')])
MMPRETRAIN = _openmmlab('ConvNeXt, mmpretrain', (_DEPTHWISE,), [(rf'backbone\.norm3\.{_LEAF}', r'head.norm.\1')])

FORMATS = [OFFICIAL, TIMM, MMDET, MMPRETRAIN]
