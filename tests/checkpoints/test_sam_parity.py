"""An independent implementation, timm's SAM encoder: same weights through our SAM format, same features."""

import pytest
import torch
from timm.models.vision_transformer_sam import VisionTransformerSAM

from tests.checkpoints.models import randomize
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.checkpoints.official import load_official

SIDE = 96  # 6 x 6 tokens: windows of 4 need padding


def timm_encoder(fused):
    model = VisionTransformerSAM(
        img_size=SIDE, patch_size=16, embed_dim=32, depth=3, num_heads=4, window_size=4, global_attn_indexes=(1,),
        use_rel_pos=True, neck_chans=8, num_classes=0,
        norm_layer=lambda dim, **kwargs: torch.nn.LayerNorm(dim, eps=1e-6, **kwargs))
    for block in model.blocks:
        block.attn.fused_attn = fused
    return randomize(model, seed=0)


def load_into_ours(reference, path):
    """timm's weights under SAM's names, saved and loaded as a user would."""
    state = {'image_encoder.' + name.replace('mlp.fc', 'mlp.lin'): value
             for name, value in reference.state_dict().items() if not name.startswith('head.')}
    torch.save(state, path)
    ours = ViTDet(arch=dict(embed_dim=32, depth=3, num_heads=4), img_size=SIDE, window_size=4, propagation='none',
                  global_block_indexes=[1], pretrain_img_size=SIDE, pretrain_use_cls_token=False, drop_path_rate=0)
    report = load_official(ours, path, allow_missing=False)
    assert report.recognized_as == 'SAM image encoder'
    assert set(report.dropped.values()) == {"SAM's own neck"}
    return ours


@pytest.mark.parametrize('fused', [True, False])
def test_features_and_gradients_agree_with_timm(tmp_path, fused):
    reference = timm_encoder(fused)
    ours = load_into_ours(reference, tmp_path / 'sam.pth').eval()
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    expected = reference.blocks(reference.patch_embed(x) + reference.pos_embed).permute(0, 3, 1, 2)
    [out] = ours(x)
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)
    cotangent = torch.randn_like(out)
    out.backward(cotangent)
    expected.backward(cotangent)
    theirs = dict(reference.named_parameters())
    for name, p in ours.named_parameters():
        gradient = theirs[name].grad.view_as(p)
        assert (p.grad - gradient).abs().max() < 1e-4 * gradient.abs().max(), name
