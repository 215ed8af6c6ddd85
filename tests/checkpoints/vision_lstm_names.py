"""Rename this project's Vision-LSTM weights to the names of the published files and of the training code."""

import re

DIRECTIONS = ('rowwise_from_top_left', 'rowwise_from_bot_right')


def published(name, version):
    """The name in the published files: pairs of blocks in version 2, ``conv1d.conv`` in version 1."""
    name = name.removeprefix('backbone.').removeprefix('head.').replace('fc.', 'head.')
    name = name.replace('pos_embed', 'pos_embed.embed')
    if version == 1:
        return name.replace('layer.conv.', 'layer.conv1d.conv.')
    return re.sub(r'blocks\.(\d+)\.', lambda m: f'blocks.{int(m[1]) // 2}.{DIRECTIONS[int(m[1]) % 2]}.', name)


def in_training(name, version):
    """The name in files of the training code: one list of blocks, ``xlstm`` everywhere, the head as a sequence."""
    if name.startswith('backbone.blocks.'):
        name = name.removeprefix('backbone.').replace('.layer.conv.', '.layer.conv1d.')
        return 'xlstm.' + re.sub(r'(\d)\.norm\.', r'\1.xlstm_norm.', name).replace('.layer.', '.xlstm.')
    ends = {1: {'backbone.legacy_norm': 'xlstm.post_blocks_norm', 'backbone.norm': 'head.0', 'head.fc': 'head.1'},
            2: {'backbone.norm': 'xlstm.post_blocks_norm', 'head.legacy_norm': 'head.0', 'head.fc': 'head.1'}}[version]
    part, _, leaf = name.rpartition('.')
    return f'{ends[part]}.{leaf}' if part in ends else published(name, version)
