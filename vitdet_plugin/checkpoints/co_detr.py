"""Names of Sense-X's Co-DINO (mmdet 2), and of the same files as mmdet 3's project distributes them."""

from __future__ import annotations

from vitdet_plugin.checkpoints.detr import mmdet2_rules
from vitdet_plugin.checkpoints.eva02 import EVA02_DETECTRON2
from vitdet_plugin.checkpoints.formats import Drop, Format

_SAMPLING = 'query_head.transformer.encoder.layers.0.attentions.0.sampling_offsets.weight'
_EVA02 = 'backbone.blocks.0.mlp.ffn_ln.weight'
_QUERY = r'query_head\.transformer\.'

RULES: list[tuple[str, str | Drop]] = [
    (_QUERY + r'aux_pos_trans\.(\d+)\.(.*)', r'customized_queries.\1.proj.\2'),
    (_QUERY + r'aux_pos_trans_norm\.(\d+)\.(.*)', r'customized_queries.\1.norm.\2'),
    (_QUERY + r'(?:pos_feats_trans|pos_feats_norm|head_pos_embed)\b.*', Drop(
        'features at positive coordinates, for training: Co-DINO has none here')),
    (r'query_head\.downsample\.(.*)', r'downsample.\1'),
    (r'.*\.fed_loss_weight', Drop('class frequencies: read from the data set')),
    (r'rpn_head\.(.*)', r'aux_rpn_head.\1'),
    (r'roi_head\.(\d+)\.mask_(?:head|roi_extractor|iou_head)\..*', Drop('mask head of an auxiliary head')),
    (r'roi_head\.(\d+)\.(.*)', r'aux_roi_heads.\1.\2'),
    (r'bbox_head\.(\d+)\.(.*)', r'aux_bbox_heads.\1.\2'),
    (r'data_preprocessor\..*', Drop('the data preprocessor has mean and std')),
    *mmdet2_rules('query_head'),
]

# pyramid of five levels, strides 4 to 64; the layers of a level have the same indices here
_PYRAMID: list[tuple[str, str | Drop]] = [(rf'neck\.p{level}\.(.*)', rf'neck.levels.{level - 2}.\1')
                                          for level in range(2, 7)]
# the ViT has the names of EVA-02's detectors, without the ``net.`` of its wrapper
_VIT = [(pattern.replace(r'net\.', '', 1), target) for pattern, target in EVA02_DETECTRON2.rules
        if pattern.startswith(r'(?:backbone\.)?net\.')]

CO_DINO = Format("Sense-X's Co-DINO", keys=(_SAMPLING, 'query_head.label_embedding.weight'), without=(_EVA02,),
                 rules=[*RULES, (r'(backbone\..*)', r'\1')], exchangeable=True)
CO_DINO_VIT = Format("Sense-X's Co-DINO on a ViT", keys=(_SAMPLING, 'query_head.label_embedding.weight', _EVA02),
                     rules=[*_PYRAMID, *RULES, *[(pattern.replace(r'(?:backbone\.)?', r'backbone\.', 1), target)
                                      for pattern, target in _VIT]])
FORMATS = [CO_DINO, CO_DINO_VIT]
