"""Published names of ViT and ViTDet weights, and their names in this project.

Each format is a table of regular expressions, read from top to bottom; the first that matches the whole name renames
the weight, or drops it where the right-hand side is ``Drop(reason)``.
"""

from __future__ import annotations

from dataclasses import replace

from vitdet_plugin.checkpoints.formats import Drop, Format

_NO_CLS = Drop('class token: the detector has none')
_NO_NORM = Drop('final norm: the detector has none')
_BLOCK = r'(blocks\.\d+\.(?:norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.(?:weight|bias))'
_STEM = r'(patch_embed\.proj\.(?:weight|bias)|pos_embed)'

MAE = Format(
    'MAE',
    keys=('cls_token', 'pos_embed', 'blocks.0.attn.qkv.weight'),
    without=('*rel_pos*',),
    rules=[
        (_STEM, r'backbone.\1'),
        (_BLOCK, r'backbone.\1'),
        (r'cls_token', _NO_CLS),
        (r'(norm|fc_norm)\..*', _NO_NORM),
        (r'(head|head_dist|dist_token)\b.*', Drop('classification head')),
        (r'(decoder.*|mask_token)', Drop('decoder of the pre-training')),
    ],
)

DETECTRON2 = Format(
    'detectron2 ViTDet',
    keys=('net.blocks.*|backbone.net.blocks.*',),
    without=('*net.cls_token',),  # a plain ViT that a program keeps as ``net``
    rules=[
        (r'pixel_(mean|std)', Drop('the data preprocessor has mean and std')),
        (r'(?:backbone\.)?net\.(.*)', r'backbone.\1'),
        # pyramid: deconvolutions first, then a 1x1 and a 3x3 convolution at different indexes on each level
        (r'(?:backbone\.)?simfp_2\.([013])\.(weight|bias)', r'neck.levels.0.resize.\1.\2'),
        (r'(?:backbone\.)?simfp_3\.0\.(weight|bias)', r'neck.levels.1.resize.0.\1'),
        *[(rf'(?:backbone\.)?simfp_{level}\.{index}\.{source}', f'neck.levels.{level - 2}.{part}.{target}')
          for level, first in ((2, 4), (3, 1), (4, 0), (5, 1)) for index, part in ((first, 'lateral'),
                                                                                (first + 1, 'output'))
          for source, target in (('weight', 'conv.weight'), (r'norm\.(weight|bias)', r'ln.\1'))],
        (r'proposal_generator\.rpn_head\.conv\.conv(\d)\.(.*)', r'rpn_head.rpn_conv.\1.conv.\2'),
        (r'proposal_generator\.rpn_head\.objectness_logits\.(.*)', r'rpn_head.rpn_cls.\1'),
        (r'proposal_generator\.rpn_head\.anchor_deltas\.(.*)', r'rpn_head.rpn_reg.\1'),
        (r'proposal_generator\.anchor_generator\..*', Drop('anchors are computed')),
        # heads; a cascade has a stage index after box_head and box_predictor. Convolutions count from 1 there.
        *[(rf'roi_heads\.box_head(\.\d)?\.conv{k}\.weight', rf'roi_head.bbox_head\1.shared_convs.{k - 1}.conv.weight')
          for k in range(1, 5)],
        *[(rf'roi_heads\.box_head(\.\d)?\.conv{k}\.norm\.(.*)', rf'roi_head.bbox_head\1.shared_convs.{k - 1}.ln.\2')
          for k in range(1, 5)],
        (r'roi_heads\.box_head(\.\d)?\.fc1\.(.*)', r'roi_head.bbox_head\1.shared_fcs.0.\2'),
        (r'roi_heads\.box_predictor(\.\d)?\.cls_score\.(.*)', r'roi_head.bbox_head\1.fc_cls.\2'),
        (r'roi_heads\.box_predictor(\.\d)?\.bbox_pred\.(.*)', r'roi_head.bbox_head\1.fc_reg.\2'),
        (r'roi_heads\.box_predictor(\.\d)?\.fed_loss_cls_weights', Drop('class frequencies: read from the data set')),
        *[(rf'roi_heads\.mask_head\.mask_fcn{k}\.weight', f'roi_head.mask_head.convs.{k - 1}.conv.weight')
          for k in range(1, 5)],
        *[(rf'roi_heads\.mask_head\.mask_fcn{k}\.norm\.(.*)', rf'roi_head.mask_head.convs.{k - 1}.ln.\1')
          for k in range(1, 5)],
        (r'roi_heads\.mask_head\.deconv\.(.*)', r'roi_head.mask_head.upsample.\1'),
        (r'roi_heads\.mask_head\.predictor\.(.*)', r'roi_head.mask_head.conv_logits.\1'),
    ],
)

MMDET_PROJECT = Format(
    'mmdet projects/ViTDet',
    keys=('neck.fpn1.0.weight',),
    rules=[
        (r'neck\.fpn1\.([013])\.(weight|bias)', r'neck.levels.0.resize.\1.\2'),
        (r'neck\.fpn2\.0\.(weight|bias)', r'neck.levels.1.resize.0.\1'),
        (r'neck\.lateral_convs\.(\d)\.conv\.weight', r'neck.levels.\1.lateral.conv.weight'),
        (r'neck\.lateral_convs\.(\d)\.(?:norm_layer|ln)\.(.*)', r'neck.levels.\1.lateral.ln.\2'),
        (r'neck\.fpn_convs\.(\d)\.conv\.weight', r'neck.levels.\1.output.conv.weight'),
        (r'neck\.fpn_convs\.(\d)\.(?:norm_layer|ln)\.(.*)', r'neck.levels.\1.output.ln.\2'),
        (r'((?:roi_head|rpn_head)\..*)\.norm_layer\.(.*)', r'\1.ln.\2'),
        (r'((?:backbone|rpn_head|roi_head)\..*)', r'\1'),
        (r'data_preprocessor\..*', Drop('the data preprocessor has mean and std')),
    ],
)

EASYCV = Format(
    'EasyCV ViTDet',
    keys=('neck.sfp_0.*',),
    rules=[
        (r'backbone\.(?:cls_token)', _NO_CLS),
        (r'backbone\.norm\..*', _NO_NORM),
        (r'neck\.sfp_0\.([013])\.(weight|bias)', r'neck.levels.0.resize.\1.\2'),
        (r'neck\.sfp_1\.0\.(weight|bias)', r'neck.levels.1.resize.0.\1'),
        *[(rf'neck\.sfp_{level}\.{first + i}\.(conv|gn)\.(weight|bias)', rf'neck.levels.{level}.{part}.\1.\2')
          for level, first in ((0, 4), (1, 1), (2, 0), (3, 1)) for i, part in enumerate(('lateral', 'output'))],
        (r'((?:backbone|rpn_head|roi_head)\..*)', r'\1'),
    ],
)

SAM = Format(
    'SAM image encoder',
    keys=('*blocks.0.mlp.lin1.weight',),
    rules=[
        (r'(?:image_encoder\.)?' + _STEM, r'backbone.\1'),
        (r'(?:image_encoder\.)?(blocks\.\d+\.mlp)\.lin([12])\.(.*)', r'backbone.\1.fc\2.\3'),
        (r'(?:image_encoder\.)?(blocks\..*)', r'backbone.\1'),
        (r'(?:image_encoder\.)?neck\..*', Drop("SAM's own neck")),
        (r'(prompt_encoder|mask_decoder)\..*', Drop("SAM's prompt encoder and mask decoder")),
    ],
)

# EasyCV's first version and ViTAE scale the queries before the relative positions; detectron2 and this project do not.
# The names are the same, so this format must be selected by name.
EASYCV_V1 = replace(
    EASYCV, name='EasyCV ViTDet, scaled rel_pos', keys=(),
    adapt=lambda name, value: value * value.shape[-1] ** -0.5 if 'rel_pos' in name else value)

TIMM_SAM = Format(
    "timm's SAM encoder",
    keys=('pos_embed', 'neck.0.weight', 'blocks.0.mlp.fc1.weight'),
    rules=[
        (_STEM, r'backbone.\1'),
        (r'(blocks\..*)', r'backbone.\1'),
        (r'neck\..*', Drop("SAM's own neck")),
        (r'head\..*', Drop('classification head')),
    ],
)

_HF = r'(?:vitdet\.|model\.|backbone\.)?(?:vitdet\.)?'
HUGGING_FACE = Format(
    "Hugging Face's VitDet",
    keys=('*encoder.layer.0.attention.qkv.weight', '*embeddings.projection.weight'),
    rules=[
        (_HF + r'embeddings\.position_embeddings', 'backbone.pos_embed'),
        (_HF + r'embeddings\.projection\.(weight|bias)', r'backbone.patch_embed.proj.\1'),
        (_HF + r'encoder\.layer\.(\d+)\.attention\.(.*)', r'backbone.blocks.\1.attn.\2'),
        (_HF + r'encoder\.layer\.(\d+)\.(norm[12]|mlp|residual)\.(.*)', r'backbone.blocks.\1.\2.\3'),
    ],
)

_HF_SAM = r'(?:model\.)?(?:vision_encoder\.)'
HUGGING_FACE_SAM = Format(
    "Hugging Face's SAM",
    keys=('*vision_encoder.layers.0.mlp.lin1.weight',),
    rules=[
        (_HF_SAM + r'pos_embed', 'backbone.pos_embed'),
        (_HF_SAM + r'patch_embed\.projection\.(weight|bias)', r'backbone.patch_embed.proj.\1'),
        (_HF_SAM + r'layers\.(\d+)\.layer_norm([12])\.(.*)', r'backbone.blocks.\1.norm\2.\3'),
        (_HF_SAM + r'layers\.(\d+)\.mlp\.lin([12])\.(.*)', r'backbone.blocks.\1.mlp.fc\2.\3'),
        (_HF_SAM + r'layers\.(\d+)\.(attn\..*)', r'backbone.blocks.\1.\2'),
        (_HF_SAM + r'neck\..*', Drop("SAM's own neck")),
        (r'(?:model\.)?(shared_image_embedding|prompt_encoder|mask_decoder)\..*',
         Drop("SAM's prompt encoder and mask decoder")),
    ],
)

FORMATS = [DETECTRON2, MMDET_PROJECT, EASYCV, EASYCV_V1, SAM, TIMM_SAM, HUGGING_FACE, HUGGING_FACE_SAM, MAE]
