"""Check that the head of a classifier fits what its backbone returns (maps or vectors, width), its loss the data."""

from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from vitdet_plugin.backbones.base import Backbone
from vitdet_plugin.config.registry import is_classifier, type_name
from vitdet_plugin.datasets.checks.findings import Finding

_BATCH = 2
_MAPS = ((3, 5), (1, 1))  # also the map of a backbone that pools


def check_cls_head(cfg: Config, model: nn.Module | None) -> list[Finding]:
    """Run neck and head on outputs of the backbone's shapes.

    Args:
        cfg: Complete config.
        model: The model on the meta device; None if it cannot be built there.
    """
    backbone, head = getattr(model, 'backbone', None), cfg.model.get('head')
    if not is_classifier(cfg) or not isinstance(backbone, Backbone) or not isinstance(head, dict):
        return []
    is_vector = getattr(backbone, 'out_type', 'featmap') != 'featmap'
    if _fits(model, backbone, is_vector):
        return []
    name, own = type_name(head), f'the backbone {type(backbone).__name__}'
    if not _fits(model, backbone, not is_vector):
        width, given = head.get('in_channels'), backbone.out_channels[-1]
        if width in (None, given) or cfg.model.get('neck') is not None:
            return []
        return [Finding('error', f'model.head.in_channels={width}, but {own} returns {given} channels; set it to '
                                 f'{given}')]
    if is_vector:
        reader = f'neck {type_name(cfg.model.neck)}' if cfg.model.get('neck') is not None else f'head {name}'
        return [Finding('error', f'model: the {reader} reads maps, but {own} returns vectors '
                                 f"(out_type={backbone.out_type!r}); set model.backbone.out_type='featmap'"
                                 f'{", or model.neck=None" if "neck" in reader else ""}')]
    other = "set model.backbone.out_type to 'cls_token' or 'avg_featmap', or " if hasattr(backbone, 'out_type') else ''
    return [Finding('error', f'model.head: {name} reads vectors, but {own} returns maps; {other}set '
                             "model.neck=dict(type='GlobalAveragePooling')")]


def check_cls_loss(model: nn.Module | None) -> list[Finding]:
    """Report a loss of a classifier that compares scores of all classes if the targets are one label an image."""
    head = getattr(model, 'head', None)
    preprocessor = getattr(model, 'data_preprocessor', None)
    preprocessor = getattr(preprocessor, 'images', preprocessor)  # that of MixTokenDataPreprocessor
    loss = getattr(head, 'loss_module', None)
    owner = next((each.__name__ for each in type(head).__mro__ if 'loss' in vars(each)), '')  # other heads have targets
    if owner not in ('ClsHead', 'ClassifierHead') or type(loss).__name__ != 'CrossEntropyLoss' \
            or getattr(preprocessor, 'to_onehot', True):
        return []
    option = next((name for name in ('use_sigmoid', 'use_soft') if getattr(loss, name, False)), None)
    return [Finding('error', f'model.head.loss: CrossEntropyLoss({option}=True) requires a score for each class, but '
                             f'the data has one label an image; remove {option}, or set data_preprocessor.to_onehot='
                             'True')] if option else []


@torch.no_grad()
def _fits(model: Any, backbone: Backbone, is_vector: bool) -> bool:
    """Return whether the head computes one row of scores for an image from maps or vectors of the backbone's widths."""
    device = next(model.head.parameters(), torch.empty(0)).device
    return any(_computes(model, tuple(torch.zeros(_BATCH, width, *shape, device=device)
                                      for width in backbone.out_channels)) for shape in ([()] if is_vector else _MAPS))


def _computes(model: Any, feats: tuple[Tensor, ...]) -> bool:
    try:
        scores = model.head(model.neck(feats) if getattr(model, 'neck', None) is not None else feats)
    except Exception:
        return False
    return not isinstance(scores, Tensor) or scores.ndim == 2 and len(scores) == _BATCH
