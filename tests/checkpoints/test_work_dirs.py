"""A work directory, or a name, in place of a checkpoint that a backbone starts from."""

import pytest
import torch

from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.checkpoints.fetching import local_file, present_file
from vitdet_plugin.checkpoints.published import TABLE
from vitdet_plugin.checkpoints.work_dirs import holds_weights
from vitdet_plugin.engine.check_weights import check_file
from vitdet_plugin.engine.inference import find_checkpoint
from vitdet_plugin.errors import UserError


def small(**arguments) -> ViTDet:
    return ViTDet(arch=dict(embed_dim=16, depth=2, num_heads=2), img_size=32, window_size=2, **arguments)


@pytest.fixture
def work_dir(tmp_path):
    for name in ('iter_1.pth', 'iter_2.pth', 'best_bbox_mAP_iter_1.pth'):
        source = small()
        source.init_weights()
        weights = {f'backbone.{key}': value for key, value in source.state_dict().items()}
        torch.save(dict(state_dict=dict(weights, **{'rpn_head.rpn_cls.bias': torch.zeros(3)})), tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_2.pth')
    return tmp_path


def test_best_or_newest(work_dir):
    best = work_dir / 'best_bbox_mAP_iter_1.pth'
    assert local_file(work_dir) == present_file(str(work_dir)) == best
    assert check_file('model.backbone.init_cfg.checkpoint', str(work_dir)) == []
    weights = torch.load(best)['state_dict']
    best.unlink()
    assert local_file(work_dir) == work_dir / 'iter_2.pth'
    backbone = small(pretrained=str(work_dir))
    backbone.init_weights()
    expected = torch.load(work_dir / 'iter_2.pth')['state_dict']['backbone.pos_embed']
    assert torch.equal(backbone.pos_embed, expected) and not torch.equal(weights['backbone.pos_embed'], expected)


def test_a_damaged_checkpoint_is_skipped_everywhere(work_dir, capsys):
    best, newest = work_dir / 'best_bbox_mAP_iter_1.pth', work_dir / 'iter_2.pth'
    for file, expected in ((best, newest), (newest, work_dir / 'iter_1.pth')):
        content = file.read_bytes()
        file.write_bytes(content[:len(content) // 2])
        for _ in range(2):
            assert local_file(work_dir) == present_file(str(work_dir)) == find_checkpoint(work_dir) == expected
        line, = capsys.readouterr().err.splitlines()
        assert line.startswith(f'warning: {file} is skipped: ')
    (work_dir / 'iter_1.pth').unlink()
    with pytest.raises(UserError, match='holds no checkpoint'):
        find_checkpoint(work_dir)


def test_a_folder_without_checkpoints(tmp_path):
    with pytest.raises(UserError, match=r'is a folder without checkpoints \(best_'):
        small(pretrained=str(tmp_path)).init_weights()
    (finding,) = check_file('model.backbone.init_cfg.checkpoint', str(tmp_path))
    assert finding.level == 'error' and 'is a folder without checkpoints' in finding.text


def test_published_files_and_names_are_weights(work_dir, tmp_path):
    assert all(holds_weights(entry.file_name) and holds_weights(entry.name) for entry in TABLE.values())
    assert all(map(holds_weights, ('timm:vit_tiny_patch16_224', 'a/pytorch_model.BIN', work_dir)))
    assert not any(map(holds_weights, ('a.jpg', 'images', 'a.tar', 'path', 'vitdet_demo', tmp_path / 'none')))


def test_argument_of_a_backbone():
    assert small(pretrained='mae_b').init_cfg == dict(type='Pretrained', checkpoint='mae_b')
    assert small(pretrained=False).init_cfg is None
    with pytest.raises(UserError, match='both say what the backbone starts from'):
        small(pretrained='mae_b', init_cfg=dict(type='Pretrained', checkpoint='x.pth'))
    with pytest.raises(UserError, match=r'no published weights have this name \(did you mean dinov2_s14'):
        small(pretrained='dinov2_s15').init_weights()
