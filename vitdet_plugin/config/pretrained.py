"""The key ``pretrained`` of models and backbones, as in mmdet 2: weights to start the backbone from."""

import inspect
import os
from typing import Any

from vitdet_plugin.config.registry import find_registered, is_classifier
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.pretrained import pretrained_init


def read_pretrained(cfg: Any) -> None:
    """Replace ``model.pretrained`` and ``model.backbone.pretrained`` by ``model.backbone.init_cfg`` in place.

    The key replaces an ``init_cfg``, which a base config may have; None leaves it. Keys of classes outside of this
    package that accept ``pretrained`` themselves are kept.
    """
    model = cfg.get('model')
    backbone = model.get('backbone') if isinstance(model, dict) else None
    if not isinstance(backbone, dict):
        return
    if 'pretrained' in model and not _keeps(cfg, model['pretrained']):
        _set_init(backbone, model.pop('pretrained'), 'model.pretrained')
    if 'pretrained' in backbone and _is_ours(backbone.get('type')):
        _set_init(backbone, backbone.pop('pretrained'), 'model.backbone.pretrained')


def _set_init(backbone: dict, value: Any, key: str) -> None:
    if value is None:
        return
    try:
        backbone['init_cfg'] = pretrained_init(value, backbone.get('model'))
    except UserError as error:
        raise UserError(f'{key.removesuffix("pretrained")}{error}') from None


def _keeps(cfg: Any, value: Any) -> bool:
    """Whether ``model.pretrained`` is mmpretrain's own: a file for the whole classifier."""
    if not is_classifier(cfg):
        return False
    is_path = isinstance(value, (str, os.PathLike)) and (os.path.exists(value) or '/' in os.fspath(value))
    return is_path or not _is_ours(cfg.model.backbone.get('type'))


def _is_ours(kind: Any) -> bool:
    """Whether a backbone is one of this package, derived from ``backbones.base.Backbone``."""
    found = find_registered(kind) if isinstance(kind, str) else kind
    return inspect.isclass(found) and any(
        (base.__module__, base.__name__) == ('vitdet_plugin.backbones.base', 'Backbone') for base in found.__mro__)
