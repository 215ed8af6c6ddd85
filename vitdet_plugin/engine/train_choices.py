"""Choices of a training run that change a config: validation loss, early stopping, and which images are drawn."""

from __future__ import annotations

from mmengine.config import Config

from vitdet_plugin.config.dataset_config import split_datasets
from vitdet_plugin.config.registry import is_classifier, type_name
from vitdet_plugin.errors import UserError


def add_hooks(cfg: Config, val_loss: bool, patience: int | None, validate: bool = True) -> None:
    """Add the hooks of ``val_loss`` and ``patience``.

    Raises:
        UserError: There is no evaluation during the training, or ``patience`` is below 1.
    """
    added: list[tuple[str, dict]] = [('--val-loss', dict(type='ValidationLossHook'))] if val_loss else []
    if patience is not None:
        if patience < 1:
            raise UserError(f'--patience {patience}: must be at least 1')
        added.append(('--patience', dict(type='PatienceHook', patience=patience)))
    for option, hook in added:
        if not validate or cfg.get('val_dataloader') is None:
            raise UserError(f'{option} needs an evaluation during the training; remove --no-validate, or add '
                            'val_dataloader, val_cfg and val_evaluator to the config')
        others = [each for each in cfg.get('custom_hooks') or () if type_name(each) != hook['type']]
        cfg.custom_hooks = [*others, hook]


def select_images(cfg: Config, balance_classes: float | None, background: str | None) -> None:
    """Set the sampler of ``balance_classes`` and the filter of ``background`` for the training set.

    Raises:
        UserError: A batch sampler chooses the images by itself, or ``background`` is unknown or has no meaning here.
    """
    if balance_classes is None and background is None:
        return
    loader = cfg.train_dataloader
    if balance_classes is not None:
        batches = type_name(loader.get('batch_sampler'))
        if batches and not batches.endswith('AspectRatioBatchSampler'):
            raise UserError(f'--balance-classes: train_dataloader.batch_sampler={batches} chooses the images; remove '
                            'one of the two')
        is_infinite = 'Infinite' in type_name(loader.get('sampler'))
        loader.sampler = dict(type='ClassBalancedSampler', power=balance_classes, infinite=is_infinite)
    if background is not None:
        if background not in ('keep', 'drop'):
            raise UserError(f'--background {background}: must be keep or drop')
        leaves = [dataset for _, dataset in split_datasets(cfg, 'train')]
        if is_classifier(cfg) or not all(dataset.get('ann_file') for dataset in leaves):
            raise UserError('--background: the training set has no annotations of objects')
        for dataset in leaves:
            dataset.filter_cfg = dict(dataset.get('filter_cfg') or {}, filter_empty_gt=background == 'drop')
