"""Reorder the last layers of a detector or classifier by class name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from vitdet_plugin.checkpoints.class_order import ClassRows, find_class_rows_by_name, reorder_classes
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import read_class_names
from vitdet_plugin.utils.text_files import read_text


def match_classes(state: dict[str, Tensor], names: Sequence[str], target_names: Sequence[str],
                  rows: Mapping[str, ClassRows] | None = None) -> dict[str, str]:
    """Reorder the rows of classification, class-specific box and mask layers in place.

    Args:
        state: Weights by name; changed in place.
        names: Class names in the order of the weights.
        target_names: Class names in the order of the data set; each has to be among ``names``.
        rows: Positions of the classes in the weights; default: by the names of the last layers of known heads.

    Returns:
        The names of the reordered weights, and for each a description.

    Raises:
        UserError: A class is not in the file, names repeat, no layer has as many outputs as ``names``, or the order of
            the outputs of a layer is unknown.
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
    if rows is None:
        try:
            rows = find_class_rows_by_name({name: tuple(value.shape) for name, value in state.items()}, len(names))
        except ValueError as error:
            raise UserError(f'{error}: the order of its outputs for {len(names)} classes is unknown; check the class '
                            'names, or give the config of the model with --config') from error
    reordered, done = reorder_classes(state, rows, [index_of[name] for name in target_names], len(names))
    state.update(reordered)
    if not done:
        raise UserError(f'no layer of the checkpoint has outputs for {len(names)} classes; check the class names')
    return dict.fromkeys(done, f'classes by name, {len(names)} to {len(target_names)}')


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
