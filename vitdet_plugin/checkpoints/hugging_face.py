"""Names of plain ViTs in transformers (ViT, MAE, DINOv2, DINOv3), and the official names for them.

Versions 4 and 5 of transformers differ; both are read. Queries, keys and values are joined.
"""

from __future__ import annotations

import re
from collections import defaultdict

import torch
from torch import Tensor

_STEM = re.compile(r'(.*?)embeddings\.patch_embeddings\.(?:projection\.)?weight')
_BLOCK = re.compile(r'(?:encoder\.|model\.)?layers?\.(\d+)\.(.+)')
_OUTSIDE = [
    (r'embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)', r'patch_embed.proj.\1'),
    (r'embeddings\.position_embeddings', 'pos_embed'),
    (r'embeddings\.distillation_token', 'dist_token'),
    (r'embeddings\.(cls_token|mask_token|register_tokens)', r'\1'),
    (r'(?:layernorm|norm)\.(weight|bias)', r'norm.\1'),
    (r'pooler\.(.*)', r'head.pooler.\1'),
]
_INSIDE = [
    (r'(?:norm1|layernorm_before)\.(\w+)', r'norm1.\1'),
    (r'(?:norm2|layernorm_after)\.(\w+)', r'norm2.\1'),
    (r'attention\.(?:attention\.)?([qkv])(?:uery|ey|alue|_proj)\.(\w+)', r'attn.\1.\2'),
    (r'attention\.(?:output\.dense|o_proj)\.(\w+)', r'attn.proj.\1'),
    (r'layer_scale([12])\.lambda1', r'ls\1.gamma'),
    (r'(?:intermediate\.dense|mlp\.fc1)\.(\w+)', r'mlp.fc1.\1'),
    (r'(?:output\.dense|mlp\.fc2)\.(\w+)', r'mlp.fc2.\1'),
    (r'mlp\.weights_in\.(\w+)', r'mlp.w12.\1'),
    (r'mlp\.weights_out\.(\w+)', r'mlp.w3.\1'),
]


def to_official_names(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename the weights of a plain ViT of transformers to those of the official files.

    Args:
        state: Weights of the backbone, possibly under a prefix (``vit.``, ``dinov2.``) and with a head or decoder.

    Returns:
        The weights, those without a rule under their own names; None for weights with other names.
    """
    prefix = next((found[1] for name in state if (found := _STEM.fullmatch(name))), None)
    if prefix is None:
        return None
    renamed: dict[str, Tensor] = {}
    blocks: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in state.items():
        inside = name.removeprefix(prefix)
        if name.startswith(prefix) and (found := _BLOCK.fullmatch(inside)):
            blocks[found[1]][_rename(found[2], _INSIDE)] = value
        elif name.startswith('classifier.'):
            renamed[name.replace('classifier.', 'head.', 1)] = value
        else:
            renamed[_rename(inside, _OUTSIDE) if name.startswith(prefix) else name] = value
    is_dinov3 = 'pos_embed' not in renamed
    if is_dinov3 and 'register_tokens' in renamed:
        renamed['storage_tokens'] = renamed.pop('register_tokens')
    for index, block in blocks.items():
        _join_attention(block)
        _rename_gated_mlp(block, is_dinov3)
        renamed |= {f'blocks.{index}.{name}': value for name, value in block.items()}
    return renamed


def _rename(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, new in rules:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, new, name)
    return name


def _join_attention(block: dict[str, Tensor]) -> None:
    """Join queries, keys and values; a missing bias (DINOv3 has none for the keys) is zero."""
    if not all(f'attn.{part}.weight' in block for part in 'qkv'):
        return
    block['attn.qkv.weight'] = torch.cat([block.pop(f'attn.{part}.weight') for part in 'qkv'])
    biases = [block.pop(f'attn.{part}.bias', None) for part in 'qkv']
    given = next((bias for bias in biases if bias is not None), None)
    if given is not None:
        block['attn.qkv.bias'] = torch.cat([torch.zeros_like(given) if bias is None else bias for bias in biases])


def _rename_gated_mlp(block: dict[str, Tensor], is_dinov3: bool) -> None:
    """Rename ``gate_proj``, ``up_proj`` and ``down_proj``; without a gate they are a plain MLP."""
    has_gate = 'mlp.gate_proj.weight' in block
    for end in ('weight', 'bias'):
        gate, up, down = (block.pop(f'mlp.{part}_proj.{end}', None) for part in ('gate', 'up', 'down'))
        if up is None or down is None or has_gate and gate is None:
            continue
        if gate is None:
            block |= {f'mlp.fc1.{end}': up, f'mlp.fc2.{end}': down}
        elif is_dinov3:
            block |= {f'mlp.w1.{end}': gate, f'mlp.w2.{end}': up, f'mlp.w3.{end}': down}
        else:
            block |= {f'mlp.w12.{end}': torch.cat([gate, up]), f'mlp.w3.{end}': down}
