"""Find the weights in the content of a checkpoint file, which may hold several sets of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitdet_plugin.errors import UserError

# Keys that hold weights, in the order of preference. Averaged weights come first: they are what timm and the official
# projects evaluate. mmengine's EMAHook stores the averaged weights as ``state_dict``, the others as ``ema_state_dict``.
AVERAGED = ('state_dict_ema', 'model_ema', 'ema', 'ema_model', 'model_ema_state_dict', 'params_ema', 'teacher')
PLAIN = ('state_dict', 'model', 'model_state_dict', 'model_state', 'module', 'net', 'network', 'params', 'weights',
         'student', 'ema_state_dict')
_KNOWN = (*AVERAGED, *PLAIN)
# Words in the keys of a run's other state, which may hold tensors too.
_TRAINING_STATE = re.compile(
    r'(?:^|_)(?:optim\w*|lr|\w*scheduler\w*|\w*scaler|message_hub|meta|callbacks|loops|rng|args|cfg|config|amp|loss|'
    r'position|hyper_parameters)(?:_|$)', re.IGNORECASE)
_MAX_DEPTH = 4


def find_weights(content: Mapping, source: str, key: str | None = None) -> tuple[dict[str, Tensor], str, str]:
    """Return the state dict in a checkpoint's content, its key (empty: the top), and a note if the file has several.

    Args:
        content: Content of the file.
        source: File name for messages.
        key: Where the weights are, such as 'model_ema' or 'ema.module'; by default the first of :data:`AVERAGED`, then
            of :data:`PLAIN`, then the top of the file.

    Raises:
        UserError: There are no weights, none under ``key``, or several under unknown keys.
    """
    found = dict(_find(content, ''))
    if key is not None:
        chosen = _under_key(content, found, key, source)
    else:
        chosen = _choose(content, found, source)
    state = {str(name): value for name, value in _as_tensors(found.get(chosen, content)).items()}
    return state, chosen, _note(chosen, found)


def _under_key(content: Mapping, found: dict[str, Mapping], key: str, source: str) -> str:
    if key in found:
        return key
    inside = sorted((path for path in found if path.startswith(f'{key}.')), key=_rank)
    if inside:
        return inside[0]
    if not key and _holds_tensors(content):
        return ''
    raise UserError(f'{source} has no weights under key={key!r}; it has them under {_listed(found) or "its top"}')


def _choose(content: Mapping, found: dict[str, Mapping], source: str) -> str:
    known = sorted((path for path in found if _rank(path) < len(_KNOWN)), key=_rank)
    if known:
        return known[0]
    if _holds_tensors(content):
        return ''
    if len(found) == 1:
        return next(iter(found))
    if found:
        raise UserError(f'{source} has weights under several keys: {_listed(found)}; choose one by key=NAME in '
                        'init_cfg or by vitdet convert --key NAME')
    training = [str(name) for name, value in content.items() if isinstance(value, Mapping)
                and str(name).startswith(('optim', 'sched', 'lr_sched', 'scaler'))]
    if training or {'state', 'param_groups'} <= set(content):
        raise UserError(f'{source} holds no tensors of a model, only the state of a training run '
                        f'({", ".join(training) or "an optimizer"}); give a checkpoint of a model')
    keys = ', '.join(map(str, list(content)[:6])) or 'nothing'
    raise UserError(f'{source} holds no tensors under state_dict, model or at its top (it has: {keys}); give a '
                    'checkpoint of a model')


def _find(content: Mapping, path: str, depth: int = 0) -> list[tuple[str, Mapping]]:
    """Return the dicts within ``content`` that hold tensors, with their keys joined by dots."""
    found = []
    for key, value in content.items():
        if not isinstance(value, Mapping) or depth == _MAX_DEPTH:
            continue
        name = str(key)
        if name not in _KNOWN and _TRAINING_STATE.search(name):
            continue
        here = f'{path}.{name}' if path else name
        inner = _find(value, here, depth + 1)
        wrapped = [each for each in inner if each[0][len(here) + 1:].split('.')[0] in _KNOWN]
        if wrapped:
            found += wrapped
        elif _holds_tensors(value, scalars=True):
            found.append((here, value))
        else:
            found += inner
    return found


def _rank(path: str) -> int:
    """Return the position in the order of preference; of several keys in a path the first known one counts."""
    return min((_KNOWN.index(part) for part in path.split('.') if part in _KNOWN), default=len(_KNOWN))


def _holds_tensors(content: Mapping, scalars: bool = False) -> bool:
    return any(_is_numeric(value) and (scalars or value.ndim > 0) for value in content.values())


def _as_tensors(content: Mapping) -> dict[str, Tensor]:
    """Leave out what is not a tensor or a numeric array."""
    return {name: value if isinstance(value, Tensor) else torch.from_numpy(np.array(value, order='C'))
            for name, value in content.items() if _is_numeric(value)}


def _is_numeric(value: Any) -> bool:
    return isinstance(value, Tensor) or isinstance(value, np.ndarray) and value.dtype.kind in 'biuf'


def _note(chosen: str, found: dict[str, Mapping]) -> str:
    others = sorted((path for path in found if path != chosen and _rank(path) < len(_KNOWN)), key=_rank)
    if not others:
        return ''
    if chosen == 'state_dict' and 'ema_state_dict' in others:
        kind = ' (the averaged weights, if mmengine wrote the file)'
    else:
        kind = ' (averaged weights)' if any(part in AVERAGED for part in chosen.split('.')) else ''
    return f"weights under '{chosen or 'the top'}'{kind}; the file also has {_listed(others)}: choose by key=NAME"


def _listed(names: Iterable[str]) -> str:
    return ', '.join(f"'{name}'" for name in list(names)[:6])
