"""Count the training step of a config's model without memory for it and without a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vitdet_plugin.backbones.base import repeated_blocks
from vitdet_plugin.config.explain import user_errors
from vitdet_plugin.config.registry import is_classifier
from vitdet_plugin.engine.load_model import build_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.scaling.ledger import Ledger, count_step
from vitdet_plugin.evaluation.scaling.operators import counted_operators

DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters.

    Attributes:
        parameters: All.
        trainable: Those with a gradient.
        largest_block: Parameters of the largest repeated block of the backbone.
        outside: Parameters that belong to none of these blocks.
    """

    parameters: int
    trainable: int
    largest_block: int
    outside: int


class PlannedModel:
    """A model of a config on the meta device, whose training steps are counted.

    Args:
        cfg: Config of a detector or classifier.
        shape: Height and width of the images in pixels.

    Raises:
        UserError: The config has no model, or it cannot be built.
    """

    def __init__(self, cfg: Config, shape: tuple[int, int]) -> None:
        if cfg.get('model') is None:
            raise UserError(f'config {cfg.filename} has no model; give the config of a detector or classifier')
        cfg = copy.deepcopy(cfg)
        init_default_scope(cfg.get('default_scope') or 'mmdet')
        with user_errors(cfg), torch.device('meta'):
            self.model = build_model(cfg).train()
        self.shape, self.is_classifier = shape, is_classifier(cfg)
        self.name = str(cfg.filename)

    @property
    def sizes(self) -> Sizes:
        """Numbers of parameters of the model and of the units of FSDP."""
        blocks = [_numel(block) for block in repeated_blocks(self.model.backbone)]
        total = _numel(self.model)
        return Sizes(total, sum(p.numel() for p in self.model.parameters() if p.requires_grad), max(blocks, default=0),
                     total - sum(blocks))

    def count(self, batch: int, with_kernels: bool, checkpointed: bool) -> Ledger:
        """Count the training step of a batch in bfloat16 autocast on a GPU.

        Proposals, NMS, assignment, RoIAlign and losses are left out: they depend on data.

        Args:
            batch: Number of images.
            with_kernels: See :func:`~vitdet_plugin.evaluation.scaling.operators.counted_operators`.
            checkpointed: Whether the blocks of the backbone are recomputed in the backward pass.

        Raises:
            UserError: The model cannot run on fake tensors of this shape.
        """
        ledger, model = Ledger(), copy.deepcopy(self.model)
        try:
            with FakeTensorMode(allow_non_fake_inputs=True):
                model.to_empty(device='cpu')
                if hasattr(model.backbone, 'with_cp'):
                    model.backbone.with_cp = checkpointed
                images = torch.empty(batch, 3, *self.shape)
                step = _forward_pass(model, images, self.is_classifier)
                blocks = repeated_blocks(model.backbone)
                with counted_operators(blocks, ledger, with_kernels, DTYPE), torch.autocast('cpu', DTYPE):
                    return count_step(step, [*model.parameters(), *model.buffers(), images], ledger)
        except (RuntimeError, ValueError, NotImplementedError, AttributeError) as error:
            raise UserError(f'{self.name}: the training step for {batch} images of {self.shape[0]} x {self.shape[1]} '
                            f'pixels cannot be counted: {str(error).splitlines()[0]}') from error


def _forward_pass(model: Any, images: Tensor, classifies: bool) -> Callable[[], Sequence[Tensor]]:
    """Return a function that runs the dense parts of the model and returns all outputs."""
    if classifies:
        return lambda: _tensors(model(images, None, mode='tensor'))

    def detect() -> list[Tensor]:
        maps = model.extract_feat(images)
        outputs = _tensors(model.rpn_head(maps)) if getattr(model, 'rpn_head', None) is not None else []
        if getattr(model, 'roi_head', None) is not None:
            return outputs + _heads_on_regions(model, maps)
        return outputs + _tensors(model.bbox_head(maps))

    return detect


def _heads_on_regions(model: Any, maps: Sequence[Tensor]) -> list[Tensor]:
    """Run the heads of regions on as many regions as are sampled, with empty features in place of RoIAlign."""
    head, outputs = model.roi_head, []
    first = model.train_cfg.rcnn[0] if isinstance(model.train_cfg.rcnn, (list, tuple)) else model.train_cfg.rcnn
    regions = len(maps[0]) * first.sampler.num
    positive = int(regions * first.sampler.get('pos_fraction', 0.25))
    for kind, count in (('bbox', regions), ('mask', positive)):
        extractors = _list(getattr(head, f'{kind}_roi_extractor', None))
        for extractor, part in zip(extractors, _list(getattr(head, f'{kind}_head', None))):
            size = extractor.roi_layers[0].output_size
            features = maps[0].new_empty((count, maps[0].shape[1], *size)).requires_grad_()
            outputs += _tensors(part(features))
    return outputs


def _list(modules: Any) -> list[Any]:
    if modules is None:
        return []
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, (tuple, list)) else []


def _numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
