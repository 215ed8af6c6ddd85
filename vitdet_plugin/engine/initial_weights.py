"""Start a training from weights in an official format (detectron2, EasyCV, …), which mmengine cannot read."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from vitdet_plugin.checkpoints.fetching import present_file, use_local_files
from vitdet_plugin.checkpoints.files import load_file, load_state_dict_file
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.config.registry import type_name
from vitdet_plugin.engine.check_weights import build_without_memory, is_official
from vitdet_plugin.layers.lora import LORA_NAMES


@contextlib.contextmanager
def official_init(model: nn.Module, logger: logging.Logger) -> Iterator[None]:
    """Within the block mmengine initializes the model; afterwards an official file of its ``init_cfg`` is loaded.

    Names of published weights in the ``init_cfg`` of all modules are replaced by local files first.
    """
    use_local_files(model)
    init = getattr(model, 'init_cfg', None)
    if type_name(init) != 'Pretrained' or not is_official(init['checkpoint'], model):
        yield
        return
    model.init_cfg = None
    yield
    options = {name: init[name] for name in ('key', 'prefix') if name in init}
    logger.info(str(load_official(model, init['checkpoint'], other_classes=True, **options)))


def drop_absent_weights(model: nn.Module) -> None:
    """Remove ``init_cfg`` of modules whose file is not on this machine, for a model that a checkpoint replaces."""
    for module in model.modules():
        init = getattr(module, 'init_cfg', None)
        if type_name(init) == 'Pretrained' and present_file(init['checkpoint']) is None:
            module.init_cfg = None


def drop_replaced_weights(cfg: Config) -> str | None:
    """Remove the ``init_cfg`` of a backbone that would be downloaded although ``load_from`` has all of its weights.

    Args:
        cfg: Config of a training; changed.

    Returns:
        The name of the weights that are not needed, if any.
    """
    backbone, source = (cfg.get('model') or {}).get('backbone'), cfg.get('load_from')
    init = backbone.get('init_cfg') if isinstance(backbone, dict) else None
    if type_name(init) != 'Pretrained' or not source or not os.path.isfile(source) \
            or present_file(init['checkpoint']) is not None:
        return None
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    try:
        found = load_state_dict_file(source)
        own = build_without_memory({key: value for key, value in backbone.items() if key != 'init_cfg'}).state_dict()
    except Exception:  # reported where the file is read and the model is built
        return None
    if any(f'backbone.{name}' not in found for name in own if not name.endswith(LORA_NAMES)):
        return None
    backbone.init_cfg = None
    return str(init['checkpoint'])


def load_official_weights(runner: Any, model: nn.Module, filename: str) -> dict:
    """Load a file in an official format in place of ``runner.load_checkpoint``.

    Args:
        runner: The runner, whose hooks receive the loaded state.
        model: Its model, not wrapped.
        filename: The file.

    Returns:
        The checkpoint as mmengine would have read it.
    """
    report = load_official(model, filename, other_classes=runner._train_loop is not None)
    runner.logger.info(str(report))
    runner._has_loaded = True
    has_head = any(not name.startswith('backbone.') for name in report.matched)
    meta = load_file(filename).get('meta') if has_head else None
    checkpoint = dict(state_dict=model.state_dict(), meta=meta if isinstance(meta, dict) else {})
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)  # averaged weights start from these too
    model.load_state_dict(checkpoint['state_dict'])  # reordered if the file has its classes in another order
    return checkpoint
