"""What every backbone of the project shares: how it starts, freezes and is cut into layers for the optimiser."""

from __future__ import annotations

from mmengine.model import BaseModule
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from vitdet_plugin.utils.registering import import_registering_modules


class Backbone(BaseModule):
    """Base of the backbones, for detectors and classifiers alike.

    A subclass says where its parameters stand (:meth:`get_layer_id`, :attr:`num_layers`), what to freeze
    (:meth:`stages_to_freeze`) and how to draw its parameters (:meth:`reset_parameters`).

    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` takes our own checkpoints and the official ones alike.
    """

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

    def init_weights(self) -> None:
        """Initialize the parameters, then load the checkpoint of ``init_cfg`` if it names one."""
        self.reset_parameters()
        if self.init_cfg and 'OfficialCheckpoint' not in WEIGHT_INITIALIZERS.module_dict:
            # only a backbone was imported so far
            import_registering_modules('checkpoints')
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
