"""Plain ViTs of transformers: the names of its versions 4 and 5, and its own models where it is installed."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.checkpoints.hugging_face import to_official_names
from vitdet_plugin.checkpoints.official import load_official

WIDTH, HIDDEN = 6, 8
NORMS = {'norm1': 'norm1', 'norm2': 'norm2'}
SCALES = {'ls1.gamma': 'layer_scale1.lambda1', 'ls2.gamma': 'layer_scale2.lambda1'}
JOINED_4 = dict(q='attention.attention.query', k='attention.attention.key', v='attention.attention.value')
JOINED_5 = dict(q='attention.q_proj', k='attention.k_proj', v='attention.v_proj')
MLP = {'mlp.fc1': 'mlp.fc1', 'mlp.fc2': 'mlp.fc2'}
# official names of a block: those of transformers; a tuple stands for parts that are joined
FAMILIES = {
    'dinov2, 4': ('encoder.layer', {**NORMS, **MLP, 'attn.proj': 'attention.output.dense'}, JOINED_4, SCALES),
    'dinov2, 5': ('encoder.layer', {**NORMS, **MLP, 'attn.proj': 'attention.o_proj'}, JOINED_5, SCALES),
    'dinov2 giant, 4': ('encoder.layer', {**NORMS, 'attn.proj': 'attention.output.dense', 'mlp.w12': 'mlp.weights_in',
                                          'mlp.w3': 'mlp.weights_out'}, JOINED_4, SCALES),
    'dinov2 giant, 5': ('encoder.layer', {**NORMS, 'attn.proj': 'attention.o_proj', 'mlp.w3': 'mlp.down_proj',
                                          'mlp.w12': ('mlp.gate_proj', 'mlp.up_proj')}, JOINED_5, SCALES),
    'vit, 4': ('encoder.layer', {'norm1': 'layernorm_before', 'norm2': 'layernorm_after', 'mlp.fc1':
                                 'intermediate.dense', 'mlp.fc2': 'output.dense', 'attn.proj':
                                 'attention.output.dense'}, JOINED_4, {}),
    'vit, 5': ('layers', {'norm1': 'layernorm_before', 'norm2': 'layernorm_after', **MLP, 'attn.proj':
                          'attention.o_proj'}, JOINED_5, {}),
    'dinov3, 4': ('layer', {**NORMS, 'mlp.fc1': 'mlp.up_proj', 'mlp.fc2': 'mlp.down_proj', 'attn.proj':
                            'attention.o_proj'}, JOINED_5, SCALES),
    'dinov3 plus, 5': ('model.layer', {**NORMS, 'mlp.w1': 'mlp.gate_proj', 'mlp.w2': 'mlp.up_proj', 'mlp.w3':
                                       'mlp.down_proj', 'attn.proj': 'attention.o_proj'}, JOINED_5, SCALES),
}


def both_names(case: str) -> tuple[dict, dict]:
    """Random weights of two blocks and the stem, in official names and in those of transformers."""
    folder, block, joined, scales = FAMILIES[case]
    dinov3 = case.startswith('dinov3')
    official, theirs = {}, {}
    outside = {'cls_token': 'embeddings.cls_token', 'mask_token': 'embeddings.mask_token',
               'norm.weight': 'norm.weight' if dinov3 else 'layernorm.weight'}
    outside |= ({'storage_tokens': 'embeddings.register_tokens'} if dinov3 else
                {'pos_embed': 'embeddings.position_embeddings'})
    for end in ('weight', 'bias'):
        outside[f'patch_embed.proj.{end}'] = f'embeddings.patch_embeddings.{"" if dinov3 else "projection."}{end}'
    for ours, name in outside.items():
        official[ours] = theirs[name] = torch.randn(WIDTH)
    for index in range(2):
        def add(ours: str, names: tuple[str, ...], width: int = WIDTH, index=index) -> None:
            parts = [torch.randn(width) for _ in names]
            official[f'blocks.{index}.{ours}'] = torch.cat(parts)
            theirs.update({f'{folder}.{index}.{name}': part for name, part in zip(names, parts)})
        for ours, names in {**block, 'attn.qkv': tuple(joined.values())}.items():
            for end in ('weight', 'bias'):
                names = (names,) if isinstance(names, str) else names
                add(f'{ours}.{end}', tuple(f'{name}.{end}' for name in names))
        for ours, name in scales.items():
            add(ours, (name,))
        if dinov3:
            del theirs[f'{folder}.{index}.{joined["k"]}.bias']
            official[f'blocks.{index}.attn.qkv.bias'][WIDTH:2 * WIDTH] = 0
    return official, theirs


@pytest.mark.parametrize('case', FAMILIES)
@pytest.mark.parametrize('prefix', ['', 'model.', 'vit.'])
def test_names(case, prefix):
    official, theirs = both_names(case)
    found = to_official_names({f'{prefix}{name}': value for name, value in theirs.items()})
    assert found.keys() == official.keys()
    assert all(torch.equal(found[name], value) for name, value in official.items())


def test_heads_and_decoders_keep_a_name_that_is_left_out():
    _, theirs = both_names('vit, 4')
    theirs = {f'vit.{name}': value for name, value in theirs.items()}
    extra = {'vit.pooler.dense.weight': 1, 'classifier.weight': 2, 'decoder.decoder_embed.weight': 3}
    found = to_official_names({**theirs, **{name: torch.zeros(1) for name in extra}})
    assert {'head.pooler.dense.weight', 'head.weight', 'decoder.decoder_embed.weight'} <= found.keys()


def test_other_names_are_left_alone():
    assert to_official_names({'patch_embed.proj.weight': torch.zeros(1), 'blocks.0.attn.qkv.weight': 1}) is None


def test_sam_in_vitdet(tmp_path):
    def build(seed):
        torch.manual_seed(seed)
        return ViTDet(arch=dict(embed_dim=32, depth=2, num_heads=2), img_size=64, window_size=2, propagation='none',
                      global_block_indexes=[1], pretrain_img_size=64, pretrain_use_cls_token=False)
    source, target = build(0), build(1)
    state = {'vision_encoder.neck.conv1.weight': torch.zeros(1), 'prompt_encoder.no_mask_embed.weight': torch.zeros(1),
             'shared_image_embedding.positional_embedding': torch.zeros(1)}
    for name, value in source.state_dict().items():
        name = name.replace('patch_embed.proj', 'patch_embed.projection').replace('blocks', 'layers')
        name = name.replace('mlp.fc', 'mlp.lin').replace('.norm', '.layer_norm')
        state[f'vision_encoder.{name}'] = value.contiguous()
    save_file(state, tmp_path / 'model.safetensors')
    report = load_official(target, tmp_path / 'model.safetensors', allow_missing=False)
    assert report.recognized_as == "Hugging Face's SAM" and len(report.dropped) == 3
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


PEERS = """
import sys, torch
from transformers import *
size = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3)
d2, d3 = dict(size, image_size=518, patch_size=14), dict(size, image_size=64, num_register_tokens=4)
models = {
    'vit_small_patch14_dinov2': Dinov2Model(Dinov2Config(**d2)),
    'vit_small_patch14_reg4_dinov2': Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**d2)),
    'vit_giant_patch14_dinov2': Dinov2Model(Dinov2Config(**d2, use_swiglu_ffn=True)),
    'vit_small_patch16_dinov3_qkvb': DINOv3ViTModel(DINOv3ViTConfig(**d3, intermediate_size=192)),
    'vit_small_plus_patch16_dinov3_qkvb': DINOv3ViTModel(DINOv3ViTConfig(
        **d3, intermediate_size=128, use_gated_mlp=True, hidden_act='silu')),
}
torch.manual_seed(0)
for name, model in models.items():
    with torch.no_grad():
        for parameter in model.eval().parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
        x = torch.randn(1, 3, *((518, 518) if 'dinov2' in name else (64, 96)))
        model.save_pretrained(f'{sys.argv[1]}/{name}')
        torch.save((x, model(x).last_hidden_state), f'{sys.argv[1]}/{name}/io.pth')
"""


@pytest.mark.skipif('VITDET_PEERS' not in os.environ, reason='set VITDET_PEERS to a folder into which transformers was '
                    'installed with pip --target; within one process mmpretrain cannot be imported with it')
def test_features_of_transformers(tmp_path):
    subprocess.run([sys.executable, '-c', PEERS, str(tmp_path)], check=True,
                   env={**os.environ, 'PYTHONPATH': os.environ['VITDET_PEERS']})
    for folder in sorted(tmp_path.iterdir()):
        ratio = {'vit_giant_patch14_dinov2': 2 * 128 / 48, 'vit_small_plus_patch16_dinov3_qkvb': 128 / 48}
        ours = TimmViTDet(folder.name, window_size=0, final_norm=True, model_args=dict(
            depth=2, embed_dim=48, num_heads=3, mlp_ratio=ratio.get(folder.name, 4))).eval()
        report = load_official(ours, folder / 'model.safetensors')
        assert "Hugging Face's" in report.recognized_as and set(report.missing) <= {'net.rope.periods'}
        x, expected = torch.load(folder / 'io.pth')
        with torch.no_grad():
            found = ours(x)[0]
        expected = expected[:, -found[0, 0].numel():].transpose(1, 2).reshape(found.shape)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
