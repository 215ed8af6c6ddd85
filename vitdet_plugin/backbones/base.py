"""Base class of the backbones: initialization, freezing and layer ids for layer-wise learning rates."""

from __future__ import annotations

from mmengine.model import BaseModule
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from vitdet_plugin.utils.registering import import_registering_modules


class Backbone(BaseModule):
    """Base class of the backbones, for detectors and classifiers.

    A subclass implements the layer ids of its parameters (:meth:`get_layer_id`, :attr:`num_layers`), the parts to
    freeze (:meth:`stages_to_freeze`) and the initialization (:meth:`reset_parameters`).

    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` accepts checkpoints of this project and official ones, and
    ``prefix``, ``key`` and the other arguments of ``checkpoints.official.OfficialCheckpoint``.
    """

    out_channels: tuple[int, ...]  # channels of the maps that forward returns
    out_strides: tuple[int, ...]  # strides of these maps in pixels, ascending; input sides are multiples of the last
    frozen_stages: int = -1
    # patterns of weights that a checkpoint of this architecture may lack; they keep their initial values
    optional_weights: tuple[str, ...] = ()

    @property
    def stem_weight(self) -> str:
        """Name of the first convolution's weight, whose input channels are those of the images."""
        return next(f'{name}.weight' for name, module in self.named_modules() if isinstance(module, nn.Conv2d))

    @property
    def num_layers(self) -> int:
        """Number of layers with separate learning rates between the stem (id 0) and the rest (``num_layers + 1``)."""
        raise NotImplementedError

    def get_layer_id(self, name: str) -> int:
        """Return the layer id of a parameter from its name in this backbone: 0 (stem) to ``num_layers + 1``."""
        raise NotImplementedError

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Return the modules and parameters up to and including stage ``self.frozen_stages``."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Initialize all parameters again."""
        raise NotImplementedError

    def resize_weight(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """Resize a weight of a checkpoint to the shape of this backbone's weight.

        Called for weights whose shapes differ, for every checkpoint format.

        Args:
            name: Name of the parameter in this backbone.
            value: Weight from the checkpoint.
            own: Weight of this backbone.

        Returns:
            A tensor of the shape of ``own``, or None where resizing is not meaningful.
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
        """Set the mode; frozen stages stay in eval mode and without gradients."""
        super().train(mode)
        if self.frozen_stages >= 0:
            for part in self.stages_to_freeze():
                if isinstance(part, nn.Module):
                    part.eval()
                part.requires_grad_(False)
        return self
