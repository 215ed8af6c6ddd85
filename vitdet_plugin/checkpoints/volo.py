"""Published names of VOLO's weights (timm uses the same) and their names in this project."""

from __future__ import annotations

from vitdet_plugin.checkpoints.formats import Format

VOLO = Format(
    'VOLO',
    # the backbone of this project has the same names, but no norm.weight
    keys=('patch_embed.conv.0.weight', 'patch_embed.proj.weight', 'network.0.0.norm1.weight', 'norm.weight'),
    rules=[
        (r'(patch_embed\..*|network\..*|pos_embed)', r'backbone.\1'),
        (r'head\.(weight|bias)', r'head.fc.\1'),
        (r'(cls_token|post_network\..*|norm\..*|aux_head\..*)', r'head.\1'),
    ],
)

FORMATS = [VOLO]
