"""One step of plain gradient descent: on ranks that take a batch each, or on one that accumulates all of them."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS

from tests.backbones.small_configs import small_cfg
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.compat.launch import model_wrapper_cfg


class Model(BaseModel):
    """A backbone whose loss has no random part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = ViTDet(**{**small_cfg(ViTDet), 'drop_path_rate': 0.0})
        self.backbone.reset_parameters()

    def forward(self, inputs: torch.Tensor, data_samples=None, mode: str = 'loss') -> dict:
        return dict(loss=sum(level.square().mean() for level in self.backbone(inputs)))


def step(batches: Sequence[int], is_distributed: bool) -> dict[str, torch.Tensor]:
    """Weights after one step of the optimiser on the batches of these numbers."""
    model = Model()
    if is_distributed:
        model = MODEL_WRAPPERS.build(dict(model_wrapper_cfg({}), module=model))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)  # so the change is the gradient
    wrapper = OptimWrapper(optimizer, accumulative_counts=len(batches))
    wrapper.initialize_count_status(model, 0, len(batches))
    for number in batches:
        generator = torch.Generator().manual_seed(number)
        data = dict(inputs=torch.randn(2, 3, 64, 64, generator=generator), data_samples=None)
        model.train_step(data, wrapper)
    return {name.removeprefix('module.'): value.detach() for name, value in model.state_dict().items()}
