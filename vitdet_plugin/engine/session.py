"""Shared by training and testing: launcher, work directory, runner."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from mmengine.utils import ManagerMixin
from torch import nn
from torch.utils.data import IterableDataset

from vitdet_plugin.checkpoints.fetching import local_file
from vitdet_plugin.checkpoints.sharded import is_sharded
from vitdet_plugin.compat.anchor_cache import cache_anchors
from vitdet_plugin.compat.data_loading import fetch_batches_with
from vitdet_plugin.compat.remote_files import STORES, scheme_of
from vitdet_plugin.config.check_values import check_values
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.option_words import split_options
from vitdet_plugin.config.registry import is_classifier, is_sharding
from vitdet_plugin.engine.check_loaders import check_batches, repair_loaders
from vitdet_plugin.engine.check_weights import is_official
from vitdet_plugin.engine.class_order import check_labels
from vitdet_plugin.engine.console import quieten
from vitdet_plugin.engine.data_faults import NamedItems
from vitdet_plugin.engine.data_workers import RecordedLoaders
from vitdet_plugin.engine.fsdp import FullyShardStrategy
from vitdet_plugin.engine.initial_weights import load_official_weights, official_init
from vitdet_plugin.engine.loops import resumable_loop
from vitdet_plugin.engine.objects_left import require_objects
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import drop_kept_files, keep_files
from vitdet_plugin.utils.output import suppress_output
from vitdet_plugin.utils.running_command import running_command

# Warnings of mmengine and torch about their own code that every rank would repeat.
_NOISE = ('Setting .*_NUM_THREADS environment', '`broadcast_buffers` is deprecated', 'Grad strides do not match')
_TORCHRUN_VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
_RANK_VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


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
        return 'pytorch' if all(variable in environ for variable in _TORCHRUN_VARIABLES) else 'none'
    ranks = environ.get('WORLD_SIZE', '1')
    if name == 'none' and ranks != '1':
        raise UserError(f'--launcher none, but WORLD_SIZE={ranks}: {ranks} runs would write to one work directory; '
                        'leave --launcher out or write --launcher pytorch')
    if name == 'pytorch' and not any(variable in environ for variable in _RANK_VARIABLES):
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
    if 'launcher' in (options.cfg_options if isinstance(options.cfg_options, Mapping)
                      else split_options(options.cfg_options)):
        raise UserError('--cfg-options launcher: use --launcher, which is not part of a config')
    cfg = load_config(config, options.cfg_options)
    check_values(cfg)
    repair_loaders(cfg)
    cfg.launcher = launcher
    cfg.work_dir = str(options.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', config_name(cfg)))
    if not isinstance(cfg.get('default_hooks'), dict):
        cfg.default_hooks = {}
    logger = dict(cfg.default_hooks.get('logger') or dict(type='LoggerHook'))
    if logger.get('type') == 'LoggerHook':
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
    if checkpoint.get('type', 'CheckpointHook') == 'CheckpointHook':
        cfg.default_hooks.checkpoint = {**checkpoint, 'type': 'AtomicCheckpointHook'}
    info = dict(cfg.default_hooks.get('runtime_info') or {})
    if info.get('type', 'RuntimeInfoHook') == 'RuntimeInfoHook':
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


class _Resumable:
    """Replaces mmengine's training loops by resumable ones; errors name the samples that cannot be read."""

    def build_dataloader(self, *args, **kwargs):
        loader = super().build_dataloader(*args, **kwargs)
        check_labels(loader.dataset)
        check_batches(self._loader_name(*args, **kwargs), loader)
        if not isinstance(loader.dataset, IterableDataset):
            require_objects(loader.dataset)
            fetch_batches_with(loader.dataset, NamedItems(loader.dataset))  # training loops set their own later
        return loader

    def _loader_name(self, dataloader, *args, **kwargs) -> str:
        names = [name for name in ('train', 'val', 'test') if getattr(self, f'_{name}_dataloader', None) is dataloader]
        return f'{names[0]}_dataloader' if names else 'dataloader'

    def build_train_loop(self, loop, *args, **kwargs):
        return super().build_train_loop(resumable_loop(loop) if isinstance(loop, dict) else loop, *args, **kwargs)

    def load_or_resume(self) -> None:
        """Load or resume as mmengine does, then free the files kept by ``keep_files``.

        A path with ``~`` or ``file://``, a name of published weights, a work directory or a URL is replaced by the
        local file first.
        """
        self._use_local_file()
        super().load_or_resume()
        drop_kept_files()

    def _use_local_file(self) -> None:
        path = self._load_from
        if path and not os.path.isfile(path) and not is_sharded(path) and scheme_of(path) not in STORES:
            self._load_from = str(local_file(path))


class _SuppressOutput:
    """Suppresses pycocotools' output ("creating index...") while data sets and evaluators are built."""

    def build_dataloader(self, *args, **kwargs):
        with suppress_output():
            return super().build_dataloader(*args, **kwargs)

    def build_evaluator(self, *args, **kwargs):
        with suppress_output():
            return super().build_evaluator(*args, **kwargs)


@RUNNERS.register_module()
class QuietRunner(_Resumable, _SuppressOutput, RecordedLoaders, Runner):
    """mmengine's ``Runner`` with less output at the start, and ``load_from`` for official checkpoints too."""

    def build_logger(self, *args, **kwargs):
        logger = super().build_logger(*args, **kwargs)
        quieten(logger)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model as mmengine does; its weights are in the layout that ``channels_last`` asks for."""
        if not is_classifier(self.cfg):
            cache_anchors(model)
        if self.cfg.get('channels_last'):  # before gradients are allotted to buffers of the wrapper
            model = model.to(memory_format=torch.channels_last)
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        """Initialize the model as mmengine does; a file that its ``init_cfg`` names is read like ``load_from``."""
        model = self.model.module if is_model_wrapper(self.model) else self.model
        with official_init(model, self.logger):
            super()._init_model_weights()

    @keep_files()
    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load a checkpoint as mmengine does; weights in an official format (detectron2, EasyCV, …) are converted.

        A classifier's backbone can be loaded into a detector. For training, layers for other classes are
        re-initialized.
        """
        model = self.model.module if is_model_wrapper(self.model) else self.model
        if self._resume or not is_official(filename, model):
            return super().load_checkpoint(filename, *args, **kwargs)
        return load_official_weights(self, model, filename)


@RUNNERS.register_module()
class QuietFlexibleRunner(_Resumable, _SuppressOutput, RecordedLoaders, FlexibleRunner):
    """mmengine's ``FlexibleRunner`` with less output; its strategy creates the logger.

    Weights in an official format are loaded before the model is sharded.
    """

    def train(self) -> nn.Module:
        if isinstance(self.strategy, FullyShardStrategy):
            self.strategy.load_before_sharding = self._load_official
        return super().train()

    @keep_files()
    def _load_official(self, model: nn.Module) -> None:
        if self._resume or not self._load_from or is_sharded(self._load_from):
            return
        self._use_local_file()
        if is_official(self._load_from, model):
            self.model = model
            load_official_weights(self, model, self._load_from)


def build_runner(cfg: Config) -> Runner:
    """Build the runner that ``runner_type`` names, or :class:`QuietRunner`."""
    runner = RUNNERS.build(cfg) if cfg.get('runner_type') else QuietRunner.from_cfg(cfg)
    runner.logger.info(f'Command: {running_command()}', extra=dict(file_only=True))
    return runner


def add_hook(cfg: Config, hook: dict) -> None:
    """Append a custom hook to ``cfg`` in place; its type must be registered."""
    assert HOOKS.get(hook['type']) is not None, hook['type']
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def finish() -> None:
    """Destroy the process group, so that the last rank does not warn about it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def restored_process_state() -> Iterator[None]:
    """Restore the global state of the process that a run of mmengine changes, so that another run can follow.

    This state consists of its named loggers, message hubs, visualizers and default scopes (the names have a resolution
    of one second, so that a second run could continue the first one's logs), and the flags set by
    ``deterministic=True``. Visualizers of an earlier run or of mmdet's inferencers are set aside: configs give all of
    them the same name, and an existing one would write into the folder of its own run.
    """
    from mmengine.visualization import Visualizer
    before = {manager: dict(manager._instance_dict) for manager in _subclasses(ManagerMixin)}
    for manager in before:
        if issubclass(manager, Visualizer):
            manager._instance_dict.clear()
    flags = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
             torch.backends.cudnn.benchmark)
    try:
        yield
    finally:
        for manager in _subclasses(ManagerMixin):
            earlier = before.get(manager, {})
            for name, instance in list(manager._instance_dict.items()):
                if instance is not earlier.get(name):
                    del manager._instance_dict[name]
                    for handler in getattr(instance, 'handlers', ()):
                        handler.close()
            manager._instance_dict.update({name: instance for name, instance in earlier.items()
                                           if name not in manager._instance_dict})
        torch.use_deterministic_algorithms(flags[0])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags[1:]


def _subclasses(cls: type) -> Iterator[type]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
