"""Sense-X's names of Co-DINO's weights; independent of the package's rules."""

from tests.detr.mmdet2_names import _old_name

_TRANSFORMER = 'query_head.transformer'
_PREFIXES = {'aux_rpn_head': 'rpn_head', 'aux_roi_heads': 'roi_head', 'aux_bbox_heads': 'bbox_head',
             'downsample': 'query_head.downsample'}


def sense_x(state: dict) -> dict:
    """Rename a state of ``CoDETR``; the names of backbone and neck are the same."""
    renamed = {}
    for name, value in state.items():
        first, _, rest = name.partition('.')
        if first in ('backbone', 'neck'):
            old = name
        elif first in _PREFIXES:
            old = f'{_PREFIXES[first]}.{rest}'
        elif first == 'customized_queries':
            index, part, leaf = rest.split('.')
            old = f'{_TRANSFORMER}.aux_pos_trans{"_norm" if part == "norm" else ""}.{index}.{leaf}'
        else:
            old = _old_name(name).replace('bbox_head.', 'query_head.', 1)
        renamed[old] = value
    assert len(renamed) == len(state)
    return renamed
