"""Shared by training and testing: their options, launcher, work directory and hooks."""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import HOOKS

from vitdet_plugin.checkpoints.work_dirs import list_checkpoints
from vitdet_plugin.config.check_values import check_values
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.option_words import split_options
from vitdet_plugin.config.registry import is_sharding, type_name
from vitdet_plugin.engine.check_loaders import repair_loaders
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.ranks import RANK_VARIABLES, TORCHRUN_VARIABLES

# Warnings of mmengine and torch about their own code that every rank would repeat.
_NOISE = ('Setting .*_NUM_THREADS environment', '`broadcast_buffers` is deprecated', 'Grad strides do not match')


@dataclass(kw_only=True)
class SessionOptions:
    """Options that training and testing have in common; see :func:`vitdet_plugin.api.train`."""

    work_dir: str | Path | None = None
    cfg_options: Mapping[str, Any] | Sequence[str] = ()
    launcher: str | None = None
    local_rank: int | None = None
    skip_preflight: bool = False


def resolve_launcher(name: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the launcher to use; for None it is found by the environment variables.

    ``pytorch`` without any variable of a launcher becomes ``none`` with a warning: one process was started.

    Raises:
        UserError: The launcher is ``none``, but several ranks were started; they would overwrite each other's files.
    """
    if name is None:
        return 'pytorch' if all(variable in environ for variable in TORCHRUN_VARIABLES) else 'none'
    ranks = environ.get('WORLD_SIZE', '1')
    if name == 'none' and ranks != '1':
        raise UserError(f'--launcher none, but WORLD_SIZE={ranks}: {ranks} runs would write to one work directory; '
                        'leave --launcher out or write --launcher pytorch')
    if name == 'pytorch' and not any(variable in environ for variable in (*RANK_VARIABLES, 'WORLD_SIZE', 'LOCAL_RANK')):
        print('warning: --launcher pytorch, but torchrun did not start this process: it runs alone. '
              'torchrun --nproc-per-node N starts N ranks', file=sys.stderr)
        return 'none'
    return name


def load_session_config(config: str | Path | Config, options: SessionOptions) -> Config:
    """Load a config and set launcher, work directory, progress display and process group.

    Args:
        config: File, name of a shipped config, or a loaded config, which is copied.
        options: What to change.

    Raises:
        UserError: See ``load_config``, ``resolve_launcher`` and ``init_distributed``.
    """
    for message in _NOISE:
        warnings.filterwarnings('ignore', message=message)
    launcher = resolve_launcher(options.launcher)
    changes = options.cfg_options if isinstance(options.cfg_options, Mapping) else split_options(options.cfg_options)
    if 'launcher' in changes:
        raise UserError('--cfg-options launcher: use --launcher, which is not part of a config')
    cfg = load_config(config, options.cfg_options)
    check_values(cfg)
    repair_loaders(cfg)
    cfg.launcher = launcher
    run = None if isinstance(config, Config) or 'work_dir' in changes else _folder_of_run(config)
    cfg.work_dir = str(options.work_dir or run or cfg.get('work_dir') or os.path.join('work_dirs', config_name(cfg)))
    if not isinstance(cfg.get('default_hooks'), dict):
        cfg.default_hooks = {}
    logger = dict(cfg.default_hooks.get('logger') or dict(type='LoggerHook'))
    if type_name(logger) == 'LoggerHook':
        cfg.default_hooks.logger = {**logger, 'type': 'ProgressHook'}
    use_safe_hooks(cfg, strict=not options.skip_preflight)
    if cfg.get('strategy') is not None:
        use_strategy(cfg)
    if launcher != 'none':
        from vitdet_plugin.compat.launch import init_distributed, model_wrapper_cfg
        init_distributed(launcher, local_rank=options.local_rank)
        if cfg.get('strategy') is None and cfg.get('model_wrapper_cfg') is None:
            cfg.model_wrapper_cfg = model_wrapper_cfg(cfg)
    return cfg


def _folder_of_run(config: str | Path) -> Path | None:
    """Return the work directory of a training that was given as the config; after a copy its config names another."""
    folder = Path(config).expanduser()
    return folder if folder.is_dir() and list_checkpoints(folder) else None


def config_name(cfg: Config) -> str:
    """File name of a config without its suffix; ``config`` for one that was not loaded from a file."""
    return Path(cfg.filename).stem if cfg.filename else 'config'


def use_safe_hooks(cfg: Config, strict: bool = True) -> None:
    """Set hooks for atomic checkpoints, exact resume, an orderly stop on SIGTERM or a non-finite loss, and for the
    classes of checkpoints and the files of evaluators.

    Entries of ``default_hooks`` with these names and other types are kept.

    Args:
        cfg: Changed in place.
        strict: Whether a checkpoint of other classes than those of the data is an error.
    """
    checkpoint = dict(cfg.default_hooks.get('checkpoint') or {})
    if type_name(checkpoint) in ('', 'CheckpointHook'):
        cfg.default_hooks.checkpoint = {**checkpoint, 'type': 'AtomicCheckpointHook'}
    info = dict(cfg.default_hooks.get('runtime_info') or {})
    if type_name(info) in ('', 'RuntimeInfoHook'):
        cfg.default_hooks.runtime_info = {**info, 'type': 'DeferredInfoHook'}
    cfg.default_hooks.setdefault('resume_state', dict(type='ResumeStateHook'))
    cfg.default_hooks.setdefault('nonfinite_loss', dict(type='NonFiniteLossHook'))
    cfg.default_hooks.setdefault('stop', dict(type='StopHook'))
    cfg.default_hooks.setdefault('class_order', dict(type='ClassOrderHook', strict=strict))
    cfg.default_hooks.setdefault('evaluated_files', dict(type='EvaluatedFilesHook'))


def use_strategy(cfg: Config) -> None:
    """Use mmengine's FlexibleRunner for ``cfg.strategy``; FSDP is set up for blocks, CPUs and layer-wise decay.

    Raises:
        UserError: FSDP without a launcher.
    """
    cfg.setdefault('runner_type', 'QuietFlexibleRunner')
    cfg.setdefault('env_cfg', {})
    if is_sharding(cfg):
        cfg.strategy.type = 'FullyShardStrategy'
    if is_sharding(cfg) and cfg.launcher == 'none':
        raise UserError(f'{cfg.filename}: strategy={cfg.strategy.type} shards over ranks; start with torchrun '
                        '--nproc-per-node N -m vitdet_plugin train … (one rank is enough to try)')


def add_hook(cfg: Config, hook: dict) -> None:
    """Append a custom hook to ``cfg`` in place; its type must be registered."""
    assert HOOKS.get(hook['type']) is not None, hook['type']
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
