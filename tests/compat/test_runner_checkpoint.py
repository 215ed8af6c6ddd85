"""A checkpoint saved by mmengine's Runner, with all of its entries, loads and resumes."""

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from vitdet_plugin.compat.safe_load import load_torch_file


class Regression(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x, mode='loss'):
        return dict(loss=self.layer(x).square().mean())


class Points(BaseDataset):
    METAINFO = dict(classes=('a', 'b'), palette=[(1, 2, 3), (4, 5, 6)])

    def load_data_list(self):
        return [dict(x=torch.tensor([i, -i], dtype=torch.float32)) for i in range(1, 5)]

    def prepare_data(self, idx):
        return dict(x=self.get_data_info(idx)['x'])


def runner(work_dir, epochs, **kwargs):
    points = Points(serialize_data=False)
    return Runner(
        Regression(), str(work_dir), experiment_name=f'{work_dir.name}{epochs}',
        train_dataloader=dict(batch_size=2, dataset=points, sampler=dict(type='DefaultSampler', shuffle=True),
                              collate_fn=dict(type='default_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(type='AutocastOptimWrapper', dtype='fp16', loss_scale=64.,
                           optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[dict(type='MultiStepLR', milestones=[2])], custom_hooks=[dict(type='EMAHook')],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)), **kwargs)


@pytest.mark.filterwarnings('ignore')
def test_saved_by_runner_loads_and_resumes(tmp_path):
    first = runner(tmp_path, 2)
    first.train()
    saved = load_torch_file(tmp_path / 'epoch_2.pth')
    assert {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers', 'ema_state_dict'} <= saved.keys()
    assert saved['meta']['dataset_meta']['classes'] == ('a', 'b')
    assert saved['optimizer']['loss_scaler']['scale'] == 64.0
    assert saved['message_hub']['log_scalars']['train/loss'].statistics('mean') > 0
    second = runner(tmp_path, 3, load_from=str(tmp_path / 'epoch_2.pth'), resume=True)
    second.train()
    assert second.epoch == 3
    assert second.optim_wrapper.loss_scaler._growth_tracker == 6  # 2 steps an epoch, counted on from the checkpoint
