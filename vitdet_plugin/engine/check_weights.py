"""Pre-flight of checkpoints: whether the file exists, and which of its weights fit the model."""

import difflib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from vitdet_plugin.checkpoints.fetching import local_file, present_file
from vitdet_plugin.checkpoints.fit import check_finite, find_depth_mismatch
from vitdet_plugin.checkpoints.published import explain_unknown
from vitdet_plugin.checkpoints.sharded import is_sharded
from vitdet_plugin.checkpoints.work_dirs import CHECKPOINT_NAMES
from vitdet_plugin.compat.file_kinds import describe_wrong_file
from vitdet_plugin.compat.remote_files import STORES, scheme_of
from vitdet_plugin.config.registry import as_list, type_name
from vitdet_plugin.datasets.checks.findings import Finding
from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.lora import has_lora


def build_without_memory(model_cfg: dict) -> nn.Module:
    """Build a model on the meta device: names and shapes of its parameters without their memory.

    Raises:
        Exception: Whatever the model's constructors raise; some models cannot be built on this device.
    """
    from mmengine.registry import MODELS
    with torch.device('meta'), _suppress_meta_warnings():
        return MODELS.build(model_cfg)


@contextmanager
def _suppress_meta_warnings() -> Iterator[None]:
    """Suppress torch's warnings that weights are not copied to the meta device, one for each; no values are needed."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*copying from a non-meta parameter')
        yield


class WeightFile(NamedTuple):
    """A file of weights that a config names.

    Attributes:
        key: Key in the config.
        file: Path or URL.
        submodule: Name of the submodule that receives the weights; empty for the whole model.
        prefix: Part of the file's names that mmengine removes; None for an ``init_cfg`` of another type than
            Pretrained, as such types convert other formats.
        options: ``prefix``, ``key``, ``form`` and ``allow_unexpected`` of the ``init_cfg``, for conversion.
    """

    key: str
    file: str
    submodule: str
    prefix: str | None
    options: dict[str, Any] = {}


def weight_files(cfg: Mapping) -> Iterator[WeightFile]:
    """Yield all files of weights that will be loaded."""
    if cfg.get('load_from'):
        yield WeightFile('load_from', str(cfg['load_from']), '', '')
    queue: list[tuple[str, Any]] = [('', cfg.get('model') or {})]
    while queue:
        path, node = queue.pop()
        init = node.get('init_cfg')
        for each in as_list(init):
            if isinstance(each, dict) and isinstance(each.get('checkpoint'), str):
                key = '.'.join(['model', *filter(None, [path]), 'init_cfg.checkpoint'])
                prefix = (each.get('prefix') or '') if type_name(each) == 'Pretrained' else None
                options = {name: each[name] for name in ('prefix', 'key', 'form', 'allow_unexpected') if name in each}
                yield WeightFile(key, each['checkpoint'], path, prefix, options)
        queue += [(f'{path}.{key}'.lstrip('.'), value) for key, value in node.items()
                  if isinstance(value, dict) and key != 'init_cfg']


def check_file(key: str, file: str) -> list[Finding]:
    """Return an error if a local checkpoint file is missing (with similar names in its folder) or empty.

    Published weights that are given by name, and URLs, are downloaded here, before the run starts.
    """
    if scheme_of(file) in STORES:
        return []
    unknown = explain_unknown(file)
    try:
        file = str(local_file(file))
    except UserError as error:
        return [Finding('error', f'{key}: {error}')]
    if not os.path.exists(file):
        folder = os.path.dirname(os.path.abspath(file))
        others = os.listdir(folder) if os.path.isdir(folder) else []
        close = difflib.get_close_matches(os.path.basename(file), others, n=3)
        hint = f'; its folder has {", ".join(close)}' if close else unknown or '; correct the path or download it'
        return [Finding('error', f'{key}: checkpoint {os.path.abspath(file)} does not exist{hint}')]
    if os.path.isdir(file) and not (key == 'load_from' and is_sharded(file)):
        return [Finding('error', f'{key}: {file} is a folder without checkpoints ({CHECKPOINT_NAMES}); give a file or '
                                 'a work directory')]
    if os.path.isfile(file) and (wrong := describe_wrong_file(file)):
        return [Finding('error', f'{key}: checkpoint {file} {wrong}')]
    return []


def is_official(file: str, model: nn.Module | None = None) -> bool:
    """Whether mmengine cannot load a local file completely, so that it has to be converted.

    This is the case for another format (detectron2, MAE, …), a classifier of this project, weights in another kind of
    file or under another key than mmengine reads, names of wrappers, and, given the model that receives them, weights
    of a backbone alone or of another shape, or updates of low rank (LoRA) that the model does not have.

    Raises:
        UserError: The file is damaged or contains objects other than data.
    """
    path = present_file(file)
    if path is None:
        return False
    from vitdet_plugin.checkpoints.files import is_torch_file, read_weights
    from vitdet_plugin.checkpoints.prefixes import bare_name
    from vitdet_plugin.checkpoints.recognition import known_formats
    found = read_weights(path)
    if not is_torch_file(path) or found.key not in ('', 'state_dict') or \
            any(bare_name(name) != name.removeprefix('module.') for name in found.state):
        return True
    weights = {bare_name(name): value for name, value in found.state.items()}
    is_classifier = {name.split('.')[0] for name in weights} == {'backbone', 'head'}
    if is_classifier or any(form.matched_keys(weights) for form in known_formats()):
        return True
    own = model.state_dict() if model is not None else {}
    if own and not weights.keys() & own.keys() or has_lora(weights) and not has_lora(own):
        return True
    return any(weights[name].shape != own[name].shape for name in weights.keys() & own.keys()
               if name.startswith('backbone.'))


def check_official(key: str, file: str, module: nn.Module, must_fit: bool = False,
                   options: Mapping[str, Any] | None = None) -> list[Finding]:
    """Try to load an official checkpoint into a model on the meta device; ``must_fit`` as for :func:`check_keys`."""
    from vitdet_plugin.checkpoints.official import load_official
    try:
        with _suppress_meta_warnings():
            load_official(module, file, other_classes=not must_fit, **(options or {}))
    except UserError as error:
        return [Finding('error', f'{key}: {error}')]
    return []


def check_keys(key: str, file: str, module: nn.Module, prefix: str, must_fit: bool) -> list[Finding]:
    """Compare a checkpoint's keys with a module's.

    Args:
        key: Key of the config that names the file.
        file: Local checkpoint; directories (sharded checkpoints) and remote files are not checked.
        module: Whole model or submodule that receives the weights.
        prefix: Part of the file's names that is removed first.
        must_fit: Whether a missing weight is an error, as for testing.
    """
    if present_file(file) is None:
        return []
    from vitdet_plugin.checkpoints.files import load_state_dict_file
    weights = load_state_dict_file(file)
    prefix = f'{prefix.rstrip(".")}.' if prefix else ''
    shapes = {name[len(prefix):]: tuple(value.shape) for name, value in weights.items() if name.startswith(prefix)}
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    try:
        check_finite({name: value for name, value in weights.items() if name.removeprefix(prefix) in expected},
                     {prefix + name for name, _ in module.named_parameters()}, file)
    except UserError as error:
        return [Finding('error', f'{key}: {error}')]
    return compare_keys(f'{key}: {file}', expected, shapes, must_fit)


def compare_keys(what: str, expected: dict[str, tuple], found: dict[str, tuple], must_fit: bool) -> list[Finding]:
    """Compare ``found`` (name -> shape) with ``expected``; return at most one finding."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    reshaped = [name for name in expected if name in found and found[name] != expected[name]]
    fitting = len(expected) - len(missing) - len(reshaped)
    if not missing and not reshaped and not extra:
        return []
    text = f'{what}: {fitting} of {len(expected)} weights fit'
    if missing:
        text += f'; missing in the file: {group_names(missing)}'
    if extra:
        text += f'; not in the model: {group_names(extra)}'
    if reshaped:
        name = reshaped[0]
        text += f'; other shape: {group_names(reshaped)}, e.g. {name} {found[name]} for {expected[name]}'
    mismatch = find_depth_mismatch(*([name for name in names if name.startswith('backbone.')]
                                     for names in (found, expected)))
    if mismatch:
        return [Finding('error', f'{what} {mismatch}. Use the config that the checkpoint was trained with')]
    if fitting == 0:
        return [Finding('error', f'{text}. Check that it is a checkpoint of this model. Official formats load through '
                                 "init_cfg=dict(type='OfficialCheckpoint', checkpoint=…)")]
    if must_fit and (missing or reshaped):
        return [Finding('error', f'{text}. Use the config that the checkpoint was trained with')]
    return [Finding('warning', f'{text}. The rest keeps its initial values')]


def group_names(names: list[str], most: int = 4) -> str:
    """Shorten ``['neck.a.weight', 'neck.b.weight', 'fc.bias']`` to ``neck.* (2), fc.bias``."""
    depth = 1 if len({name.split('.')[0] for name in names}) > 1 else 2
    counts = Counter('.'.join(name.split('.')[:depth]) for name in names)
    words = []
    for head, count in counts.most_common(most):
        only = next(name for name in names if name == head or name.startswith(f'{head}.'))
        words.append(f'{head}.* ({count})' if count > 1 else only)
    rest = len(names) - sum(count for _, count in counts.most_common(most))
    return ', '.join(words) + (f' and {rest} more' if rest else '')

