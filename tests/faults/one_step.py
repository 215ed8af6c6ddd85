"""One step of gradient descent, on several ranks with one batch each or on one rank that accumulates all batches."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS

from tests.backbones.small_configs import small_cfg
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.compat.launch import model_wrapper_cfg


class Model(BaseModel):
    """A backbone with a deterministic loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = ViTDet(**{**small_cfg(ViTDet), 'drop_path_rate': 0.0})
        self.backbone.reset_parameters()

    def forward(self, inputs: torch.Tensor, data_samples=None, mode: str = 'loss') -> dict:
        return dict(loss=sum(level.square().mean() for level in self.backbone(inputs)))


def step(batches: Sequence[int], is_distributed: bool) -> dict[str, torch.Tensor]:
    """Return the weights after one optimizer step.

    Args:
        batches: Seeds of the batches.
        is_distributed: Whether to wrap the model for distributed training.
    """
    model = Model()
    if is_distributed:
        model = MODEL_WRAPPERS.build(dict(model_wrapper_cfg({}), module=model))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)  # the change of the weights is the gradient
    wrapper = OptimWrapper(optimizer, accumulative_counts=len(batches))
    wrapper.initialize_count_status(model, 0, len(batches))
    for number in batches:
        generator = torch.Generator().manual_seed(number)
        data = dict(inputs=torch.randn(2, 3, 64, 64, generator=generator), data_samples=None)
        model.train_step(data, wrapper)
    return {name.removeprefix('module.'): value.detach() for name, value in model.state_dict().items()}
