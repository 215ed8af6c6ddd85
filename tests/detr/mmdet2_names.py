"""Names of the weights of DINO and Deformable DETR in mmdet 2; independent of the package's rules."""

from tests.checkpoints import internimage_names

_TWO = ('weight', 'bias')
_SAMPLER = ('sampling_offsets', 'attention_weights', 'value_proj', 'output_proj')
_PREFIX = 'bbox_head.transformer'


def dino_head_names(layers: int = 6, levels: int = 4) -> list[str]:
    """The names of everything but the backbone in OpenGVLab's DINO files."""
    maps = levels - 1
    names = [f'neck.convs.{i}.{part}' for i in range(maps) for part in ('conv.weight', 'gn.weight', 'gn.bias')]
    names += [f'neck.extra_convs.0.{part}' for part in ('conv.weight', 'gn.weight', 'gn.bias')]
    names += [f'{_PREFIX}.level_embeds', f'{_PREFIX}.query_embed.weight', 'bbox_head.label_embedding.weight']
    names += [f'{_PREFIX}.{part}.{leaf}' for part in ('enc_output', 'enc_output_norm', 'decoder.norm',
                                                      'decoder.ref_point_head.0', 'decoder.ref_point_head.2')
              for leaf in _TWO]
    for i in range(layers):
        layer = f'{_PREFIX}.encoder.layers.{i}'
        names += [f'{layer}.attentions.0.{part}.{leaf}' for part in _SAMPLER for leaf in _TWO]
        names += [f'{layer}.{part}.{leaf}' for part in ('ffns.0.layers.0.0', 'ffns.0.layers.1', 'norms.0', 'norms.1')
                  for leaf in _TWO]
        layer = f'{_PREFIX}.decoder.layers.{i}'
        names += [f'{layer}.attentions.0.attn.{part}' for part in (
            'in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias')]
        names += [f'{layer}.attentions.1.{part}.{leaf}' for part in _SAMPLER for leaf in _TWO]
        names += [f'{layer}.{part}.{leaf}' for part in ('ffns.0.layers.0.0', 'ffns.0.layers.1', 'norms.0', 'norms.1',
                                                        'norms.2') for leaf in _TWO]
    for i in range(layers + 1):  # the last is the encoder's
        names += [f'bbox_head.cls_branches.{i}.{leaf}' for leaf in _TWO]
        names += [f'bbox_head.reg_branches.{i}.{j}.{leaf}' for j in (0, 2, 4) for leaf in _TWO]
    return names


def mmdet2(state: dict, backbone=None) -> dict:
    """Rename the state of mmdet 3's detector; ``backbone`` renames that of its backbone, by default InternImage's."""
    parts = {name: value for name, value in state.items() if name.startswith('backbone.')}
    if backbone is None:
        parts = {f'backbone.{name}': value for name, value in internimage_names.official(parts).items()}
    else:
        parts = backbone(parts)
    renamed = dict(parts)
    for name, value in state.items():
        if not name.startswith('backbone.'):
            renamed[_old_name(name)] = value
    assert len(renamed) == len(state)
    return renamed


def _old_name(name: str) -> str:
    first, _, rest = name.partition('.')
    if first in ('neck', 'bbox_head'):
        return name
    if first in ('encoder', 'decoder'):
        for new, old in (('.self_attn.', '.attentions.0.'), ('.cross_attn.', '.attentions.1.'), ('.ffn.', '.ffns.0.'),
                         ('ref_point_head.layers.0.', 'ref_point_head.0.'),
                         ('ref_point_head.layers.1.', 'ref_point_head.2.')):
            name = name.replace(new, old)
        return f'{_PREFIX}.{name}'
    if first == 'query_embedding':
        return f'{_PREFIX}.query_embed.{rest}'
    return {'level_embed': f'{_PREFIX}.level_embeds', 'memory_trans_fc': f'{_PREFIX}.enc_output.{rest}',
            'memory_trans_norm': f'{_PREFIX}.enc_output_norm.{rest}', 'pos_trans_fc': f'{_PREFIX}.pos_trans.{rest}',
            'pos_trans_norm': f'{_PREFIX}.pos_trans_norm.{rest}',
            'reference_points_fc': f'{_PREFIX}.reference_points.{rest}',
            'dn_query_generator': 'bbox_head.label_embedding.weight'}[first]
