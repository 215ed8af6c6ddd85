"""The one-stage detector on two ranks with gloo: all parameters are used, so DDP need not find unused ones."""

import pytest
import torch

from tests.end_to_end.forked_ranks import train_ranks
from tests.end_to_end.tiny_set import CLASSES, ROOT, write_tiny_set

CONFIG = ROOT / 'configs/yolov5/yolov5_convnext-mini_pafpn_demo.py'


@pytest.fixture
def config(tmp_path):
    folder = write_tiny_set(tmp_path / 'set', images=8)
    data = f"dict(data_root={str(folder)!r}, ann_file='coco.json', data_prefix=dict(img='images/'), " \
           f'metainfo=dict(classes={CLASSES!r}))'
    path = tmp_path / 'two_ranks.py'
    path.write_text(f"""_base_ = {str(CONFIG)!r}
custom_imports = dict(imports=['vitdet_plugin', 'tests.end_to_end.rank_dump'], allow_failed_imports=False)
custom_hooks = [dict(type='AutoAnchorHook', img_size=160), dict(type='BiasWarmupHook', iters=2, bias_lr=0.0),
                dict(type='RankDumpHook')]
model = dict(
    backbone=dict(arch=dict(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), use_grn=True)),
    neck=dict(in_channels=[8] * 3, out_channels=[8] * 3), bbox_head=dict(in_channels=[8] * 3, num_classes=3,
    anchors=[[(300, 2)] * 3] * 3))
find_unused_parameters = False
data = {data}
train_dataloader = dict(batch_size=2, dataset=dict(dataset=data))
val_dataloader = dict(dataset=dict(dataset=data))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={str(folder / 'coco.json')!r})
test_evaluator = val_evaluator
param_scheduler = [dict(type='LinearLR', by_epoch=False, begin=0, end=3)]
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=3))
""")
    return path


def test_two_ranks_train_and_evaluate_one_model(config, tmp_path):
    result = train_ranks(config, '--work-dir', tmp_path / 'work', '--launcher', 'pytorch')
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = (torch.load(tmp_path / f'work/rank{rank}.pth') for rank in (0, 1))
    for name in first:
        if 'running_' not in name:  # statistics differ between ranks
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)
    assert first['bbox_head.anchors'].max() < 300  # replaced on both ranks
    assert 'bbox_mAP_50' in result.stdout
