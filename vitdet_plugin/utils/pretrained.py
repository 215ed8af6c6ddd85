"""The argument ``pretrained`` of backbones, short for an ``init_cfg``."""

import os
from typing import Any

from vitdet_plugin.errors import UserError


def pretrained_init(value: Any, model: Any = None) -> dict | None:
    """Return the ``init_cfg`` that ``pretrained=value`` stands for.

    Args:
        value: Name of published weights, file, URL or work directory; True for the weights that timm has for ``model``;
            False for none.
        model: Name of a model of timm, if the backbone has one.

    Raises:
        UserError: Another type of value, or True without a model of timm.
    """
    if value is False:
        return None
    if value is True and isinstance(model, str):
        value = f'timm:{model}'
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise UserError(f'pretrained={value!r}: give a name of "vitdet weights list", a file, a URL or a work '
                        'directory')
    return dict(type='Pretrained', checkpoint=os.fspath(value))
