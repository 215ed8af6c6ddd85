"""All configs of the project, loaded and built once for all of their tests."""

import copy
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, init_default_scope

from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.registry import is_classifier
from vitdet_plugin.engine.check_weights import build_without_memory

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PATHS = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
NAMES = [str(path.relative_to(CONFIGS)) for path in PATHS]


# environment variables with the folder of one data set
VARIABLES = sorted({variable for path in CONFIGS.rglob('*.py')
                    for variable in re.findall(r"environ\.get\('(\w+)'", path.read_text())})


@cache
def loaded(name: str):
    with pytest.MonkeyPatch.context() as patch:  # the configs' own defaults
        for variable in ('VITDET_DATA', *VARIABLES):
            patch.delenv(variable, raising=False)
        return load_config(str(CONFIGS / f'{name}.py'))


def load(name: str):
    """Load a config by its path in configs/, with or without .py, and make its scope the current one."""
    cfg = loaded(name.removesuffix('.py'))
    init_default_scope(cfg.default_scope)
    if cfg.default_scope == 'mmdet':
        import mmdet.models  # noqa: F401  its registries, before anything is built in their scope
    return cfg


@cache
def built_once(name: str) -> torch.nn.Module:
    return build_without_memory(load(name).model)


def built(name: str) -> torch.nn.Module:
    """Build the model of a config on the meta device."""
    return built_once(name.removesuffix('.py'))


def groups_of(cfg, model) -> list[dict]:
    """The optimizer's parameter groups, made by the config's own constructor."""
    wrapper = dict(copy.deepcopy(cfg.optim_wrapper), type='OptimWrapper')  # autocast does not support the meta device
    wrapper.pop('dtype', None)
    build = OPTIM_WRAPPER_CONSTRUCTORS.get(wrapper.pop('constructor'))
    return build(wrapper, wrapper.pop('paramwise_cfg', None))(model).optimizer.param_groups


def heads_of(cfg, model) -> list[torch.nn.Module]:
    """Return the modules that score classes, of a classifier or a one- or two-stage detector."""
    if is_classifier(cfg):
        return [model.head]
    return [module for name, module in model.named_modules()
            if hasattr(module, 'num_classes') and {'bbox_head', 'mask_head', 'panoptic_head'} & set(name.split('.'))]
