"""Reorder the last layers of a detector or classifier by class name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from vitdet_plugin.checkpoints.class_order import ClassRows, find_class_rows_by_name, reorder_classes
from vitdet_plugin.errors import UserError


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
