"""Rename this project's weights to the published names; independent of the package's rules."""

import re

import torch

_FIRST = (4, 1, 0, 1)  # index of the 1x1 convolution on the four pyramid levels


def _neck(name: str, resize: str, conv: str) -> str:
    """Fill the patterns with level (from 0), index and the rest of a neck weight's name."""
    level, part, rest = re.match(r'levels\.(\d)\.(\w+)\.(.*)', name).groups()
    if part == 'resize':
        index, leaf = rest.split('.')
        return resize.format(level=int(level), index=index, leaf=leaf)
    kind, leaf = rest.split('.')
    return conv.format(level=int(level), index=_FIRST[int(level)] + (part == 'output'), part=part, kind=kind, leaf=leaf)


def detectron2(state: dict) -> dict:
    """``backbone.net``, ``backbone.simfp_2`` ..., ``proposal_generator``, ``roi_heads``."""
    official = {'pixel_mean': torch.zeros(3, 1, 1), 'pixel_std': torch.ones(3, 1, 1)}
    heads = [
        (r'rpn_head\.rpn_conv\.(\d)\.conv\.', r'proposal_generator.rpn_head.conv.conv\1.'),
        (r'rpn_head\.rpn_cls\.', 'proposal_generator.rpn_head.objectness_logits.'),
        (r'rpn_head\.rpn_reg\.', 'proposal_generator.rpn_head.anchor_deltas.'),
        (r'roi_head\.bbox_head((?:\.\d)?)\.shared_fcs\.0\.', r'roi_heads.box_head\1.fc1.'),
        (r'roi_head\.bbox_head((?:\.\d)?)\.fc_cls\.', r'roi_heads.box_predictor\1.cls_score.'),
        (r'roi_head\.bbox_head((?:\.\d)?)\.fc_reg\.', r'roi_heads.box_predictor\1.bbox_pred.'),
        (r'roi_head\.mask_head\.upsample\.', 'roi_heads.mask_head.deconv.'),
        (r'roi_head\.mask_head\.conv_logits\.', 'roi_heads.mask_head.predictor.'),
    ]
    for name, value in state.items():
        if name.startswith('backbone.'):
            new = name.replace('backbone.', 'backbone.net.', 1)
        elif name.startswith('neck.'):
            new = 'backbone.simfp_' + _neck(name.removeprefix('neck.'), '{level}.{index}.{leaf}',
                                            '{level}.{index}.{kind}.{leaf}')
            level = int(new.split('_')[1][0])
            new = new.replace(f'simfp_{level}', f'simfp_{level + 2}').replace('.conv.', '.').replace('.ln.', '.norm.')
        elif match := re.match(r'roi_head\.(bbox|mask)_head((?:\.\d)?)\.(?:shared_)?convs\.(\d)\.(conv|ln)\.', name):
            part, stage, k, kind = match.groups()
            layer = f'box_head{stage}.conv' if part == 'bbox' else 'mask_head.mask_fcn'
            new = f'roi_heads.{layer}{int(k) + 1}.{"norm." if kind == "ln" else ""}{name[match.end():]}'
        else:
            pattern, target = next((p, t) for p, t in heads if re.match(p, name))
            new = re.sub(pattern, target, name)
        official[new] = value
    return official


def mmdet_project(state: dict) -> dict:
    """``neck.fpn1``, ``lateral_convs``, ``fpn_convs``; ``norm_layer`` for every LayerNorm over channels."""
    official = {'data_preprocessor.mean': torch.zeros(3)}
    for name, value in state.items():
        if name.startswith('neck.'):
            name = 'neck.' + _neck(name.removeprefix('neck.'), 'fpn{level}.{index}.{leaf}',
                                   '{part}_convs.{level}.{kind}.{leaf}')
            name = name.replace('output_convs', 'fpn_convs').replace('fpn1.', 'fpn2.').replace('fpn0.', 'fpn1.')
        official[name.replace('.ln.', '.norm_layer.')] = value
    return official


def easycv(state: dict) -> dict:
    """``neck.sfp_0`` ..., GroupNorm called ``gn`` as here."""
    official = {}
    for name, value in state.items():
        if name.startswith('neck.'):
            name = 'neck.sfp_' + _neck(name.removeprefix('neck.'), '{level}.{index}.{leaf}',
                                       '{level}.{index}.{kind}.{leaf}')
        official[name] = value
    return official


def mae(state: dict) -> dict:
    """A backbone's weights as in a masked autoencoder: class token and final norm, no relative positions."""
    official = {name: value for name, value in state.items() if 'rel_pos' not in name}
    dim = state['pos_embed'].shape[-1]
    official |= {'cls_token': torch.zeros(1, 1, dim), 'norm.weight': torch.ones(dim), 'norm.bias': torch.zeros(dim),
                 'mask_token': torch.zeros(1, 1, 8), 'decoder_pos_embed': torch.zeros(1, 5, 8),
                 'decoder_blocks.0.attn.qkv.weight': torch.zeros(24, 8)}
    return official


def sam(state: dict) -> dict:
    """``image_encoder`` with ``lin1``, ``lin2`` and its position embedding as a map; and unused parts."""
    official = {'image_encoder.neck.0.weight': torch.zeros(4, 16, 1, 1),
                'prompt_encoder.no_mask_embed.weight': torch.zeros(1, 4),
                'mask_decoder.iou_token.weight': torch.zeros(1)}
    for name, value in state.items():
        if name == 'pos_embed':
            side = round(value.shape[1] ** 0.5)
            value = value.view(1, side, side, -1)
        official['image_encoder.' + name.replace('mlp.fc', 'mlp.lin')] = value
    return official
