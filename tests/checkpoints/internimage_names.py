"""Rename this project's InternImage weights to the published names; independent of the package's rules."""

import re


def official(state: dict) -> dict:
    """A whole classifier's state (``backbone.*``, ``head.*``) with the names of OpenGVLab's classification files."""
    renamed = {}
    norm = 'fc_norm.0.' if 'head.pool.proj.weight' in state else 'conv_head.1.0.'
    for name, value in state.items():
        part, rest = name.split('.', 1)
        if part == 'head':
            new = _head(rest, norm)
        elif '.dcn.' in rest:
            new = rest
        else:
            # a norm's index in its sequence
            index = '1' if rest.startswith('patch_embed') or '.downsample.' in rest else '0'
            new = re.sub(r'(norm[12]?|post_norms\.\d)\.(weight|bias)$', rf'\1.{index}.\2', rest)
        renamed[new] = value
    assert len(renamed) == len(state)
    return renamed


def _head(rest: str, norm: str) -> str:
    for ours, theirs in (('conv.', 'conv_head.0.'), ('x3_proj.', 'dcnv3_head_x3.'), ('x4_proj.', 'dcnv3_head_x4.0.'),
                         ('pool.norm_', 'clip_projector.norm1_'), ('pool.', 'clip_projector.cross_dcn.'),
                         ('fc.', 'head.')):
        if rest.startswith(ours):
            return re.sub(r'cross_dcn\.([qkv])\.bias', r'cross_dcn.\1_bias', theirs + rest.removeprefix(ours))
    return rest.replace('norm.', norm, 1)


def hugging_face(names: dict) -> dict:
    return {'model.' + name.replace('gamma', 'layer_scale'): value for name, value in names.items()}


def mmpretrain(names: dict) -> dict:
    renamed = {}
    for name, value in names.items():
        if name.startswith('head.'):
            renamed[name.replace('head.', 'head.fc.')] = value
            continue
        for old, new in (('conv1', '0'), ('norm1', '1'), ('conv2', '3'), ('norm2', '4')):
            name = name.replace(f'patch_embed.{old}', f'patch_embed.{new}')
        name = name.replace('levels.', 'layers.')
        name = name.replace('mlp.fc1', 'mlp.layers.0.0').replace('mlp.fc2', 'mlp.layers.1')
        if not name.endswith('cross_dcn.k_bias'):
            renamed[f'backbone.{name}'] = value
    return renamed
