"""Build a model from a config and load its weights, for prediction and analysis."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from torch import nn

from vitdet_plugin.checkpoints.class_order import ClassRows, stored_classes
from vitdet_plugin.checkpoints.files import load_file
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.config.explain import user_errors
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.registry import is_classifier, model_config
from vitdet_plugin.engine.class_order import both, check_labels, class_rows, order_of_data, set_class_count
from vitdet_plugin.engine.inference import check_complete, config_classes, find_checkpoint, fit_classifier
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import keep_files
from vitdet_plugin.utils.output import suppress_logs, suppress_output


@dataclass
class LoadedModel:
    """A model in eval mode with its config and class names.

    Attributes:
        classes: Names of its labels, from the checkpoint or else from the config; None if neither has them.
        is_classifier: Whether it is a classifier of mmpretrain or a detector of mmdet.
        checkpoint: The file that was loaded; None for random weights.
        meta: What training stored in the checkpoint: iter, epoch, seed, time …; empty for other files.
    """

    model: nn.Module
    cfg: Config
    classes: list[str] | None
    is_classifier: bool
    checkpoint: Path | None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


@keep_files()
def load_model(config: str | Path | Config, checkpoint: str | Path | None = None,
               device: str | torch.device | None = None, options: Sequence[str] = (),
               expects_random: bool = False) -> LoadedModel:
    """Build the model of a config and load its weights.

    Args:
        config: File, name of a shipped config, or a loaded config.
        checkpoint: A file of this project or in a known official format, or a work directory (its best checkpoint, or
            else the newest). With None the weights are random, which is a warning.
        device: By default the GPU if there is one.
        options: ``KEY=VALUE`` changes to the config.
        expects_random: Whether the caller expects random weights and no warning is needed.

    Raises:
        UserError: Broken config, no model in it, or a checkpoint that does not fit.
    """
    device = pick_device(device)
    cfg = load_config(config, options)
    if cfg.get('model') is None:
        raise UserError(f'config {cfg.filename} has no model; give the config of a detector or classifier')
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    path = find_checkpoint(checkpoint) if checkpoint is not None else None
    content = load_file(path) if path else {}
    classes = stored_classes(content) if path else None
    cfg = fit_classifier(cfg, classes)
    with user_errors(cfg):
        model = build_model(cfg)
    if path is None:
        _fill_uninitialized(model)
    if path is None and not expects_random:
        warnings.warn('no checkpoint was given: the weights of the model are random, and so are its predictions',
                      stacklevel=3)
    if path is not None:
        report = load_official(model, path, allow_missing=False)
        check_complete(model, report.matched, path)
    if not classes and cfg.get('test_dataloader') is not None:
        classes = config_classes(cfg)
    return LoadedModel(model.to(device).eval(), cfg, list(classes or ()) or None, is_classifier(cfg), path,
                       _meta(content))


def load_model_of_classes(config: str | Path, classes: int,
                          target_classes: int) -> tuple[nn.Module, dict[str, ClassRows]]:
    """Build a config's model, with random weights, for reading weights whose classes are reordered afterwards.

    Args:
        config: File or name of a shipped config, for either number of classes.
        classes: Number of classes of the weights; the model has as many.
        target_classes: Number of classes after reordering.

    Returns:
        The model on the CPU, and the positions of the classes in its weights.

    Raises:
        UserError: Broken config, or the classes cannot be found in its model.
    """
    cfg = load_config(config)
    model_cfg = cfg.get('model') or {}
    if not set_class_count(model_cfg, classes, classes):
        set_class_count(model_cfg, target_classes, classes)
    model = load_model(cfg, device='cpu', expects_random=True).model
    try:
        return model, class_rows(model_config(cfg), classes)
    except UserError as error:
        raise UserError(f'{config}: classes cannot be reordered: {error}; give a config with the number of classes in '
                        '--classes-from or in --classes-to') from error


def _meta(content: dict[str, Any]) -> dict[str, Any]:
    meta = content.get('meta')
    return dict(meta) if isinstance(meta, dict) else {}


def pick_device(name: str | torch.device | None) -> torch.device:
    """Return the device of this name, by default the GPU if there is one.

    Raises:
        UserError: The device is not available on this machine.
    """
    name = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        gpus = torch.cuda.device_count()
        raise UserError(f'device {name!r} is not available; give cpu' + (f', or cuda:0 to cuda:{gpus - 1}' if gpus else
                                                                     ' (torch finds no GPU)')) from error


def build_model(cfg: Config) -> nn.Module:
    """Build the config's model."""
    if is_classifier(cfg):
        from mmpretrain.registry import MODELS
    else:
        from mmdet.registry import MODELS  # after the scope: mmdet registers its modules on import
    with suppress_logs():
        return MODELS.build(model_config(cfg))


def build_dataset(cfg: Config, split: str = 'test') -> Any:
    """Build the data set of a split, with its pipeline.

    Raises:
        UserError: The config has no such split, its data does not exist, or its labels would be mixed up.
    """
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        raise UserError(f'config {cfg.filename} has no {split}_dataloader; add it or choose another split')
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    with user_errors(cfg), suppress_output():
        dataset = DATASETS.build(loader.dataset)
    check_labels(dataset)
    return dataset


def labels_by_name(loaded: LoadedModel, targets: Sequence[str], split: str) -> np.ndarray | None:
    """Return the label in a data set of each class of the model, of shape ``(K,)``; None if they are the same.

    Args:
        loaded: A model with the class names of its checkpoint.
        targets: Class names of the data set.
        split: Name of the split for messages.

    Raises:
        UserError: The classes are not the same.
    """
    names = loaded.classes
    if not names or not targets or list(names) == list(targets):
        return None
    order = order_of_data(names, targets, str(loaded.checkpoint), f'give a {split} split with the classes of the '
                                                                  'checkpoint')
    labels = np.argsort(order)
    if (labels == np.arange(len(labels))).all():
        return None
    print(f'{loaded.checkpoint}: classes matched by name with those of the {split} split. {both(names, targets)}',
          flush=True)
    return labels


def predict_dataset(loaded: LoadedModel, dataset: Any, batch_size: int) -> Iterator[Any]:
    """Yield the model's data sample of every sample of a data set, in order.

    Ground truth is included if the pipeline packs it into the sample.
    """
    from mmengine.dataset import pseudo_collate
    for start in range(0, len(dataset), batch_size):
        batch = [dataset[index] for index in range(start, min(start + batch_size, len(dataset)))]
        with torch.no_grad():
            yield from loaded.model.test_step(pseudo_collate(batch))


def _fill_uninitialized(model: nn.Module) -> None:
    """Fill the embeddings of levels that mmdet's query detectors leave uninitialized until ``init_weights``."""
    for name, parameter in model.named_parameters():
        if name.rsplit('.', 1)[-1] == 'level_embed':
            nn.init.normal_(parameter)
