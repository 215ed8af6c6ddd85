"""The loss on the validation set, computed after each evaluation."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, is_distributed
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from vitdet_plugin.config.dataset_config import leaf_datasets
from vitdet_plugin.config.registry import type_name
from vitdet_plugin.errors import UserError

_FIXED = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
_FIXED_NAMES = ('DropPath', 'DropBlock')  # of timm, mmcv and mmpretrain


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Compute the loss on the validation set after each evaluation.

    The metrics ``val_loss`` and ``val_<name>`` for each of its terms are added to those of the evaluation, so that
    ``save_best='val_loss'``, early stopping and the curves can use them. Images are resized as for the evaluation and
    not augmented; dropout, drop path and batch statistics are off. Proposals and samples are drawn with a fixed seed,
    and the training that follows is the same as without this hook.

    Args:
        pipeline: Transforms for these images. By default those of the validation set, with the annotations loaded
            directly after the image as in the training set.
    """

    priority = 'HIGHEST'  # before averaged weights are exchanged for the current ones, and before metrics are recorded

    def __init__(self, pipeline: Sequence[dict] | None = None) -> None:
        self.pipeline = pipeline
        self._loader: Any = None

    def before_train(self, runner: Runner) -> None:
        """Build the loader, so that mistakes show before the training."""
        if runner.val_loop is None:
            raise UserError('ValidationLossHook: the config has no validation set; add val_dataloader, val_cfg and '
                            'val_evaluator, or remove the hook')
        loader = copy.deepcopy(runner.cfg.val_dataloader)
        loader.dataset.pipeline = self.pipeline or labeled_pipeline(loader.dataset, runner.cfg.train_dataloader.dataset)
        self._loader = runner.build_dataloader(loader)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Add the mean losses to ``metrics``."""
        if self._loader is not None and metrics is not None:
            metrics.update(self.compute(runner))

    @torch.no_grad()
    def compute(self, runner: Runner) -> dict[str, float]:
        """Return the mean of every loss over the images of all ranks."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        sums: dict[str, torch.Tensor] = {}
        images = 0
        with _without_randomness(), _deterministic_training(model), runner.optim_wrapper.optim_context(model):
            for batch in self._loader:
                data = model.data_preprocessor(batch, training=False)
                total, logged = model.parse_losses(model(**data, mode='loss'))
                count = len(data['inputs'])
                images += count
                for name, value in {**logged, 'loss': total}.items():
                    if 'loss' in name:
                        sums[name] = sums.get(name, 0) + value.detach().double() * count
        values = torch.stack([*sums.values(), next(iter(sums.values())).new_tensor(images)])
        if is_distributed():
            all_reduce(values)
        means = (values[:-1] / values[-1]).tolist()
        return {f'val_{name}': mean for name, mean in zip(sums, means)}


def labeled_pipeline(dataset: dict, train_dataset: dict) -> list[dict]:
    """Return the transforms of a validation set with the annotations loaded directly after the image.

    mmdet's own validation pipelines load annotations after resizing, in pixels of the original image, for drawing.

    Args:
        dataset: Config of the validation set.
        train_dataset: Config of the training set, whose transform that loads the annotations is used; for
            classification there is none, and the pipeline stays as it is.

    Raises:
        UserError: The validation set has no pipeline of its own.
    """
    pipeline = dataset.get('pipeline')
    if not pipeline:
        raise UserError('ValidationLossHook: val_dataloader.dataset has no pipeline; give the transforms by '
                        'ValidationLossHook(pipeline=[…])')
    loading = [step for _, leaf in leaf_datasets(train_dataset, '') for step in leaf.get('pipeline') or ()
               if 'LoadAnnotations' in type_name(step)]
    steps = [step for step in pipeline if 'LoadAnnotations' not in type_name(step)]
    last_image = max((i for i, step in enumerate(steps) if type_name(step).startswith('LoadImage')), default=-1)
    return [*steps[:last_image + 1], *loading[:1], *steps[last_image + 1:]]


@contextmanager
def _deterministic_training(model: nn.Module) -> Iterator[None]:
    """Training mode, which some detectors need for their loss, without dropout and batch statistics."""
    modes = {module: module.training for module in model.modules()}
    model.train()
    for module in model.modules():
        if isinstance(module, _FIXED) or type(module).__name__ in _FIXED_NAMES:
            module.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _without_randomness() -> Iterator[None]:
    """Fix the seeds, and restore the generators of torch, NumPy and Python afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
