"""Compare the classes of a checkpoint with those of the data, and reorder its weights by name."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import nn

from vitdet_plugin.checkpoints.class_order import (
    ClassRows,
    find_class_rows,
    match_order,
    reorder_classes,
    stored_classes,
)
from vitdet_plugin.config.dataset_config import has_own_reader
from vitdet_plugin.config.registry import model_config
from vitdet_plugin.datasets.checks.findings import listed
from vitdet_plugin.engine.check_class_counts import OTHER_CLASSES
from vitdet_plugin.engine.check_weights import build_without_memory
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import suppress_logs
from vitdet_plugin.utils.text import counted

_COUNTS = ('num_classes', 'num_things_classes')
_STATES = ('state_dict', 'ema_state_dict')


def order_of_data(names: Sequence[str], targets: Sequence[str], source: str, advice: str) -> list[int]:
    """Return for each class of the data its index in the checkpoint.

    Raises:
        UserError: The classes are not the same; with both lists.
    """
    order = match_order(names, targets)
    if order is None:
        raise UserError(f'{source}: its classes are not those of the data set; {advice}. {both(names, targets)}')
    return order


def check_labels(dataset: Any) -> None:
    """Check that the labels of a data set, or of those inside it, are positions in its class names.

    Raises:
        UserError: A COCO file has fewer or more categories than there are classes; or class folders, which mmpretrain
            numbers in sorted order, are the classes in another order.
    """
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for each in inner if isinstance(inner, (list, tuple)) else ():
        if each is not None:
            check_labels(each)
    ids = getattr(dataset, 'cat_ids', None)
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if isinstance(ids, list) and isinstance(classes, (list, tuple)) and len(ids) != len(classes) \
            and not has_own_reader(type(dataset)):
        raise UserError(f'{getattr(dataset, "ann_file", "the data set")} has {len(ids)} categories with the names of '
                        f'the {counted(len(classes), "class")} {listed(classes)}, so labels would be mixed up; make '
                        'metainfo.classes equal to the names in the file')
    folders = getattr(dataset, 'folder_to_idx', None)
    if folders and classes and sorted(folders) == sorted(classes) and list(folders) != list(classes):
        raise UserError(f'{getattr(dataset, "img_prefix", "the data set")}: the classes are in another order than the '
                        f'sorted folders, so labels would be mixed up; use the order of the folders. metainfo.classes: '
                        f'{listed(classes)}; folders: {listed(list(folders))}')


def both(names: Sequence[str], targets: Sequence[str]) -> str:
    """Return the lists of classes of a checkpoint and of the data set for a message."""
    return f'checkpoint: {listed(names)}; data set: {listed(targets)}'


def reorder_checkpoint(content: dict, order: Sequence[int], targets: Sequence[str], model_cfg: Mapping,
                       source: str) -> int:
    """Reorder the classes in the weights of a checkpoint, averaged ones too, and set the names that it stores.

    Args:
        content: Content of the file; weights and ``meta`` are replaced, not written into.
        order: From :func:`order_of_data`.
        targets: Classes in the new order.
        model_cfg: Config of the model, by which the weights of classes are found.
        source: File name for messages.

    Returns:
        Number of weights that were reordered.

    Raises:
        UserError: The weights of the classes cannot be found.
    """
    try:
        rows = class_rows(model_cfg, len(order))
    except UserError as error:
        raise UserError(f'{source}: its classes are in another order than in the data set, and {error}; give '
                        'metainfo.classes in the order of the checkpoint. '
                        f'{both(stored_classes(content) or (), targets)}') from error
    count = 0
    for key in _STATES if 'state_dict' in content else ():
        if isinstance(content.get(key), Mapping):
            content[key], changed = reorder_classes(content[key], rows, order)
            count = count or len(changed)
    meta = dict(content.get('meta') or {})
    meta['dataset_meta'] = {**(meta.get('dataset_meta') or {}), 'classes': tuple(targets)}
    content['meta'] = meta
    return count


def class_rows(model_cfg: Mapping, classes: int) -> dict[str, ClassRows]:
    """Return the positions of the classes in the weights of a model, by comparing it with one for one class more.

    Raises:
        UserError: They cannot be found; the message is a reason without an advice.
    """
    try:
        rows = find_class_rows(*_shapes_for_one_more(model_cfg, classes), classes)
    except ValueError as error:
        raise UserError(f'the order of {error} is unknown') from error
    except Exception as error:  # any error of a constructor
        reason = ' '.join(str(error).split())
        raise UserError(f'the model cannot be built for another number of classes ({reason})') from error
    if not rows:
        raise UserError(f'none of its weights depends on num_classes={classes} of the config')
    return rows


def set_class_count(model_cfg: Any, classes: int, value: int) -> int:
    """Set the numbers of classes in a config that are ``classes`` to ``value``, and return how many these are."""
    count = 0
    for key, each in model_cfg.items() if isinstance(model_cfg, dict) else enumerate(model_cfg):
        if key in _COUNTS and each == classes:
            model_cfg[key] = value
            count += 1
        elif isinstance(each, (dict, list)) and key not in OTHER_CLASSES:
            count += set_class_count(each, classes, value)
    return count


def _shapes_for_one_more(model_cfg: Mapping, classes: int) -> tuple[dict, dict]:
    found = []
    for add in (0, 1):
        cfg = copy.deepcopy(model_cfg)
        set_class_count(cfg, classes, classes + add)
        with suppress_logs():
            found.append({name: tuple(value.shape) for name, value in build_without_memory(cfg).state_dict().items()})
    return found[0], found[1]


@HOOKS.register_module()
class ClassOrderHook(Hook):
    """Make the classes of a loaded checkpoint equal to those of the data set.

    The same classes in another order are reordered by name; on resume they are refused, as the state of the optimizer
    has the other order. Other classes are refused in tests and on resume; in training one line says that the last
    layers start from weights of other classes or from their initial values.

    Args:
        strict: Whether to refuse; otherwise other classes are a warning.
    """

    priority = 'VERY_HIGH'  # before averaged weights are taken from the checkpoint

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Check and reorder ``checkpoint`` before its weights are loaded.

        Raises:
            UserError: The checkpoint has other classes, or hardly any weight of the model.
        """
        source = str(runner._load_from or 'the checkpoint')
        is_training = not isinstance(runner._train_loop, dict) and runner._train_loop is not None
        if not runner._resume and runner.cfg.get('strategy') is None:
            _check_matching(runner.model, checkpoint.get('state_dict', checkpoint), source, is_training)
        names, targets = stored_classes(checkpoint), _classes_of_data(runner, is_training)
        if not names or not targets or tuple(names) == tuple(targets):
            return
        order = match_order(names, targets)
        if order is None:
            self._refuse_others(runner, source, names, targets, is_training)
        elif order == list(range(len(order))):
            return
        elif runner._resume or runner.cfg.get('strategy') is not None:
            raise UserError(f'{source}: its classes are in another order than in the data set; give metainfo.classes '
                            'in the order of the checkpoint, or start from its weights with --load-from. '
                            f'{both(names, targets)}')
        else:
            count = reorder_checkpoint(checkpoint, order, targets, model_config(runner.cfg), source)
            _say(f'{source}: {count} weights reordered by class name to the order of the data set. '
                 f'{both(names, targets)}')

    def _refuse_others(self, runner, source: str, names: Sequence[str], targets: Sequence[str],
                       is_training: bool) -> None:
        text = f'{source}: its classes are not those of the data set'
        lists = both(names, targets)
        if is_training and not runner._resume:
            _say(f'{text}; weights for another number of classes keep their initial values, the others start from '
                 f'those of the checkpoint. {lists}')
        elif self.strict:
            raise UserError(f'{text}; use a config with the classes of the checkpoint. If they are the same under '
                            f'other names and in this order, --skip-preflight accepts them. {lists}')
        else:
            _say(f'warning: {text}, and are taken for them in this order. {lists}')


def _check_matching(model: nn.Module, state: Mapping, source: str, is_training: bool) -> None:
    model = model.module if is_model_wrapper(model) else model
    own = model.state_dict()
    found = {str(name).removeprefix('module.'): tuple(value.shape) for name, value in state.items()
             if isinstance(value, torch.Tensor)}
    fitting = sum(found.get(name) == tuple(value.shape) for name, value in own.items())
    if own and (not fitting if is_training else 2 * fitting < len(own)):
        raise UserError(f'{source}: {fitting} of {len(own)} weights of the model are in the file; check that the '
                        'config describes this model')


def _classes_of_data(runner, is_training: bool) -> tuple[str, ...]:
    loops = (runner._train_loop,) if is_training else (runner._test_loop, runner._val_loop)
    for loop in loops:
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        if names and not isinstance(names, str):
            return tuple(str(name) for name in names)
    return ()


def _say(line: str) -> None:
    if is_main_process():
        print(line, flush=True)
