"""Independent implementations: timm's names, and transformers' VitDet where it is installed."""

import os
import re
import subprocess
import sys

import pytest
import torch

from tests.checkpoints import models
from tests.checkpoints.test_sam_parity import SIDE, timm_encoder
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.checkpoints.official import load_official


def test_timm_under_its_own_names(tmp_path):
    reference = timm_encoder(fused=True)
    torch.save(reference.state_dict(), tmp_path / 'timm.pth')
    ours = ViTDet(arch=dict(embed_dim=32, depth=3, num_heads=4), img_size=SIDE, window_size=4, propagation='none',
                  global_block_indexes=[1], pretrain_img_size=SIDE, pretrain_use_cls_token=False, drop_path_rate=0)
    report = load_official(ours, tmp_path / 'timm.pth', allow_missing=False)
    assert report.recognized_as == "timm's SAM encoder"
    x = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference.blocks(reference.patch_embed(x) + reference.pos_embed).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours.eval()(x)[0], expected, atol=2e-5, rtol=1e-4)


PEER = """
import sys, torch
from transformers import VitDetConfig, VitDetModel
torch.manual_seed(0)
model = VitDetModel(VitDetConfig(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=96, pretrain_image_size=64, patch_size=16,
    window_size=4, window_block_indices=[0, 2], residual_block_indices=[2], use_relative_position_embeddings=True,
    hidden_act='gelu', layer_norm_eps=1e-6)).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape) * 0.2)
    x = torch.randn(1, 3, 96, 96)
    torch.save(model.state_dict(), sys.argv[1])
    torch.save((x, model(x).last_hidden_state), sys.argv[2])
"""


@pytest.mark.skipif('VITDET_PEERS' not in os.environ, reason='set VITDET_PEERS to a folder into which transformers was '
                    'installed with pip --target; within one process mmpretrain cannot be imported with it')
def test_hugging_face(tmp_path):
    subprocess.run([sys.executable, '-c', PEER, str(tmp_path / 'hf.pth'), str(tmp_path / 'io.pth')], check=True,
                   env={**os.environ, 'PYTHONPATH': os.environ['VITDET_PEERS']})
    ours = ViTDet(arch=dict(embed_dim=32, depth=3, num_heads=4), img_size=SIDE, window_size=4,
                  propagation='none', global_block_indexes=[1], residual_block_indexes=[2], pretrain_img_size=64,
                  drop_path_rate=0).eval()
    report = load_official(ours, tmp_path / 'hf.pth', allow_missing=False)
    assert report.recognized_as == "Hugging Face's VitDet"
    x, expected = torch.load(tmp_path / 'io.pth')
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[0], expected, atol=1e-4, rtol=1e-4)


def test_hugging_face_names_with_and_without_the_models_prefix(tmp_path):
    source, target = models.backbone(1, residual_block_indexes=[2]), models.backbone(2, residual_block_indexes=[2])
    for prefix in ('', 'vitdet.', 'backbone.'):
        state = {}
        for name, value in source.state_dict().items():
            name = name.replace('patch_embed.proj', 'embeddings.projection').replace('.attn.', '.attention.')
            name = name.replace('pos_embed', 'embeddings.position_embeddings')
            state[prefix + re.sub('^blocks', 'encoder.layer', name)] = value
        torch.save(state, tmp_path / 'hf.pth')
        load_official(target, tmp_path / 'hf.pth', allow_missing=False)
        assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())
