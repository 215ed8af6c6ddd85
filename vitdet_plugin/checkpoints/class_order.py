"""Class names stored in checkpoints, and weights reordered to another order of the same classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_NAME_KEYS = ('classes', 'class_names')
_YOLO_OUTPUTS = 5  # box and objectness, before the classes of each anchor
_MAX_EXTRA = 2  # background or objectness outputs after the classes


class ClassRows(NamedTuple):
    """Position of the classes along one dimension of a weight, which is ``groups x (before + classes + after)``.

    Attributes:
        dim: Dimension of the weight.
        groups: Number of groups, such as anchors, of which each has all classes.
        before: Entries of a group before those of the classes.
        per_class: Consecutive entries of each class, such as 4 for boxes.
        after: Entries of a group after those of the classes.
    """

    dim: int
    groups: int
    before: int
    per_class: int
    after: int

    def reordered(self, order: Sequence[int]) -> Tensor:
        """Return the index of every entry after reordering; class ``i`` of the result is class ``order[i]``."""
        size = self.before + len(order) * self.per_class + self.after
        classes = self.before + torch.tensor(list(order))[:, None] * self.per_class + torch.arange(self.per_class)
        group = torch.cat([torch.arange(self.before), classes.flatten(), torch.arange(size - self.after, size)])
        return (torch.arange(self.groups)[:, None] * size + group).flatten()


def stored_classes(content: Any) -> tuple[str, ...] | None:
    """Return the class names that training stored in a checkpoint, or None.

    They are in ``meta.dataset_meta.classes``, or in ``meta.CLASSES`` of mmdet 2; upper and lower case are the same.
    """
    meta = _get(content, ('meta',))
    for holder in (_get(meta, ('dataset_meta',)), meta, _get(content, ('dataset_meta',))):
        names = _get(holder, _NAME_KEYS)
        if isinstance(names, str):
            names = [names]
        if isinstance(names, Mapping):
            names = [names[key] for key in sorted(names)]
        if isinstance(names, (list, tuple)) and names:
            return tuple(str(name) for name in names)
    return None


def match_order(names: Sequence[str], targets: Sequence[str]) -> list[int] | None:
    """Return for each of ``targets`` its index in ``names``, or None if these are not the same classes.

    Names that differ only in case, ``_`` and ``-`` are the same unless that makes two classes of one list equal.
    """
    for key in (str, _simplified):
        ours, theirs = [key(name) for name in names], [key(name) for name in targets]
        if len(set(ours)) == len(ours) == len(theirs) and set(ours) == set(theirs):
            return [ours.index(name) for name in theirs]
    return list(range(len(names))) if list(names) == list(targets) else None


def find_class_rows(shapes: Mapping[str, Sequence[int]], one_more: Mapping[str, Sequence[int]],
                    classes: int) -> dict[str, ClassRows]:
    """Find the weights that have entries for each class by comparing a model with one for one class more.

    Args:
        shapes: Shape of each weight of the model.
        one_more: Shapes in the same model for ``classes + 1`` classes.
        classes: Number of classes.

    Returns:
        The position of the classes in each of those weights.

    Raises:
        ValueError: The order of the entries of a weight is unknown; the message names the weight.
    """
    rows = {}
    for name, shape in shapes.items():
        other = one_more.get(name)
        if other is None or len(other) != len(shape):
            raise ValueError(name)
        changed = [dim for dim, (here, there) in enumerate(zip(shape, other)) if here != there]
        if changed:
            layout = _layout(name, changed[0], shape[changed[0]], other[changed[0]], classes)
            if layout is None or len(changed) > 1:
                raise ValueError(name)
            rows[name] = layout
    return rows


def reorder_classes(state: Mapping[str, Tensor], rows: Mapping[str, ClassRows],
                    order: Sequence[int]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights with the classes in another order, and the names of those that changed.

    Args:
        state: Weights by name; names may begin with ``module.``, as those of averaged weights.
        rows: From :func:`find_class_rows`.
        order: From :func:`match_order`.
    """
    result, changed = dict(state), []
    for name, value in state.items():
        layout = rows.get(re.sub(r'^(module\.)+', '', name))
        if layout is None or not isinstance(value, Tensor) or value.ndim <= layout.dim:
            continue
        index = layout.reordered(order)
        if len(index) == value.shape[layout.dim]:
            result[name] = value.index_select(layout.dim, index.to(value.device))
            changed.append(name)
    return result, changed


def _layout(name: str, dim: int, here: int, there: int, classes: int) -> ClassRows | None:
    each = there - here
    rest = here - each * classes
    if each < 1 or rest < 0 or dim and (each != 1 or rest):
        return None
    if each == 1:
        if rest == _YOLO_OUTPUTS:
            return ClassRows(dim, 1, rest, 1, 0)
        return ClassRows(dim, 1, 0, 1, rest) if rest <= _MAX_EXTRA else None
    if rest == each * _YOLO_OUTPUTS:
        return ClassRows(dim, each, _YOLO_OUTPUTS, 1, 0)
    layer = name.split('.')[-2] if '.' in name else ''
    if re.search('reg|bbox_pred', layer):
        return ClassRows(dim, 1, 0, each, 0) if rest == 0 and each % 4 == 0 else None
    if re.search('cls|logits', name) and rest in (0, each):  # anchors, with or without background
        return ClassRows(dim, each, 0, 1, rest // each)
    return None


def _get(holder: Any, keys: Sequence[str]) -> Any:
    if not isinstance(holder, Mapping):
        return None
    return next((value for key, value in holder.items() if str(key).lower() in keys and value), None)


def _simplified(name: str) -> str:
    return ' '.join(re.sub('[_-]', ' ', str(name)).casefold().split())
