"""Names of the EVA-02 detectors (arXiv 2303.11331, fork of detectron2), and their names in this project."""

from __future__ import annotations

from vitdet_plugin.checkpoints.formats import Drop, Format
from vitdet_plugin.checkpoints.vitdet import DETECTRON2

_NET = r'(?:backbone\.)?net\.'
_ATTN = _NET + r'(blocks\.\d+\.attn\.)'
_MLP = _NET + r'(blocks\.\d+\.mlp\.)'

EVA02_DETECTRON2 = Format(
    'EVA-02 detector (detectron2)',
    keys=(*DETECTRON2.keys, '*net.blocks.*.mlp.ffn_ln.weight'),
    without=DETECTRON2.without,
    rules=[
        (_NET + r'(blocks\.\d+\.attn\.rope|rope_win|rope_glb)\.freqs_(cos|sin)', Drop('rotary tables are computed')),
        (_ATTN + r'([qv])_bias', r'backbone.net.\1\2_proj.bias'),
        (_MLP + r'w1\.(weight|bias)', r'backbone.net.\1fc1_g.\2'),
        (_MLP + r'w2\.(weight|bias)', r'backbone.net.\1fc1_x.\2'),
        (_MLP + r'w3\.(weight|bias)', r'backbone.net.\1fc2.\2'),
        (_MLP + r'ffn_ln\.(weight|bias)', r'backbone.net.\1norm.\2'),
        (_NET + r'(.*)', r'backbone.net.\1'),
        *DETECTRON2.rules,
    ],
)

FORMATS = [EVA02_DETECTRON2]
