"""What training and testing have in common: launcher, work directory, runner."""

import os
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from torch.utils.data import IterableDataset

from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.check_weights import is_official
from vitdet_plugin.engine.console import quieten
from vitdet_plugin.engine.data_faults import NamedItems
from vitdet_plugin.engine.loops import resumable_loop
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import drop_kept_files, keep_files
from vitdet_plugin.utils.output import suppress_output

# Warnings of mmengine and torch about their own code that every rank would repeat.
_NOISE = ('Setting .*_NUM_THREADS environment', '`broadcast_buffers` is deprecated', 'Grad strides do not match',
          'FSDP.state_dict_type')
_TORCHRUN_VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')


def resolve_launcher(asked: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the launcher in use; None stands for "look at the environment".

    Raises:
        UserError: ``none`` was asked for under a launcher, so that the ranks would overwrite each other's files.
    """
    if asked is None:
        return 'pytorch' if all(name in environ for name in _TORCHRUN_VARIABLES) else 'none'
    ranks = environ.get('WORLD_SIZE', '1')
    if asked == 'none' and ranks != '1':
        raise UserError(f'--launcher none, but WORLD_SIZE={ranks}: {ranks} runs would write to one work directory; '
                        'leave --launcher out or write --launcher pytorch')
    return asked


def load_session_config(args: Namespace) -> Config:
    """Load the config of a command line with launcher, work directory, progress and process group settled.

    Args:
        args: ``config``, ``cfg_options``, ``work_dir`` and ``launcher`` as the tools parse them.

    Raises:
        UserError: See ``load_config``, ``resolve_launcher`` and ``init_distributed``.
    """
    for message in _NOISE:
        warnings.filterwarnings('ignore', message=message)
    launcher = resolve_launcher(args.launcher)
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = launcher
    stem = Path(args.config.split('::')[-1]).stem
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', stem)
    if not isinstance(cfg.get('default_hooks'), dict):
        cfg.default_hooks = {}
    logger = dict(cfg.default_hooks.get('logger') or dict(type='LoggerHook'))
    if logger.get('type') == 'LoggerHook':
        cfg.default_hooks.logger = {**logger, 'type': 'ProgressHook'}
    use_safe_hooks(cfg)
    if cfg.get('strategy') is not None:
        use_strategy(cfg)
    if launcher != 'none':
        from vitdet_plugin.compat.launch import init_distributed, model_wrapper_cfg
        init_distributed(launcher, local_rank=args.local_rank)
        if cfg.get('strategy') is None and cfg.get('model_wrapper_cfg') is None:
            cfg.model_wrapper_cfg = model_wrapper_cfg(cfg)
    return cfg


def use_safe_hooks(cfg: Config) -> None:
    """Checkpoints that replace each other safely, exact resume, an orderly end on SIGTERM or a loss that is no number.

    Entries of ``default_hooks`` with these names and other types win.
    """
    checkpoint = dict(cfg.default_hooks.get('checkpoint') or {})
    if checkpoint.get('type', 'CheckpointHook') == 'CheckpointHook':
        cfg.default_hooks.checkpoint = {**checkpoint, 'type': 'AtomicCheckpointHook'}
    cfg.default_hooks.setdefault('resume_state', dict(type='ResumeStateHook'))
    cfg.default_hooks.setdefault('nonfinite_loss', dict(type='NonFiniteLossHook'))
    cfg.default_hooks.setdefault('stop', dict(type='StopHook'))


def use_strategy(cfg: Config) -> None:
    """Let mmengine's FlexibleRunner run ``cfg.strategy``; FSDP gets what blocks, CPUs and layer decay need.

    Raises:
        UserError: FSDP without a launcher.
    """
    cfg.setdefault('runner_type', 'QuietFlexibleRunner')
    cfg.setdefault('env_cfg', {})
    if cfg.strategy.get('type') == 'FSDPStrategy':
        cfg.strategy.type = 'BlockFSDPStrategy'
    if 'FSDP' in str(cfg.strategy.get('type')) and cfg.launcher == 'none':
        raise UserError(f'{cfg.filename}: strategy={cfg.strategy.type} shards over ranks; start with torchrun '
                        '--nproc-per-node N tools/train.py … (one rank is enough to try)')


class _Resumable:
    """Builds this project's training loops where the config names mmengine's; names samples that cannot be read."""

    def build_dataloader(self, *args, **kwargs):
        loader = super().build_dataloader(*args, **kwargs)
        if not isinstance(loader.dataset, IterableDataset):
            loader.dataset.__getitems__ = NamedItems(loader.dataset)  # training loops put their own in its place
        return loader

    def build_train_loop(self, loop, *args, **kwargs):
        return super().build_train_loop(resumable_loop(loop) if isinstance(loop, dict) else loop, *args, **kwargs)

    def load_or_resume(self) -> None:
        """As mmengine's; frees the files that ``keep_files`` kept until the weights are loaded."""
        super().load_or_resume()
        drop_kept_files()


class _NoChatter:
    """Keeps pycocotools' "creating index..." off the terminal while data sets and evaluators are built."""

    def build_dataloader(self, *args, **kwargs):
        with suppress_output():
            return super().build_dataloader(*args, **kwargs)

    def build_evaluator(self, *args, **kwargs):
        with suppress_output():
            return super().build_evaluator(*args, **kwargs)


@RUNNERS.register_module()
class QuietRunner(_Resumable, _NoChatter, Runner):
    """mmengine's ``Runner`` with a quieter start, and ``load_from`` for official checkpoints too."""

    def build_logger(self, *args, **kwargs):
        logger = super().build_logger(*args, **kwargs)
        quieten(logger)
        return logger

    @keep_files()
    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """As mmengine's; weights in an official format (detectron2, EasyCV, …) are converted on the way.

        Into a detector, a classifier's backbone is loaded. For training, layers for other classes are drawn anew.
        """
        if self._resume or not is_official(filename):
            return super().load_checkpoint(filename, *args, **kwargs)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        self.logger.info(str(load_official(model, filename, other_classes=self._train_loop is not None)))
        self._has_loaded = True
        checkpoint = dict(state_dict=model.state_dict(), meta={})
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)  # averaged weights start from these too
        return checkpoint


@RUNNERS.register_module()
class QuietFlexibleRunner(_Resumable, _NoChatter, FlexibleRunner):
    """mmengine's ``FlexibleRunner`` with a quieter terminal; its strategy makes the logger."""


def build_runner(cfg: Config) -> Runner:
    """Build the runner that ``runner_type`` names, or mmengine's with a quieter start."""
    if cfg.get('runner_type'):
        return RUNNERS.build(cfg)
    return QuietRunner.from_cfg(cfg)


def add_hook(cfg: Config, hook: dict) -> None:
    """Append a custom hook to ``cfg`` in place; its type must be registered."""
    assert HOOKS.get(hook['type']) is not None, hook['type']
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def finish() -> None:
    """Leave the process group, so that the last rank does not warn about it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
