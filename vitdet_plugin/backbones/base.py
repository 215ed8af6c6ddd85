"""What every backbone of the project shares: how it starts, freezes and is cut into layers for the optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from mmengine.model import BaseModule
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn


class Backbone(BaseModule):
    """Base of the backbones, for detectors and classifiers alike.

    A subclass says where its parameters stand (:meth:`get_layer_id`, :attr:`num_layers`), what to freeze
    (:meth:`stages_to_freeze`) and how to draw its parameters (:meth:`reset_parameters`).

    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` takes our own checkpoints and the official ones alike.
    """

    # Constructor arguments of a small model with every kind of part, for the tests that take each backbone up.
    tiny_cfg: ClassVar[dict]

    out_channels: tuple[int, ...]  # of the maps that forward returns
    out_strides: tuple[int, ...]  # of these maps, in pixels, ascending; inputs are multiples of the last
    frozen_stages: int = -1

    @property
    def num_layers(self) -> int:
        """Number of layers with a learning rate of their own between the stem (id 0) and the rest (num_layers + 1)."""
        raise NotImplementedError

    def get_layer_id(self, name: str) -> int:
        """The layer of a parameter, by its name in this backbone: 0 for the stem ... ``num_layers + 1``."""
        raise NotImplementedError

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Modules and parameters up to and including ``self.frozen_stages``."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        raise NotImplementedError

    def resize_weight(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """A checkpoint's weight in the shape of ``own``, this backbone's; None where no resizing makes sense.

        Called for weights whose shapes differ, whatever the checkpoint's format.
        """
        return None

    def cam_layer(self) -> tuple[nn.Module, Callable[[Tensor, tuple[int, int]], Tensor]] | None:
        """Where class activation maps are taken, unless at the last map that ``forward`` returns (None).

        To be overridden where places of the last map do not stand for the same places of the picture: where a
        classifier looks at a few of them (end tokens), or attention has mixed them.

        Returns:
            A module of this backbone, and a function of its output and the input's (H, W) in pixels that returns the
            map (B, C, h, w); or None.
        """
        return None

    def init_weights(self) -> None:
        """Draw the parameters, then load ``init_cfg``'s checkpoint if there is one."""
        self.reset_parameters()
        for cfg in [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []:
            cfg = dict(cfg)
            if cfg['type'] == 'Pretrained':
                cfg['type'] = 'OfficialCheckpoint'
            WEIGHT_INITIALIZERS.build(cfg)(self)
        self._is_init = True

    def train(self, mode: bool = True) -> Backbone:
        """Frozen stages stay in eval mode and without gradients."""
        super().train(mode)
        if self.frozen_stages >= 0:
            for part in self.stages_to_freeze():
                if isinstance(part, nn.Module):
                    part.eval()
                part.requires_grad_(False)
        return self


def block_at_a_third(blocks: nn.ModuleList) -> nn.Module:
    """The block that ends the first third: ``cam_layer`` of plain stacks, in which later blocks mix places."""
    return blocks[max(round(len(blocks) / 3) - 1, 0)]
