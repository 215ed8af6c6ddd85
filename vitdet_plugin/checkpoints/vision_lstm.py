"""Published names of Vision-LSTM weights: versions 1 and 2, as published and as the training code saves them.

Version 2 numbers its blocks in pairs, with one named block for each direction. Here, as in version 1 and in the
training code, every block has its own number.
"""

from __future__ import annotations

from vitdet_plugin.checkpoints.formats import Format

_MAX_PAIRS = 64
_DIRECTIONS = ('rowwise_from_top_left', 'rowwise_from_bot_right')
_PREFIX = r'(?:xlstm\.)?'
# after a block's number: its norm, or its layer, whose convolution has several names
_PARTS = [
    (r'(?:xlstm_norm|norm)\.(weight|bias)', r'norm.{}'),
    (r'(?:xlstm|layer)\.(?:conv1d\.conv|conv1d|conv)\.(weight|bias)', r'layer.conv.{}'),
    (r'(?:xlstm|layer)\.((?:proj_up|proj_down|[qkv]_proj|mlstm_cell\.(?:igate|fgate|outnorm))\.(?:weight|bias)'
     r'|learnable_skip)', r'layer.{}'),
]
_STEM = [(r'patch_embed\.proj\.(weight|bias)', r'backbone.patch_embed.proj.\1'),
         (r'pos_embed\.embed', r'backbone.pos_embed')]
_COMMON = ('pos_embed.embed', '*.mlstm_cell.*')
_IN_TRAINING = '*.xlstm_norm.*'
_VERSION_2 = f'*.proj_up.bias|*{_DIRECTIONS[0]}*'  # its blocks have biases, or named directions

_NUMBERED = [(_PREFIX + r'blocks\.(\d+)\.' + part, r'backbone.blocks.\1.' + target.format(r'\2'))
             for part, target in _PARTS]
_PAIRED = [(rf'blocks\.{pair}\.{direction}\.' + part, f'backbone.blocks.{2 * pair + i}.' + target.format(r'\1'))
           for pair in range(_MAX_PAIRS) for i, direction in enumerate(_DIRECTIONS) for part, target in _PARTS]


def _ends(**targets: str) -> list[tuple[str, str]]:
    """Rules for the norms and the classifier after the blocks; ``head_0`` stands for ``head.0``."""
    return [(_PREFIX + name.replace('_0', r'\.0').replace('_1', r'\.1') + r'\.(weight|bias)', rf'{target}.\1')
            for name, target in targets.items()]


V1 = Format('Vision-LSTM 1', keys=_COMMON, without=(_IN_TRAINING, _VERSION_2), rules=[
    *_STEM, *_NUMBERED, *_ends(norm='backbone.norm', legacy_norm='backbone.legacy_norm', head='head.fc')])
V2 = Format('Vision-LSTM 2', keys=(*_COMMON, _VERSION_2), without=(_IN_TRAINING,), rules=[
    *_STEM, *_PAIRED, *_NUMBERED, *_ends(norm='backbone.norm', legacy_norm='head.legacy_norm', head='head.fc')])
V1_TRAINING = Format('Vision-LSTM 1, training', keys=(*_COMMON, _IN_TRAINING), without=(_VERSION_2,), rules=[
    *_STEM, *_NUMBERED, *_ends(post_blocks_norm='backbone.legacy_norm', head_0='backbone.norm', head_1='head.fc')])
V2_TRAINING = Format('Vision-LSTM 2, training', keys=(*_COMMON, _IN_TRAINING, _VERSION_2), rules=[
    *_STEM, *_NUMBERED, *_ends(post_blocks_norm='backbone.norm', head_0='head.legacy_norm', head_1='head.fc')])
FORMATS = [V1, V2, V1_TRAINING, V2_TRAINING]
