"""``--cfg-options``: change a config from the command line, with checks of the keys."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import Config, DictAction

from vitdet_plugin.config.option_words import split_options
from vitdet_plugin.config.registry import find_registered
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

# Optional top-level keys that a runner or a tool reads.
_RUNNER_KEYS = ('compile', 'sync_bn', 'find_unused_parameters', 'efficient_conv_bn_eval', 'activation_checkpointing',
                'model_wrapper_cfg', 'strategy', 'runner_type', 'tta_model', 'tta_pipeline', 'custom_imports')


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Turn ``['a.b=1', 'c=[x,y]']`` into ``{'a.b': 1, 'c': ['x', 'y']}``; values are parsed by mmengine's DictAction.

    Raises:
        UserError: A string has no ``=``, or brackets do not match.
    """
    return {key: DictAction._parse_iterable(value) for key, value in split_options(words).items()}


def apply_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge options into ``cfg`` in place. A key that nothing reads is an error.

    Raises:
        UserError: Unknown key (with similar ones), list index out of range, or text instead of a number.
    """
    for key, value in options.items():
        _check_option(cfg, key, value)
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f'--cfg-options {key}: {" ".join(str(error).split())}') from error


def _check_option(cfg: Config, key: str, value: Any) -> None:
    node: Any = cfg._cfg_dict
    parts = key.split('.')
    for depth, part in enumerate(parts):
        here = '.'.join(parts[:depth]) or 'the config'
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(f'--cfg-options {key}: {here} is a list of {len(node)}. Give an index below that')
            node = node[int(part)]
        elif isinstance(node, dict):
            if part not in node:
                _check_new_key(node, part, here, key, is_last=depth == len(parts) - 1, depth=depth)
                return
            node = node[part]
        elif node is None:
            return  # None means "not set" and is replaced by merging
        else:
            raise UserError(f'--cfg-options {key}: {here} is {node!r} and has no keys; set it as a whole')
    if isinstance(value, str) and isinstance(node, (int, float)):
        raise UserError(f'--cfg-options {key}={value}: the config has a number here ({node!r}); give a number')


def _check_new_key(node: dict, part: str, here: str, key: str, is_last: bool, depth: int) -> None:
    accepted = _accepted_keys(node, here) if depth else _top_level_keys()
    if part == '_delete_' or part in (accepted or ()):
        return
    strict = accepted is not None and '**' not in accepted
    hint = suggest(part, set(node) | set(accepted or ()), cutoff=0.6 if strict else 0.7)
    if strict or hint or not is_last:
        raise UserError(f'--cfg-options {key}: {here} has no key {part!r}{hint}')


def _top_level_keys() -> dict[str, Any]:
    from mmengine.runner import Runner
    return dict.fromkeys([*inspect.signature(Runner.__init__).parameters, *_RUNNER_KEYS], True)


def _accepted_keys(node: dict, here: str) -> dict[str, Any] | None:
    """Return the arguments of the type or section ``node``, ``'**'`` for any others; None if unknown."""
    accepted: dict[str, Any] = {}
    for function in _constructors(node, here):
        for name, parameter in inspect.signature(function).parameters.items():
            accepted['**' if parameter.kind is parameter.VAR_KEYWORD else name] = True
    return accepted or None


def _constructors(node: dict, here: str) -> list[Callable]:
    if isinstance(node.get('type'), str):
        found = find_registered(node['type'])
        if inspect.isclass(found):  # **kwargs go on to the bases
            return [base.__init__ for base in found.__mro__ if '__init__' in vars(base) and base is not object]
        return [found] if found is not None else []
    from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, TestLoop, ValLoop
    from torch.utils.data import DataLoader
    known = {
        'train_cfg': [EpochBasedTrainLoop, IterBasedTrainLoop, lambda by_epoch: None],
        'val_cfg': [ValLoop], 'test_cfg': [TestLoop],
        'randomness': [Runner.set_randomness],
        'auto_scale_lr': [lambda enable, base_batch_size: None],
    }
    known.update(dict.fromkeys(('train_dataloader', 'val_dataloader', 'test_dataloader'), [DataLoader]))
    return known.get(here, [])
