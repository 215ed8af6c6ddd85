"""A model with weights out of a config and a checkpoint, for the tools that look at models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from vitdet_plugin.checkpoints.files import load_file
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.engine.check_data import dataset_classes, leaf_datasets
from vitdet_plugin.engine.config import load_config
from vitdet_plugin.engine.explain import user_errors
from vitdet_plugin.engine.train import find_newest_checkpoint
from vitdet_plugin.errors import UserError


@dataclass
class LoadedModel:
    """A model in eval mode and what belongs to it.

    Attributes:
        classes: names of its labels, from the checkpoint or else from the config; None if neither has them.
        is_classifier: mmpretrain's classifier; otherwise mmdet's detector.
        checkpoint: the file that was loaded; None: random weights.
    """

    model: nn.Module
    cfg: Config
    classes: list[str] | None
    is_classifier: bool
    checkpoint: Path | None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def load_model(config: str | Path | Config, checkpoint: str | Path | None = None,
               device: str | torch.device | None = None, options: Sequence[str] = ()) -> LoadedModel:
    """Build the model of a config and load its weights.

    Args:
        config: File, or a loaded config.
        checkpoint: A file of ours or of a known official format, or a work directory (its best checkpoint, or else the
            newest). None: weights stay random.
        device: By default the GPU if there is one.
        options: ``KEY=VALUE`` changes to the config.

    Raises:
        UserError: Broken config, no model in it, or a checkpoint that does not fit.
    """
    cfg = config if isinstance(config, Config) else load_config(str(config), options)
    if cfg.get('model') is None:
        raise UserError(f'config {cfg.filename} has no model')
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    with user_errors(cfg):
        model = MODELS.build(_with_data_preprocessor(cfg))
    classes = None
    if checkpoint is not None:
        checkpoint = find_checkpoint(Path(checkpoint))
        report = load_official(model, checkpoint, allow_missing=False)
        check_complete(model, report.matched, checkpoint)
        classes = ((load_file(checkpoint).get('meta') or {}).get('dataset_meta') or {}).get('classes')
    device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    return LoadedModel(model.to(device).eval(), cfg, list(classes or config_classes(cfg) or ()) or None,
                       _is_classifier(model), checkpoint)


def find_checkpoint(path: Path) -> Path:
    """The file itself, or the best, or else the newest, checkpoint of a work directory.

    Raises:
        UserError: A folder without checkpoints.
    """
    if not path.is_dir():
        return path
    best = sorted(path.glob('best_*.pth'), key=lambda file: file.stat().st_mtime)
    newest = best[-1] if best else find_newest_checkpoint(str(path))
    if newest is None:
        raise UserError(f'{path} holds no checkpoint (best_*.pth, iter_*.pth, epoch_*.pth); has training written one?')
    return Path(newest)


def check_complete(model: nn.Module, matched: Sequence[str], path: Path) -> None:
    """A checkpoint of a backbone alone loads for training, but cannot predict.

    Raises:
        UserError: A part of the model has no weights.
    """
    lacking = sorted({name.split('.')[0] for name in model.state_dict()} - {name.split('.')[0] for name in matched})
    if lacking:
        raise UserError(f'{path} has no weights for {", ".join(lacking)}; it is a start for training, not a whole '
                        'model')


def config_classes(cfg: Config) -> Sequence[str] | None:
    """Class names that the config's data sets state."""
    for split in ('test', 'val', 'train'):
        loader = cfg.get(f'{split}_dataloader')
        for _, dataset in leaf_datasets(loader.dataset, '') if loader else ():
            classes = dataset_classes(dataset)
            if classes:
                return classes
    return None


def build_dataset(cfg: Config, split: str = 'test') -> Any:
    """The data set of a split, with its pipeline.

    Raises:
        UserError: The config has no such split, or its data is not there.
    """
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        raise UserError(f'config {cfg.filename} has no {split}_dataloader')
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    with user_errors(cfg):
        return DATASETS.build(loader.dataset)


def predict_dataset(loaded: LoadedModel, dataset: Any, batch_size: int) -> Iterator[Any]:
    """Yield the model's data sample of every sample of a data set, in order.

    Ground truth is whatever the pipeline packed into the sample.
    """
    from mmengine.dataset import pseudo_collate
    for start in range(0, len(dataset), batch_size):
        batch = [dataset[index] for index in range(start, min(start + batch_size, len(dataset)))]
        with torch.no_grad():
            yield from loaded.model.test_step(pseudo_collate(batch))


def _with_data_preprocessor(cfg: Config) -> dict:
    """mmpretrain's configs write it beside the model; its runner hands it over."""
    model = cfg.model.copy()
    if cfg.get('data_preprocessor') and model.get('data_preprocessor') is None:
        model['data_preprocessor'] = cfg.data_preprocessor
    return model


def _is_classifier(model: nn.Module) -> bool:
    from mmpretrain.models.classifiers import BaseClassifier
    return isinstance(model, BaseClassifier)
