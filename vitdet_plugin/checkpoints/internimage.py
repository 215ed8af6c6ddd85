"""Published names of InternImage's weights: OpenGVLab's files, Hugging Face's, mmpretrain's project.

The official norms are part of sequences with changes of layout, so their names end in an index, unlike here.
"""

from __future__ import annotations

from collections.abc import Set

from vitdet_plugin.checkpoints.formats import Drop, Format

_LEAF = r'(weight|bias)'
_NORM_LEAF = r'(weight|bias|running_mean|running_var|num_batches_tracked)'


def official_rules(prefix: str) -> list[tuple[str, str | Drop]]:
    """Return the rules for OpenGVLab's names after ``prefix``, a regular expression."""
    return _rules(prefix, 'levels', 'fc1', 'fc2', ('conv1', 'norm1', 'conv2', 'norm2'))


def _rules(prefix: str, levels: str, fc1: str, fc2: str, stem: tuple[str, str, str, str],
           scale: str = 'gamma') -> list[tuple[str, str | Drop]]:
    """Rules of a naming scheme, from the names of its parts."""
    level = rf'{prefix}{levels}\.(\d)\.'
    block = rf'{level}blocks\.(\d+)\.'
    conv1, norm1, conv2, norm2 = stem
    return [
        *[(rf'{prefix}patch_embed\.{theirs}\.{_LEAF}', rf'backbone.patch_embed.{ours}.\1')
          for theirs, ours in ((conv1, 'conv1'), (conv2, 'conv2'))],
        *[(rf'{prefix}patch_embed\.{theirs}\.[01]\.{_NORM_LEAF}', rf'backbone.patch_embed.{ours}.\1')
          for theirs, ours in ((norm1, 'norm1'), (norm2, 'norm2'))],
        (rf'{block}((?:res_post_)?norm[12])\.[01]\.{_NORM_LEAF}', r'backbone.levels.\1.blocks.\2.\3.\4'),
        (rf'{block}{scale}([12])', r'backbone.levels.\1.blocks.\2.gamma\3'),
        (rf'{block}mlp\.{fc1}\.{_LEAF}', r'backbone.levels.\1.blocks.\2.mlp.fc1.\3'),
        (rf'{block}mlp\.{fc2}\.{_LEAF}', r'backbone.levels.\1.blocks.\2.mlp.fc2.\3'),
        (rf'{block}dcn\.(.*)', r'backbone.levels.\1.blocks.\2.dcn.\3'),  # the operator has the official names
        (rf'{level}post_norms\.(\d)\.[01]\.{_NORM_LEAF}', r'backbone.levels.\1.post_norms.\2.\3'),
        (rf'{level}norm\.[01]\.{_NORM_LEAF}', r'backbone.levels.\1.norm.\2'),
        (rf'{level}downsample\.conv\.{_LEAF}', r'backbone.levels.\1.downsample.conv.\2'),
        (rf'{level}downsample\.norm\.[01]\.{_NORM_LEAF}', r'backbone.levels.\1.downsample.norm.\2'),
        *_head_rules(prefix),
    ]


def _head_rules(prefix: str) -> list[tuple[str, str | Drop]]:
    return [
        (rf'{prefix}conv_head\.0\.{_LEAF}', r'head.conv.\1'),
        (rf'{prefix}conv_head\.1\.0\.{_NORM_LEAF}', r'head.norm.\1'),
        (rf'{prefix}dcnv3_head_x3\.{_LEAF}', r'head.x3_proj.\1'),
        (rf'{prefix}dcnv3_head_x4\.0\.{_LEAF}', r'head.x4_proj.\1'),
        (rf'{prefix}clip_projector\.norm1_([qkv])\.{_LEAF}', r'head.pool.norm_\1.\2'),
        (rf'{prefix}clip_projector\.cross_dcn\.([qkv])[._]{_LEAF}', r'head.pool.\1.\2'),
        (rf'{prefix}clip_projector\.cross_dcn\.proj\.{_LEAF}', r'head.pool.proj.\1'),
        (rf'{prefix}fc_norm\.0\.{_LEAF}', r'head.norm.\1'),
        (rf'(?:{prefix}|)head\.(?:fc\.)?{_LEAF}', r'head.fc.\1'),
    ]


def _optional_layer_scales(missing: Set[str], found: Set[str]) -> Set[str]:
    """Return the missing layer scales if the file has none, as for InternImage-T."""
    if any(name.endswith(('gamma1', 'gamma2')) for name in found):
        return set()
    return {name for name in missing if name.endswith(('gamma1', 'gamma2'))}


def _first_mask(*prefixes: str) -> str:
    """Return a pattern for the mask weight of the first operator under any of ``prefixes``."""
    return '|'.join(f'{prefix}.0.*blocks.0.dcn.mask.weight' for prefix in prefixes)


MMPRETRAIN = Format(
    "mmpretrain's InternImage",
    keys=(_first_mask('layers', 'backbone.layers'),),
    rules=_rules('(?:backbone\\.)?', 'layers', r'layers\.0\.0', r'layers\.1', ('0', '1', '3', '4')),
    # the bias of the keys shifts all scores q . (k + b) equally, so mmpretrain omits it
    may_miss=lambda missing, found: _optional_layer_scales(missing, found) | (missing & {'head.pool.k.bias'}))

HUGGING_FACE = Format(
    "Hugging Face's InternImage",
    keys=(_first_mask('model.levels'),),
    rules=_rules('model\\.', 'levels', 'fc1', 'fc2', ('conv1', 'norm1', 'conv2', 'norm2'),
                 scale='(?:gamma|layer_scale)'),
    may_miss=_optional_layer_scales)

OFFICIAL = Format(
    "OpenGVLab's InternImage",
    # the norm's index distinguishes the official names from this project's
    keys=(_first_mask('levels', 'backbone.levels'), '*patch_embed.norm1.0.weight|*patch_embed.norm1.1.weight'),
    rules=[
        *official_rules('(?:backbone\\.)?'),
        (r'((?:neck|rpn_head|roi_head|bbox_head|mask_head)\..*)', r'\1'),  # the same names in mmdet 2 and mmdet 3
        (r'ema_.*', Drop('running averages that mmdet 2 keeps next to the weights')),
    ],
    may_miss=_optional_layer_scales)

FORMATS = [MMPRETRAIN, HUGGING_FACE, OFFICIAL]
