"""Any detector of mmdet on a composite backbone, with a loss on the assistants (CBNetV2, arXiv 2107.00420)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from vitdet_plugin.backbones.cbnet import CBNet
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.weighted_losses import weighted_losses


class AssistantSupervision:
    """Mixin for detectors: in training, neck and heads also run on the maps of the assistants (section 3.3).

    The losses of assistant i are multiplied by ``assistant_weight`` and have the prefix ``assistant{i}.``. Prediction
    uses the lead alone. Names of weights are those of the detector.
    """

    def __init__(self, *args: Any, assistant_weight: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.assistant_weight = assistant_weight
        self._maps: tuple[Tensor, ...] | None = None
        if not isinstance(self.backbone, CBNet):
            raise UserError(f'CBDetector: model.backbone.type={type(self.backbone).__name__!r} has no assistants; set '
                            "it to 'CBNet'")

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        """Return the neck's maps of the images, or of the maps whose loss is being computed."""
        maps = self.backbone(batch_inputs) if self._maps is None else self._maps
        return self.neck(maps) if self.with_neck else maps

    def loss(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Any]:
        """Return the losses of the lead, and those of the assistants with their weight."""
        *assistants, lead = self.backbone.forward_all(batch_inputs)
        found: dict[str, Any] = {}
        if self.assistant_weight:
            for i, maps in enumerate(assistants):
                losses = self._loss_on(maps, batch_inputs, copy.deepcopy(batch_data_samples))
                found.update({f'assistant{i}.{name}': value for name, value in
                              weighted_losses(losses, self.assistant_weight).items() if 'loss' in name})
        return {**self._loss_on(lead, batch_inputs, batch_data_samples), **found}

    def _loss_on(self, maps: tuple[Tensor, ...], batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> dict:
        self._maps = maps
        try:
            return super().loss(batch_inputs, batch_data_samples)
        finally:
            self._maps = None


@MODELS.register_module()
def CBDetector(detector: str, **kwargs: Any) -> Any:  # noqa: N802  a type in configs
    """Build ``dict(type='CBDetector', detector='DINO', assistant_weight=0.5, backbone=dict(type='CBNet', ...), ...)``.

    Args:
        detector: Type of the detector, to which all other arguments belong.
        **kwargs: ``assistant_weight`` and the arguments of the detector.

    Raises:
        UserError: The detector is unknown, or its backbone has no assistants.
    """
    cls = MODELS.get(detector)
    if not isinstance(cls, type):
        raise UserError(f'CBDetector: detector={detector!r} is not a detector of mmdet; give its type, such as DINO')
    return _with_supervision(cls)(**kwargs)


@cache
def _with_supervision(cls: type) -> type:
    return type(f'CB{cls.__name__}', (AssistantSupervision, cls), {'__module__': __name__})
