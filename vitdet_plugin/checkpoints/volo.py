"""Official spelling of VOLO's weights, which timm shares, and their names in this project."""

from __future__ import annotations

from vitdet_plugin.checkpoints.formats import Format

VOLO = Format(
    'VOLO',
    # our own backbone alone is spelt alike but has no norm.weight
    matches=lambda names: {'patch_embed.conv.0.weight', 'patch_embed.proj.weight', 'network.0.0.norm1.weight',
                           'norm.weight'} <= names,
    rules=[
        (r'(patch_embed\..*|network\..*|pos_embed)', r'backbone.\1'),
        (r'head\.(weight|bias)', r'head.fc.\1'),
        (r'(cls_token|post_network\..*|norm\..*|aux_head\..*)', r'head.\1'),
    ],
)

FORMATS = [VOLO]
