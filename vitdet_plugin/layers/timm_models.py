"""Plain vision transformers of timm, built by name or from their arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from timm.models import beit, eva, vision_transformer
from torch import nn

from vitdet_plugin.errors import UserError

FAMILIES = {'VisionTransformer': vision_transformer.VisionTransformer, 'Eva': eva.Eva, 'Beit': beit.Beit}
PREFIX_TOKENS = ('cls_token', 'dist_token', 'reg_token')  # in the order of their positions
_CLASSES = ('VisionTransformer', 'VisionTransformerDistilled', 'Eva', 'Beit')
_MODULES = ('vision_transformer', 'deit', 'eva', 'beit')  # of timm.models, with these classes


def build_plain_vit(model: str | dict, args: dict[str, Any]) -> Any:
    """Build a plain ViT without its classifier.

    Args:
        model: Name of a model of timm, or ``dict(family=..., **arguments)`` with a key of ``FAMILIES``.
        args: Further arguments of the model. With ``patch_size`` and without ``img_size``, the table of absolute
            positions keeps its grid.

    Raises:
        UserError: The model is unknown or not a plain ViT, or an argument is not valid.
    """
    create, what, is_beit = _constructor(model)
    if not is_beit:
        args = {**args, 'dynamic_img_size': True}  # rotary embeddings for any grid
    try:
        if 'patch_size' in args and 'img_size' not in args:
            with torch.device('meta'):
                grid = grid_size(create(**{key: args[key] for key in args if key != 'patch_size'}))
            args = {**args, 'img_size': tuple(side * args['patch_size'] for side in grid)}
        net = create(**args)
    except TypeError as error:
        raise UserError(f'model {what}: {error}') from error
    if type(net).__name__ not in _CLASSES or not hasattr(net.patch_embed, 'proj'):
        raise _not_plain(what)
    if getattr(net, 'rel_pos_bias', None) is not None:
        raise UserError(f'{what}: shared relative positions of BEiT pre-training are not supported; use one table per '
                        'block')
    return net


def _constructor(model: str | dict) -> tuple[Callable[..., Any], str, bool]:
    """Return a function that builds the model, its name for messages, and whether it is of timm's module ``beit``."""
    if isinstance(model, dict):
        spec = dict(model)
        family = spec.pop('family', None)
        if family not in FAMILIES:
            raise UserError(f'model: family={family!r} is unknown; choose one of {", ".join(FAMILIES)}')
        return partial(FAMILIES[family], num_classes=0, **spec), family, family == 'Beit'
    if not timm.is_model(model):
        similar = timm.list_models(f'*{model.split("_")[-1]}*')[:5] if isinstance(model, str) else []
        raise UserError(f'model={model!r} is not a model of timm {timm.__version__}'
                        + (f'; similar names: {", ".join(similar)}' if similar else ''))
    module = timm.model_entrypoint(model).__module__.rsplit('.', 1)[-1]
    if module not in _MODULES:
        raise _not_plain(model)
    return partial(timm.create_model, model, num_classes=0), model, module == 'beit'


def _not_plain(what: str) -> UserError:
    return UserError(f"model: {what} is not a plain ViT ({', '.join(FAMILIES)} of timm); for SAM's image encoder use "
                     "type='ViTDet'")


def drop_prefix_tokens(net: Any) -> None:
    """Remove the class and register tokens of a model, in place."""
    for name in PREFIX_TOKENS:
        if getattr(net, name, None) is not None:
            setattr(net, name, None)
    for block in net.blocks:
        if hasattr(block.attn, 'num_prefix_tokens'):
            block.attn.num_prefix_tokens = 0


def remove_unused(net: Any, depth: int, final_norm: bool) -> None:
    """Remove the parameters that the tokens after the first ``depth`` blocks do not depend on, in place.

    DDP requires a gradient for every parameter.

    Args:
        net: Model of :func:`build_plain_vit`.
        depth: Blocks that are kept.
        final_norm: Whether the norm after the last block is kept.

    Raises:
        UserError: ``final_norm`` for a model that pools before its norm.
    """
    for name in ('head', 'head_dist', 'fc_norm', 'attn_pool'):
        if getattr(net, name, None) is not None:
            setattr(net, name, nn.Identity())
    if not final_norm:
        net.norm = nn.Identity()
    elif isinstance(net.norm, nn.Identity):
        raise UserError('final_norm=True, but this model has no norm after its blocks; set final_norm=False or '
                        "model_args=dict(global_pool='token')")
    if depth < len(net.blocks):
        net.blocks = net.blocks[:depth]


def grid_size(net: Any) -> tuple[int, int]:
    """Return the rows and columns of the table of absolute positions."""
    rows, columns = net.patch_embed.grid_size
    return rows, columns
