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
# Last layers of heads, and their outputs for each class; 0: one for each anchor.
_LAST_LAYERS = {
    r'fc_cls|cls_embed|cls_branches\.\d+|label_embedding|rtm_cls(?:\.\d+)?|conv_logits|'
    r'head\.(?:\w+\.)*(?:fc|aux_head)': 1,
    r'fc_reg': 4,
    r'(?:retina|atss|conv)_cls|bbox_head\.convs\.\d+': 0}
_CLASS_AGNOSTIC = re.compile(r'(?:fc_reg|conv_logits)\.\w+$')  # these may have the outputs of a single class
_HEAD = re.compile(r'^(?:.*\.)?(?:head|(?:aux_)?(?:bbox|mask|panoptic|query)_heads?)(?:\.\d+)?(?=\.)')
_WITHOUT_CLASSES = re.compile(r'^(?:backbone|neck|data_preprocessor|encoder)\.|rpn_head|semantic_head|reg|anchors$')


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

    def size(self, classes: int) -> int:
        """Return the size of the dimension."""
        return self.groups * (self.before + classes * self.per_class + self.after)

    def reordered(self, order: Sequence[int], classes: int) -> Tensor:
        """Return the index of every entry after reordering; class ``i`` of the result is class ``order[i]``.

        Args:
            order: Indexes of all or some of the classes.
            classes: Number of classes before.
        """
        size = self.size(classes) // self.groups
        entries = self.before + torch.tensor(list(order))[:, None] * self.per_class + torch.arange(self.per_class)
        group = torch.cat([torch.arange(self.before), entries.flatten(), torch.arange(size - self.after, size)])
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


def is_last_layer(name: str) -> bool:
    """Return whether a weight of a known head has outputs for each class, by its name."""
    return _outputs_per_class(name) is not None


def find_class_rows_by_name(shapes: Mapping[str, Sequence[int]], classes: int) -> dict[str, ClassRows]:
    """Find the weights that have entries for each class by the names of the last layers of known heads.

    Args:
        shapes: Shape of each weight in a file.
        classes: Number of classes.

    Returns:
        The position of the classes in each of those weights.

    Raises:
        ValueError: A weight that may have entries for each class is not one of them; the message names it.
    """
    rows: dict[str, ClassRows] = {}
    heads: dict[str, bool] = {}
    for name, shape in shapes.items():
        is_last, outputs = is_last_layer(name), shape[0] if shape else 0
        head = _HEAD.match(name)
        if head and not _WITHOUT_CLASSES.search(head[0]):
            heads[head[0]] = heads.get(head[0], False) or is_last
        if is_last and not _is_class_agnostic(name, outputs, classes):
            rows[name] = _layout_of_last_layer(name, outputs, classes)
        elif outputs == classes > 1 and not is_last and not _WITHOUT_CLASSES.search(name):
            raise ValueError(name)
    if unknown := [head for head, is_known in heads.items() if not is_known]:
        raise ValueError(unknown[0])
    return rows


def reorder_classes(state: Mapping[str, Tensor], rows: Mapping[str, ClassRows], order: Sequence[int],
                    classes: int | None = None) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights with the classes in another order, and the names of those that changed.

    Args:
        state: Weights by name; names may begin with ``module.``, as those of averaged weights.
        rows: From :func:`find_class_rows`.
        order: Indexes of classes, such as those of :func:`match_order`.
        classes: Number of classes of the weights; default: as many as in ``order``.
    """
    classes = classes or len(order)
    result, changed = dict(state), []
    for name, value in state.items():
        layout = rows.get(re.sub(r'^(module\.)+', '', name))
        if layout is None or not isinstance(value, Tensor) or value.ndim <= layout.dim:
            continue
        if layout.size(classes) == value.shape[layout.dim]:
            index = layout.reordered(order, classes)
            result[name] = value.index_select(layout.dim, index.to(value.device))
            changed.append(name)
    return result, changed


def _outputs_per_class(name: str) -> int | None:
    """Return the outputs of a last layer for each class, 0 if that is the number of anchors, None for other weights."""
    return next((each for pattern, each in _LAST_LAYERS.items()
                 if re.search(rf'(?:^|\.)(?:{pattern})\.(?:weight|bias)$', name)), None)


def _is_class_agnostic(name: str, outputs: int, classes: int) -> bool:
    return classes > 1 and outputs == _outputs_per_class(name) and bool(_CLASS_AGNOSTIC.search(name))


def _layout_of_last_layer(name: str, outputs: int, classes: int) -> ClassRows:
    before = _YOLO_OUTPUTS if '.convs.' in name else 0
    anchors = outputs // (classes + before)
    layout = _layout(name, 0, outputs, outputs + (_outputs_per_class(name) or anchors), classes)
    is_ambiguous = not before and layout and layout.groups > 1 and outputs % (classes + 1) == 0  # a background each?
    if layout is None or is_ambiguous:
        raise ValueError(name)
    return layout


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
