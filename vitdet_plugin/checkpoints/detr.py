"""Names of DINO, Deformable DETR, Mask2Former and RTMDet in mmdet 2 and 3, with this project's or other backbones.

mmdet 2 keeps the whole transformer under ``bbox_head.transformer``; mmdet 3 has its parts in the detector.
"""

from __future__ import annotations

from collections.abc import Iterable

from vitdet_plugin.checkpoints import internimage
from vitdet_plugin.checkpoints.formats import Drop, Format

_LEAF = r'(weight|bias)'
# modules of mmdet 3 that are one module, the transformer of the head, in mmdet 2
TRANSFORMER = ('encoder', 'decoder', 'level_embed', 'query_embedding', 'memory_trans_fc', 'memory_trans_norm',
               'pos_trans_fc', 'pos_trans_norm', 'reference_points_fc', 'dn_query_generator')


def mmdet2_rules(head: str = r'bbox_head') -> list[tuple[str, str | Drop]]:
    """Return the rules for a detector whose transformer is in ``head``, a regular expression."""
    old = head + r'\.transformer\.'
    layer = old + r'(encoder|decoder)\.layers\.(\d+)\.'
    return [
        (layer + r'attentions\.0\.(.*)', r'\1.layers.\2.self_attn.\3'),
        (layer + r'attentions\.1\.(.*)', r'\1.layers.\2.cross_attn.\3'),
        (layer + r'ffns\.0\.(.*)', r'\1.layers.\2.ffn.\3'),
        (layer + r'(norms\..*)', r'\1.layers.\2.\3'),
        (old + rf'decoder\.norm\.{_LEAF}', r'decoder.norm.\1'),
        (old + rf'decoder\.ref_point_head\.0\.{_LEAF}', r'decoder.ref_point_head.layers.0.\1'),
        (old + rf'decoder\.ref_point_head\.2\.{_LEAF}', r'decoder.ref_point_head.layers.1.\1'),
        (old + r'level_embeds', r'level_embed'),
        (old + rf'enc_output\.{_LEAF}', r'memory_trans_fc.\1'),
        (old + rf'enc_output_norm\.{_LEAF}', r'memory_trans_norm.\1'),
        (old + rf'pos_trans\.{_LEAF}', r'pos_trans_fc.\1'),
        (old + rf'pos_trans_norm\.{_LEAF}', r'pos_trans_norm.\1'),
        (old + rf'reference_points\.{_LEAF}', r'reference_points_fc.\1'),
        (old + r'query_embed\.weight', r'query_embedding.weight'),  # DINO: contents only
        (head + r'\.query_embedding\.weight', r'query_embedding.weight'),  # Deformable DETR with one stage
        (head + r'\.label_embedding\.weight', r'dn_query_generator.label_embedding.weight'),
        (head + r'\.((?:cls|reg)_branches\..*)', r'bbox_head.\1'),
        (r'(neck\..*)', r'\1'),
        (r'ema_.*', Drop('running averages that mmdet 2 keeps next to the weights')),
    ]


MMDET2_RULES = mmdet2_rules()
_SAMPLING = 'encoder.layers.0.{}.sampling_offsets.weight'
_OLD_SAMPLING = 'bbox_head.transformer.' + _SAMPLING.format('attentions.0')
_NEW_SAMPLING = _SAMPLING.format('self_attn')
_OLD_LABELS, _NEW_LABELS = 'bbox_head.label_embedding.weight', 'dn_query_generator.label_embedding.weight'
# this project's backbones in other naming schemes
_READ_ELSEWHERE = (
    'backbone.*dcn.mask.weight', 'backbone.blocks.0.attn.*', 'backbone.net.*', 'backbone.cb_modules.*',
    'backbone.stages.0.0.depthwise_conv*', 'backbone.stages.0.0.dwconv.weight')


def _internimage(name: str, *keys: str) -> Format:
    """Return the format of OpenGVLab's detector with a head of mmdet 2."""
    official = internimage.OFFICIAL
    return Format(name, (*official.keys, _OLD_SAMPLING, *keys), [*MMDET2_RULES, *official.rules],
                  may_miss=official.may_miss)


def _composite(name: str, *keys: str) -> Format:
    """Return the format of OpenGVLab's detector on two InternImages (CBNet), whose neck is the only one of a list."""
    rules: list[tuple[str, str | Drop]] = [(r'neck\.0\.(.*)', r'neck.\1'), *MMDET2_RULES]
    for k in (0, 1):
        rules += [(pattern, target.replace('backbone.', f'backbone.backbones.{k}.', 1)) for pattern, target
                  in internimage.official_rules(rf'backbone\.cb_modules\.{k}\.') if isinstance(target, str)]
    rules += [
        (r'backbone\.cb_modules\.1\.gamma([0-3])', r'backbone.connections.0.scales.\1'),
        (rf'backbone\.cb_linears\.(\d)\.(\d)\.{_LEAF}', r'backbone.connections.0.convs.\1.\2.\3'),
    ]
    return Format(name, ('backbone.cb_modules.0.levels.0.blocks.0.dcn.mask.weight', _OLD_SAMPLING, *keys), rules,
                  may_miss=internimage.OFFICIAL.may_miss)


def _any_backbone(name: str, *keys: str, without: tuple[str, ...] = (),
                  rules: Iterable[tuple[str, str | Drop]] = ((r'(.*)', r'\1'),)) -> Format:
    """Return the format of a detector whose backbone may be exchanged for another."""
    return Format(name, keys, rules, without=(*_READ_ELSEWHERE, *without), exchangeable=True)


_OTHER = [*MMDET2_RULES, (r'(backbone\..*)', r'\1')]
# ResNet and its relatives; Swin; CSPNeXt and Darknet
_OTHER_BACKBONE = '|'.join(f'backbone.{key}' for key in (
    'layer1.0.conv1.weight', 'stages.0.blocks.0.attn.w_msa.qkv.weight', 'stage1.0.conv.weight'))

OPENGVLAB_DINO = _internimage("OpenGVLab's DINO", _OLD_LABELS)
EXCHANGEABLE = [
    _any_backbone("mmdet 2's DINO", _OLD_SAMPLING, _OLD_LABELS, rules=_OTHER),
    _any_backbone("mmdet 2's Deformable DETR", _OLD_SAMPLING, without=(_OLD_LABELS,), rules=_OTHER),
    _any_backbone("mmdet 3's DINO", _NEW_SAMPLING, _NEW_LABELS, 'backbone.*'),
    _any_backbone("mmdet 3's Deformable DETR", _NEW_SAMPLING, 'bbox_head.cls_branches.0.*', 'backbone.*',
                  without=(_NEW_LABELS,)),
    _any_backbone("mmdet 3's Mask2Former", f'panoptic_head.pixel_decoder.{_NEW_SAMPLING}', 'backbone.*'),
    _any_backbone("mmdet 3's RTMDet", 'bbox_head.rtm_cls.0.*|bbox_head.rtm_cls.weight', 'backbone.*'),
    _any_backbone("mmdet's detector", _OTHER_BACKBONE, 'neck.*', 'bbox_head.*|roi_head.*', without=(
        _OLD_SAMPLING, _NEW_SAMPLING, 'bbox_head.rtm_cls.*', 'query_head.*', 'aux_*')),
]
FORMATS = [OPENGVLAB_DINO, _composite("OpenGVLab's DINO on two InternImages", _OLD_LABELS),
           _internimage("InternImage in mmdet 2's Deformable DETR"), *EXCHANGEABLE]
