"""Cases of DINOv2, DINOv3 and of EVA-02's detector: features of every block and gradients."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from tests.parity.goldens import Case, Verdict, compare_model, register_kind
from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.checkpoints.official import convert, load_official


def _dinov2(config: dict) -> TimmViTDet:
    registers = config['num_register_tokens']
    swiglu = dict(mlp_layer=_layer('SwiGLUPacked'), act_layer=nn.SiLU,
                  mlp_ratio=2 * swiglu_hidden(config['embed_dim'], config['mlp_ratio']) / config['embed_dim']) \
        if config['ffn_layer'].startswith('swiglu') else dict(mlp_ratio=config['mlp_ratio'])
    model = dict(family='VisionTransformer', embed_dim=config['embed_dim'], depth=config['depth'],
                 num_heads=config['num_heads'], init_values=config['init_values'], reg_tokens=registers,
                 no_embed_class=registers > 0, norm_layer=partial(nn.LayerNorm, eps=config['layer_norm_eps']),
                 qkv_bias=config['qkv_bias'], **swiglu)
    return _every_block(model, config, 'antialias' if config['interpolate_antialias'] else 'offset')


def swiglu_hidden(dim: int, ratio: float) -> int:
    """Return the width of the hidden layer of DINOv2's SwiGLU: two thirds, rounded up to a multiple of 8."""
    return (int(int(dim * ratio) * 2 / 3) + 7) // 8 * 8


def _layer(name: str) -> type:
    import timm.layers
    return getattr(timm.layers, name)


def _dinov3(config: dict) -> TimmViTDet:
    swiglu = dict(swiglu_mlp=True, swiglu_align_to=8, mlp_ratio=config['ffn_ratio'] * 2 / 3) \
        if config['ffn_layer'] == 'swiglu' else dict(mlp_ratio=config['ffn_ratio'])
    model = dict(family='Eva', embed_dim=config['embed_dim'], depth=config['depth'], num_heads=config['num_heads'],
                 qkv_bias=True, init_values=config['layerscale_init'], rope_type='dinov3',
                 rope_temperature=config['pos_embed_rope_base'], rope_rotate_half=True, use_rot_pos_emb=True,
                 use_abs_pos_emb=False, num_reg_tokens=config['n_storage_tokens'], global_pool='token',
                 norm_layer=partial(nn.LayerNorm, eps=config['layer_norm_eps']), **swiglu)
    return _every_block(model, config, 'antialias')


def _every_block(model: dict, config: dict, positions: str) -> TimmViTDet:
    return TimmViTDet(model, img_size=config['img_size'], patch_size=config['patch_size'], window_size=0,
                      positions=positions, out_indices=range(config['depth']), final_norm=True)


def _features(model: TimmViTDet, image: Tensor) -> dict[str, Tensor]:
    """Return the outputs of a case: maps, class tokens and registers of each block, without and with the last norm."""
    tokens, hw = model.forward_tokens(image)
    outs: dict[str, Tensor] = {}
    for end in ('', '_norm'):
        for i, x in enumerate(tokens):
            x = model.net.norm(x) if end else x
            outs[f'feat{i}{end}'] = x[:, model.num_prefix:].transpose(1, 2).unflatten(2, hw)
            outs[f'cls{i}{end}'] = x[:, 0]
            outs[f'reg{i}' if not end else 'reg_norm'] = x[:, 1:model.num_prefix]  # reg_norm: of the last block
    return outs


@register_kind('dinov2')
@register_kind('dinov3')
def run_dino(case: Case) -> Verdict:
    """Compare Meta's DINOv2 and DINOv3; outputs ``feat{i}``, ``cls{i}``, ``reg{i}``, without and with the norm."""
    image = case.inputs['input0'].clone().requires_grad_()
    model = (_dinov2 if case.kind == 'dinov2' else _dinov3)(case.config).to(image.dtype).eval()
    load_official(model, case.path / 'weights.safetensors', allow_missing=False)
    names = {key.removeprefix('out.') for key in case.expected if key.startswith('out.')}
    outputs = {name: value for name, value in _features(model, image).items() if name in names}
    wrapped = _OfficialGradients(model, case)
    return compare_model(wrapped, replace(case, expected=wrapped.used), outputs, {'input0': image}, wrapped.names)


class _OfficialGradients(nn.Module):
    """Lets a model report its gradients under the official names.

    Some official parameters are several ones here: the bias of q, k and v (k has none), and the class token, which
    is the sum of two parameters in DINOv2 with registers.
    """

    def __init__(self, model: TimmViTDet, case: Case) -> None:
        super().__init__()
        self.model, self.case = model, case
        self.used = {key: value for key, value in case.expected.items()
                     if '.mask_token' not in key}  # not part of the outputs
        self.names = {key.split('.param.')[1]: key.split('.param.')[1] for key in case.expected if '.param.' in key}

    def named_parameters(self, *args, **kwargs):
        own = {name: p.grad for name, p in self.model.net.named_parameters()}
        for name in self.names:
            if name != 'mask_token':
                yield name, _WithGradient(self._gradient(name, own))

    def _gradient(self, name: str, own: dict[str, Tensor]) -> Tensor:
        registers = self.model.num_prefix > 1
        if name.endswith('attn.qkv.bias') and name not in own:
            q, v = (own[name.replace('qkv.bias', f'{part}_bias')] for part in 'qv')
            return torch.cat([q, torch.zeros_like(q), v])
        if name == 'pos_embed' and registers:
            return torch.cat([own['cls_token'], own['pos_embed']], 1)
        for theirs, ours in (('register_tokens', 'reg_token'), ('storage_tokens', 'reg_token'),
                             ('mlp.w12', 'mlp.fc1'), ('mlp.w1', 'mlp.fc1_g'), ('mlp.w2', 'mlp.fc1_x'),
                             ('mlp.w3', 'mlp.fc2')):
            name = name.replace(f'{theirs}', ours) if theirs in name else name
        if name not in own:
            name = name.replace('ls1.gamma', 'gamma_1').replace('ls2.gamma', 'gamma_2')
        return own[name]


class _WithGradient:
    def __init__(self, grad: Tensor) -> None:
        self.grad = grad


class _EvaPyramid(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        windowed = set(config['window_block_indexes'])
        model = dict(family='Eva', embed_dim=config['embed_dim'], depth=config['depth'], num_heads=config['num_heads'],
                     mlp_ratio=config['mlp_ratio'], qkv_bias=config['qkv_bias'], qkv_fused=False, swiglu_mlp=True,
                     scale_mlp=True, use_rot_pos_emb=True, ref_feat_shape=config['pt_hw_seq_len'],
                     norm_layer=partial(nn.LayerNorm, eps=config['layer_norm_eps']))
        self.backbone = TimmViTDet(
            model, img_size=config['pretrain_img_size'], patch_size=config['patch_size'],
            window_size=config['window_size'], prefix_tokens='drop', rope_in_windows='restart', positions='bicubic',
            global_block_indexes=[i for i in range(config['depth']) if i not in windowed])
        self.neck = MODELS.build(dict(
            type='SimpleFeaturePyramid', in_channels=config['embed_dim'], out_channels=config['out_channels'],
            scale_factors=config['scale_factors'], norm_cfg=dict(type='LayerNorm2d', eps=1e-6), num_outs=5))


@register_kind('eva02_d2')
def run_eva02_detector(case: Case) -> Verdict:
    """Compare the backbone and the pyramid of EVA-02's detector; outputs ``last_feat`` and ``p2`` to ``p6``."""
    dtype = next(value.dtype for key, value in case.expected.items() if key.startswith('out.'))
    image = case.inputs['input0'].to(dtype).requires_grad_()
    model = _EvaPyramid(case.config).to(dtype).eval()
    model.backbone.net.rope.float()  # the tables of the fork are float32 in every case
    _, converted = convert(case.weights, set(model.state_dict()), str(case.path))
    model.load_state_dict({name: value.to(dtype) for name, value in converted.state.items()})
    side = case.config['square_pad']
    padded = F.pad(image, (0, side - image.shape[-1], 0, side - image.shape[-2]))
    last = model.backbone(padded)
    outputs = {'last_feat': last[0], **dict(zip(['p2', 'p3', 'p4', 'p5', 'p6'], model.neck(last), strict=True))}
    names = {theirs: ours for ours, theirs in converted.origins.items()}
    return compare_model(model, case, outputs, {'input0': image}, names)
