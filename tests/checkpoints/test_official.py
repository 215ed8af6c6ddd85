"""Loading: resizing weights to the model, short reports, one-line errors for checkpoints that do not fit."""

import re

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from tests.checkpoints import models, official_names
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.errors import UserError


def save(path, state):
    torch.save({'model': state}, path)
    return path


def bicubic(grid_hwc, side):
    resized = F.interpolate(grid_hwc.permute(2, 0, 1)[None], size=(side, side), mode='bicubic', align_corners=False)
    return resized[0].permute(1, 2, 0)


def test_patch_14_and_grid_16_of_mae_huge(tmp_path):
    """The official ViT-H: 14 x 14 kernels on a 16 x 16 grid, for a model of 16 x 16 kernels on a 14 x 14 grid."""
    state = official_names.mae(models.backbone(1).state_dict())
    kernel, pos = torch.randn(16, 3, 14, 14), torch.randn(1, 257, 16)
    state |= {'patch_embed.proj.weight': kernel, 'pos_embed': pos}
    target = models.backbone(2, pretrain_img_size=224)
    report = load_official(target, save(tmp_path / 'huge.pth', state))
    torch.testing.assert_close(target.patch_embed.proj.weight.detach(),
                               F.interpolate(kernel, size=(16, 16), mode='bicubic', align_corners=False))
    assert torch.equal(target.pos_embed[:, :1], pos[:, :1])
    grid = target.pos_embed[0, 1:].detach().view(14, 14, 16)
    torch.testing.assert_close(grid, bicubic(pos[0, 1:].view(16, 16, 16), 14))
    assert report.resized == {'pos_embed': '(1, 257, 16) to (1, 197, 16)',
                              'patch_embed.proj.weight': '(16, 3, 14, 14) to (16, 3, 16, 16)'}


@pytest.mark.parametrize('has', [True, False])
@pytest.mark.parametrize('use_slot', [True, False])
@pytest.mark.parametrize('side', [2, 5])
def test_class_slot_is_added_or_dropped(tmp_path, has, use_slot, side):
    pos = torch.randn(1, side * side + has, 16)
    target = models.backbone(2, pretrain_use_cls_token=use_slot)
    load_official(target, save(tmp_path / 'x.pth', {**models.backbone(1).state_dict(), 'pos_embed': pos}))
    expected = pos[0, has:].view(side, side, 16)
    expected = expected if side == 2 else bicubic(expected, 2)
    torch.testing.assert_close(target.pos_embed[0, use_slot:].detach().view(2, 2, 16), expected)
    if use_slot:
        assert torch.equal(target.pos_embed[0, 0].detach(), pos[0, 0] if has else torch.zeros(16))


def test_sam_map_is_resized(tmp_path):
    pos = torch.randn(1, 6, 6, 16)
    target = models.backbone(2, pretrain_use_cls_token=False, pretrain_img_size=64)
    state = {**official_names.sam(models.backbone(1, pretrain_use_cls_token=False).state_dict()),
             'image_encoder.pos_embed': pos}
    load_official(target, save(tmp_path / 'sam.pth', state))
    torch.testing.assert_close(target.pos_embed[0].detach().view(4, 4, 16), bicubic(pos[0], 4))


def test_relative_position_tables_are_interpolated(tmp_path):
    source, target = models.backbone(1, img_size=96), models.backbone(2, img_size=64)
    report = load_official(target, save(tmp_path / 'x.pth', source.state_dict()))
    table = source.blocks[1].attn.rel_pos_h.detach()
    expected = F.interpolate(table.T[None], size=7, mode='linear')[0].T
    torch.testing.assert_close(target.blocks[1].attn.rel_pos_h.detach(), expected)
    assert set(report.resized) == {'blocks.1.attn.rel_pos_h', 'blocks.1.attn.rel_pos_w'}


def test_the_report_is_short(tmp_path):
    target = models.backbone(2)
    path = save(tmp_path / 'mae.pth', official_names.mae(models.backbone(1).state_dict()))
    lines = str(load_official(target, path)).splitlines()
    assert lines[0] == (f"{path}: recognized as MAE ('cls_token', 'pos_embed', 'blocks.0.attn.qkv.weight'); "
                        f'{len(target.state_dict()) - 6} weights matched')
    assert '  dropped 3: decoder of the pre-training' in lines
    assert lines[-1] == ('  missing 6: blocks.0.attn.rel_pos_h, blocks.0.attn.rel_pos_w, blocks.1.attn.rel_pos_h, '
                         'blocks.1.attn.rel_pos_w and 2 more')
    assert len(lines) <= 6


def refusal(model, path, **kwargs):
    """Return the error for a refused checkpoint; the model must not have changed."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_official(model, path, **kwargs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    line = str(caught.value)
    assert str(path) in line and '\n' not in line
    return line


def test_a_checkpoint_of_another_kind(tmp_path):
    path = save(tmp_path / 'resnet.pth', {'conv1.weight': torch.zeros(1), 'layer1.0.conv1.weight': torch.zeros(1)})
    line = refusal(models.backbone(2), path)
    assert 'the format of the weights is unknown (first names: conv1.weight, layer1.0.conv1.weight)' in line
    assert all(name in line for name in ('detectron2 ViTDet', 'mmdet projects/ViTDet', 'EasyCV', 'SAM', 'MAE'))


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(arch=dict(embed_dim=16, depth=2, num_heads=2)), r'has 3 blocks in backbone.blocks, the model has 2;'),
    (dict(arch=dict(embed_dim=16, depth=4, num_heads=2)), r'has 3 blocks in backbone.blocks, the model has 4;'),
    (dict(arch=dict(embed_dim=24, depth=3, num_heads=2)), r'is \(.*\), the model requires \('),
    (dict(use_abs_pos=False), r'has 1 weights that the model lacks \(backbone.pos_embed\)'),
])
def test_a_checkpoint_of_another_size(tmp_path, changes, message):
    path = save(tmp_path / 'x.pth', models.backbone(1).state_dict())
    line = refusal(models.backbone(2, **changes), path)
    assert re.search(message, line)
    assert line.endswith('check that the config describes this model')


def test_a_position_embedding_without_a_square_grid(tmp_path):
    """10 x 20 positions are not 14 x 14 with four class tokens."""
    state = {**models.backbone(1).state_dict(), 'pos_embed': torch.zeros(1, 200, 16)}
    assert 'pos_embed is (1, 200, 16)' in refusal(models.backbone(2), save(tmp_path / 'x.pth', state))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    state = models.backbone(1).state_dict()
    state['blocks.1.mlp.fc1.weight'] = torch.full_like(state['blocks.1.mlp.fc1.weight'], value)
    line = refusal(models.backbone(2), save(tmp_path / 'x.pth', state))
    assert f'1 of {len(state)} weights are NaN or infinite (the first: blocks.1.mlp.fc1.weight); its training' in line


def test_missing_weights_can_be_an_error(tmp_path):
    path = save(tmp_path / 'mae.pth', official_names.mae(models.backbone(1).state_dict()))
    assert 'lacks 6 weights of the model (blocks.0.attn.rel_pos_h' in refusal(models.backbone(2), path,
                                                                              allow_missing=False)


@pytest.mark.parametrize('kind', ['Pretrained', 'OfficialCheckpoint'])
def test_init_cfg_takes_official_files(tmp_path, kind):
    source = models.backbone(1)
    path = save(tmp_path / 'mae.pth', official_names.mae(source.state_dict()))
    target = MODELS.build(dict(
        type='ViTDet', arch=dict(embed_dim=16, depth=3, num_heads=2), img_size=64, window_size=2, pretrain_img_size=32,
        init_cfg=dict(type=kind, checkpoint=str(path))))
    target.init_weights()
    assert torch.equal(target.pos_embed, source.pos_embed)
    assert (target.blocks[0].attn.rel_pos_h == 0).all()


def test_init_cfg_with_a_missing_file():
    target = models.backbone(1, init_cfg=dict(type='Pretrained', checkpoint='nowhere/mae.pth'))
    with pytest.raises(UserError, match='nowhere/mae.pth does not exist'):
        target.init_weights()
