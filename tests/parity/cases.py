"""Cases written by the tests, with expected outputs from the models of this project."""

import json
from pathlib import Path

import torch
from mmengine.registry import MODELS
from safetensors.torch import save_file
from torch import nn

from tests.checkpoints import official_names
from tests.parity.vitdet import backbone_config

CONFIG = dict(
    img_size=96, embed_dim=16, depth=2, num_heads=2, window_size=4, window_block_indexes=[0],
    residual_block_indexes=[1], pretrain_img_size=32, out_channels=8, patch_size=16, mlp_ratio=4)


class Pyramid(nn.Module):
    """Backbone and neck with the arguments of a reference case."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone_config(config))
        self.neck = MODELS.build(dict(type='SimpleFeaturePyramid', in_channels=config['embed_dim'],
                                      out_channels=config['out_channels']))

    def forward(self, x):
        return self.neck(self.backbone(x))


def official_state(state: dict) -> dict:
    """Rename the weights of a backbone with a pyramid to detectron2's names: ``net.*``, ``simfp_*``."""
    return {name.removeprefix('backbone.'): value.contiguous()
            for name, value in official_names.detectron2(state).items() if not name.startswith('pixel_')}


def write_case(folder: Path, dtype: torch.dtype = torch.float32, gradients: bool = True, **changes) -> Path:
    """Write a ``vitdet_d2`` case with expected outputs and gradients from the model of this project."""
    config = {**CONFIG, **changes}
    torch.manual_seed(0)
    model = Pyramid(config).to(dtype).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    image = torch.randn(1, 3, 64, 96, dtype=dtype, requires_grad=True)
    outs = dict(zip(['p2', 'p3', 'p4', 'p5', 'p6'], model(image)))
    expected = {f'out.{name}': out.detach() for name, out in outs.items()}
    if gradients:
        cotangents = {name: torch.randn_like(out) for name, out in outs.items()}
        torch.autograd.backward(list(outs.values()), list(cotangents.values()))
        expected |= {f'cotangent.{name}': value for name, value in cotangents.items()}
        expected['grad.input0'] = image.grad
        grads = official_state({name: p.grad for name, p in model.named_parameters()})
        expected |= {f'grad.param.{name}': grad for name, grad in grads.items() if grad.numel() <= 4096}
        expected |= {f'gradnorm.param.{name}': grad.norm().reshape(1) for name, grad in grads.items()}
    return write_folder(folder, 'vitdet_d2', config, official_state(model.state_dict()),
                        {'input0': image.detach()}, expected)


def write_folder(folder: Path, kind: str, config: dict, weights: dict, inputs: dict, expected: dict) -> Path:
    """Write a case from its parts; returns the folder."""
    folder.mkdir(parents=True)
    (folder / 'case.json').write_text(json.dumps(dict(kind=kind, config=config)))
    for name, tensors in (('weights', weights), ('inputs', inputs), ('expected', expected)):
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / f'{name}.safetensors')
    return folder
