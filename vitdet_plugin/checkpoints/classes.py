"""Reorder the last layers of a detector or classifier by class name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import read_class_names
from vitdet_plugin.utils.text_files import read_text

_BACKGROUND_LAST = ('fc_cls', 'cls_embed')  # softmax heads have one more output; sigmoid ones do not
_PER_CLASS = ('fc_cls', 'fc_reg', 'conv_logits', 'fc', 'label_embedding', 'cls_embed', 'rtm_cls')
_LISTS = ('cls_branches', 'rtm_cls')  # lists of such layers


def match_classes(state: dict[str, Tensor], names: Sequence[str], target_names: Sequence[str]) -> dict[str, str]:
    """Reorder the rows of classification, class-specific box and mask layers in place.

    Args:
        state: Weights by name; changed in place.
        names: Class names in the order of the weights.
        target_names: Class names in the order of the data set; each has to be among ``names``.

    Returns:
        The names of the reordered weights, and for each a description.

    Raises:
        UserError: A class is not in the file, names repeat, or no layer has as many outputs as ``names``.
    """
    for what, each in (('the file', names), ('the data set', target_names)):
        repeated = sorted({name for name in each if list(each).count(name) > 1})
        if repeated:
            raise UserError(f'class names of {what} repeat: {", ".join(repeated[:4])}; make them unique')
    index_of = {name: index for index, name in enumerate(names)}
    absent = [name for name in target_names if name not in index_of]
    if absent:
        raise UserError(f'{len(absent)} classes are not among those of the checkpoint: {", ".join(absent[:4])}; '
                        'compare the class names')
    order, done = torch.tensor([index_of[name] for name in target_names]), {}
    for name, value in state.items():
        *before, layer = ['', *name.split('.')[:-1]]
        layer = 'fc' if before and before[-1] in _LISTS and layer.isdigit() else layer
        rows = _rows(layer, value, len(names), order)
        if rows is not None:
            state[name] = value[rows]
            done[name] = f'classes by name, {len(names)} to {len(target_names)}'
    if not done:
        raise UserError(f'no layer of the checkpoint has outputs for {len(names)} classes; check the class names')
    return done


def classes_of_file(path: str | Path) -> list[str]:
    """Read class names from an annotation file (COCO, LVIS; ordered by category id) or a text file, one name per line.

    Raises:
        UserError: The file does not exist, is neither, or holds no names.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path} does not exist; give a text file of class names or an annotation file')
    if path.suffix != '.json':
        return read_class_names(path)
    try:
        categories = json.loads(read_text(path))['categories']
        return [each['name'] for each in sorted(categories, key=lambda each: each['id'])]
    except json.JSONDecodeError as error:
        raise UserError(f'{path}: not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}') from error
    except (KeyError, TypeError) as error:
        raise UserError(f'{path}: has no list "categories" with id and name') from error


def _rows(layer: str, value: Tensor, count: int, order: Tensor) -> Tensor | None:
    if layer not in _PER_CLASS or value.ndim == 0:
        return None
    if layer == 'fc_reg':
        return (order[:, None] * 4 + torch.arange(4)).flatten() if len(value) == 4 * count else None
    if layer in _BACKGROUND_LAST and len(value) == count + 1:
        return torch.cat([order, torch.tensor([count])])
    return order if len(value) == count else None
