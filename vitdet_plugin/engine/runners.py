"""Runners of trainings and tests: mmengine's, with resumable loops, official weights and less output."""

import os

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from torch import nn
from torch.utils.data import IterableDataset

from vitdet_plugin.checkpoints.fetching import local_file
from vitdet_plugin.checkpoints.sharded import is_sharded
from vitdet_plugin.compat.anchor_cache import cache_anchors
from vitdet_plugin.compat.data_loading import fetch_batches_with
from vitdet_plugin.compat.remote_files import STORES, scheme_of
from vitdet_plugin.config.dataset_config import SPLITS
from vitdet_plugin.config.registry import is_classifier
from vitdet_plugin.engine.check_loaders import check_batches
from vitdet_plugin.engine.check_weights import is_official
from vitdet_plugin.engine.class_order import check_labels
from vitdet_plugin.engine.console import quieten
from vitdet_plugin.engine.data_faults import NamedItems
from vitdet_plugin.engine.data_workers import RecordedLoaders
from vitdet_plugin.engine.fsdp import FullyShardStrategy
from vitdet_plugin.engine.initial_weights import drop_absent_weights, load_official_weights, official_init
from vitdet_plugin.engine.loops import resumable_loop
from vitdet_plugin.engine.objects_left import require_objects
from vitdet_plugin.engine.resumed_settings import ConfiguredSettings
from vitdet_plugin.utils.kept_files import drop_kept_files, keep_files
from vitdet_plugin.utils.output import suppress_output
from vitdet_plugin.utils.running_command import running_command


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
        names = [name for name in SPLITS if getattr(self, f'_{name}_dataloader', None) is dataloader]
        return f'{names[0]}_dataloader' if names else 'dataloader'

    def build_message_hub(self, *args, **kwargs):
        """Build a hub of this run alone: runs of one process that start in the same second have the same name."""
        MessageHub._instance_dict.pop(self.experiment_name, None)
        return super().build_message_hub(*args, **kwargs)

    def dump_config(self) -> None:
        """Write the config into the work directory for a training only.

        The work directory with this config stands for the model, and that of a test differs: it has no training, and
        the options of the test.
        """
        if self.cfg.get('train_dataloader') is not None:
            super().dump_config()

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

    def resume(self, *args, **kwargs):
        """Resume as mmengine does; settings of the optimizer and the schedule are those of the config."""
        owner = getattr(self, 'strategy', self)  # of a FlexibleRunner
        configured = ConfiguredSettings(owner.optim_wrapper, getattr(owner, 'param_schedulers', None))
        super().resume(*args, **kwargs)
        changes = configured.restore(owner.optim_wrapper, getattr(owner, 'param_schedulers', None),
                                     _epoch_length(self.train_loop.dataloader),
                                     getattr(self.train_loop, 'resumed_scale', 1.0))
        if changes:
            self.logger.warning('--resume: the settings of the config that differ from those of the checkpoint apply '
                                f'from here on, with the schedule at this step: {"; ".join(changes)}')

    def _use_local_file(self) -> None:
        path = self._load_from
        if path and not os.path.isfile(path) and not is_sharded(path) and scheme_of(path) not in STORES:
            self._load_from = str(local_file(path))


def _epoch_length(loader) -> int:
    return 1 if isinstance(loader.dataset, IterableDataset) else len(loader)


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
        MMLogger._instance_dict.pop(self.experiment_name, None)  # as the hub
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
        if self._resume and self._load_from:
            drop_absent_weights(model)
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
