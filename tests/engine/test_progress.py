import json
import logging
import mmap
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import iter_timer_hook
from mmengine.model import BaseModel
from torch.utils.data import Dataset

from vitdet_plugin.engine import progress
from vitdet_plugin.engine.progress import ProgressHook, describe_metrics, describe_training, process_memory_mb
from vitdet_plugin.engine.runners import QuietRunner


class Numbers(Dataset):
    metainfo = dict(classes=('a',))

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([float(index)]))


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode='tensor'):
        loss = (self.weight * inputs).square().mean()
        return dict(loss_first=loss, loss_second=2 * loss) if mode == 'loss' else [inputs]

    def val_step(self, data):
        return [data]

    test_step = val_step


class Share:
    """Evaluator methods that print to standard output, as pycocotools does."""

    dataset_meta = None

    def process(self, data_batch, data_samples):
        pass

    def evaluate(self, size):
        print('Average Precision table')
        return {'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_s': -1}


def run(tmp_path, train_cfg, live=False, interval=2, log_processor=None, **hooks):
    from mmengine.evaluator import Evaluator

    class Printing(Share, Evaluator):
        def __init__(self):
            super(Share, self).__init__([])

    loader = dict(dataset=Numbers(), batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                  collate_fn=dict(type='default_collate'))
    name = re.sub(r'\W', '_', str(tmp_path))
    runner = QuietRunner(
        Line(), str(tmp_path), train_dataloader=loader, val_dataloader=dict(loader), train_cfg=train_cfg,
        val_cfg=dict(), val_evaluator=Printing(), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        experiment_name=name,
        default_hooks=dict(logger=dict(type='ProgressHook', interval=interval, live=live), **hooks),
        log_processor=log_processor)
    runner.train()
    scalars = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [json.loads(line) for line in scalars], next(tmp_path.glob('*/*.log')).read_text()


def test_an_epoch_based_run(tmp_path, capsys):
    scalars, log = run(tmp_path, dict(by_epoch=True, max_epochs=2))
    output = capsys.readouterr().out
    losses = [each for each in scalars if 'loss' in each]
    assert [each['step'] for each in losses] == [2, 4, 6, 8, 10, 12]
    assert {'loss_first', 'loss_second', 'lr', 'time', 'data_time', 'memory'} <= set(losses[0])
    assert re.search(r'train  8/12  epoch 2/2  eta 0:\d\d:\d\d  \d+ ms/it \(data [\d.]+\)  lr 1.00e-02  '
                     r'mem [\d.]+ [MG]B  loss [\d.]+ \(first [\d.]+, second [\d.]+\)', output)
    assert 'val 4/6' in output and 'val @ epoch 2  bbox_mAP 0.2500\n' in output
    evaluations = [each for each in scalars if 'coco/bbox_mAP' in each]
    assert [each['step'] for each in evaluations] == [1, 2]
    assert 'Average Precision' not in output and 'Average Precision' in log
    assert 'System environment' not in output and 'System environment' in log


def test_an_iteration_based_run_ends_on_its_last_iteration(tmp_path, capsys):
    scalars, _ = run(tmp_path, dict(by_epoch=False, max_iters=7, val_interval=5), interval=3,
                     log_processor=dict(by_epoch=False))
    output = capsys.readouterr().out
    assert [each['step'] for each in scalars if 'loss' in each] == [3, 6, 7]
    assert [each['step'] for each in scalars if 'coco/bbox_mAP' in each] == [5, 7]  # iterations, not epoch 0
    assert 'train 7/7  eta' in output and 'val @ iteration 5' in output


@pytest.mark.parametrize('train_cfg', [dict(by_epoch=False, max_iters=8, val_interval=2),
                                       dict(by_epoch=True, max_epochs=2)])
def test_the_time_for_data_is_that_of_the_loader(tmp_path, monkeypatch, train_cfg):
    """One second for a sample; evaluations, the loss on the validation set and checkpoints take longer."""
    clock = SimpleNamespace(now=0.0)
    clock.time = lambda: clock.now
    monkeypatch.setattr(iter_timer_hook, 'time', clock)
    monkeypatch.setattr(progress, 'time', clock)

    def spend(seconds, function):
        def wrapped(*args, **kwargs):
            clock.now += seconds
            return function(*args, **kwargs)
        return wrapped

    for seconds, owner, name in ((1, Numbers, '__getitem__'), (5, Line, 'train_step'), (100, Share, 'evaluate'),
                                 (1000, QuietRunner, 'save_checkpoint'), (10, ProgressHook, 'after_val_epoch')):
        monkeypatch.setattr(owner, name, spend(seconds, getattr(owner, name)))
    scalars, _ = run(tmp_path, train_cfg, interval=1, log_processor=dict(window_size=1, by_epoch=train_cfg['by_epoch']),
                     checkpoint=dict(type='AtomicCheckpointHook', interval=3, by_epoch=False))
    times = [(each['data_time'], each['time']) for each in scalars if 'loss' in each]
    assert times == [(1, 6)] * len(times) and len(times) >= 8


def test_a_live_bar_replaces_the_lines_on_the_terminal(tmp_path, capsys):
    scalars, log = run(tmp_path, dict(by_epoch=True, max_epochs=1), live=True)
    output = capsys.readouterr().out
    assert 'train 6/6' not in output and re.search(r'train +━+ 6/6 ', output)  # the bar, not the line
    assert 'val @ epoch 1  bbox_mAP 0.2500' in output  # results are printed above the bar
    assert 'train 6/6' in log and len([each for each in scalars if 'loss' in each]) == 3


def test_other_ranks_show_no_bar(tmp_path):
    hook = ProgressHook(live=True)
    hook.before_run(type('Runner', (), dict(rank=1, logger=logging.getLogger('other'), timestamp='now')))
    assert hook._bar is None


@pytest.mark.parametrize('scalars, line', [
    (dict(time=2.0, data_time=0.5, memory=2048, loss=1.0, loss_a=0.25, loss_b=0.75, acc=3.0),
     'eta 1:00:00  2.00 s/it (data 0.50)  lr 1.00e-04  mem 2.0 GB  loss 1.0000 (a 0.2500, b 0.7500)'),
    ({'time': 0.05, 'memory': 100, 'grad_norm': 3.14, 'loss': 1.0, 's0.loss_cls': 1.0},
     'eta 1:00:00  50 ms/it (data 0.00)  lr 1.00e-04  mem 100 MB  grad 3.14  loss 1.0000'),
])
def test_line_of_training(scalars, line):
    assert describe_training(scalars, 3600, 1e-4) == line


def test_line_of_metrics_omits_times_and_undefined_values():
    scalars = {'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_l': -1.0, 'time': 1.0, 'data_time': 0.1, 'coco/text': 'x'}
    assert describe_metrics(scalars) == 'bbox_mAP 0.5000'
    assert describe_metrics({}) == 'no metrics'
    two = {'a/coco/bbox_mAP': 0.5, 'b/coco/bbox_mAP': 0.25, 'a/coco/bbox_mAP_50': 0.75}
    assert describe_metrics(two) == 'a/coco/bbox_mAP 0.5000  b/coco/bbox_mAP 0.2500  bbox_mAP_50 0.7500'


def test_memory_grows_with_allocations():
    before = process_memory_mb()
    with mmap.mmap(-1, 256 * 2**20) as pages:  # new pages; a tensor may reuse memory of the process
        for start in range(0, len(pages), mmap.PAGESIZE):
            pages[start] = 1
        assert process_memory_mb() - before > 200
