"""Prefixes that wrappers and training programs put in front of the names of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from vitdet_plugin.checkpoints.formats import show_names
from vitdet_plugin.errors import UserError

Value = TypeVar('Value')

# torch.compile, FSDP, activation checkpointing, DeepSpeed: never part of a model's own names
_WRAPPERS = frozenset(('_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module', '_forward_module'))
# attributes under which programs keep a model; each may be missing on some of the names, such as those of a head
_HOLDERS = frozenset(('backbone', 'encoder', 'model', 'net', 'network', 'image_encoder', 'visual', 'trunk', 'student',
                      'teacher', 'module', 'ema', 'ema_model', 'model_ema', 'base_model', 'vision_model', 'vit',
                      'momentum_encoder', 'base_encoder', 'encoder_q', 'encoder_k', 'target_encoder', 'online_encoder',
                      'feature_extractor', 'teacher_model', 'student_model'))
_MOST = 4  # prefixes that may be stacked


def strip_wrappers(state: Mapping[str, Value], source: str) -> dict[str, Value]:
    """Remove the names of wrappers (``_orig_mod.``, leading ``module.``) at every level of every name.

    Raises:
        UserError: Two weights would get the same name.
    """
    result: dict[str, Value] = {}
    for name, value in state.items():
        bare = bare_name(name)
        if bare in result:
            raise UserError(f"{source} has '{bare}' both with and without the prefix of a wrapper (module., "
                            '_orig_mod.); choose one by prefix=NAME in init_cfg')
        result[bare] = value
    return result


def bare_name(name: str) -> str:
    """Return the name of a weight without the names of wrappers."""
    parts = name.split('.')
    if len(parts) == 1:
        return name
    parts = [part for part in parts[:-1] if part not in _WRAPPERS] + parts[-1:]
    while len(parts) > 1 and parts[0] == 'module':
        del parts[0]
    return '.'.join(parts)


def select_prefix(state: Mapping[str, Value], prefix: str, source: str) -> dict[str, Value]:
    """Return the weights under ``prefix``, without it, as mmengine's ``PretrainedInit`` does.

    Raises:
        UserError: There are none.
    """
    prefix = f'{prefix.rstrip(".")}.'
    found = {name[len(prefix):]: value for name, value in state.items() if name.startswith(prefix)}
    if not found:  # the prefix may include the names of wrappers, or leave them out
        bare = bare_name(f'{prefix}x')[:-1]
        found = {name[len(bare):]: value for name, value in strip_wrappers(state, source).items()
                 if name.startswith(bare)}
    if not found:
        heads = list(dict.fromkeys(name.split('.')[0] + '.' for name in state if '.' in name))
        raise UserError(f'{source} has no weights under prefix={prefix!r}; its names start with '
                        f'{show_names(heads) if heads else "no prefix"}')
    return found


def without_prefixes(state: dict[str, Value]) -> Iterator[tuple[str, dict[str, Value]]]:
    """Yield (prefix, the weights under it without it): first no prefix, then longer ones.

    A part is removed if all names share it, or if a program is known to keep a model under it.
    """
    queue = [('', state)]
    while queue:
        prefix, names = queue.pop(0)
        yield prefix, names
        if prefix.count('.') == _MOST:
            continue
        heads = [name.split('.')[0] for name in names if '.' in name]
        shared = len(heads) == len(names) and len(set(heads)) == 1
        for head in dict.fromkeys(heads):
            if (shared or head in _HOLDERS) and not head.isdigit():
                inside = {name[len(head) + 1:]: value for name, value in names.items() if name.startswith(f'{head}.')}
                queue.append((f'{prefix}{head}.', {bare_name(name): value for name, value in inside.items()}))
