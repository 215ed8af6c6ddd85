"""Co-DINO (arXiv 2211.12860): DINO with four levels, a Faster R-CNN and an ATSS head. A config adds the backbone."""

_base_ = ['dino_4scale.py', 'co_dino_heads.py']

model = _base_.co_dino
