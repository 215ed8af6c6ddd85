"""A resumed run removes checkpoints of its own folder only, wherever the folder is and was."""

import itertools
import shutil

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner

from tests.compat.test_runner_checkpoint import Points, Regression
from vitdet_plugin.compat.safe_load import load_torch_file
from vitdet_plugin.errors import UserError

NUMBERS = itertools.count()
pytestmark = pytest.mark.filterwarnings('ignore')


class Predicting(Regression):
    def forward(self, x, mode='loss'):
        return super().forward(x) if mode == 'loss' else [dict(x=0.)]


class Scripted(BaseMetric):
    """Returns the given scores, one for each evaluation."""

    def __init__(self, scores):
        super().__init__()
        self.scores = list(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        score = self.scores.pop(0)
        return dict(ap=score, other=-score)


def train(work_dir, scores, *, resume=None, save_best='ap', keep=2, optimizer='SGD', rule='greater'):
    """Train one epoch for each score, after those of ``resume``; returns the names of the checkpoints."""
    done = load_torch_file(resume)['meta']['epoch'] if resume else 0
    loader = dict(batch_size=2, dataset=Points(serialize_data=False), collate_fn=dict(type='default_collate'),
                  sampler=dict(type='DefaultSampler', shuffle=False))
    torch.manual_seed(0)
    runner = Runner(
        Predicting(), str(work_dir), experiment_name=f'folders{next(NUMBERS)}',
        train_dataloader=loader, val_dataloader=loader, val_cfg=dict(), val_evaluator=[Scripted(scores)],
        train_cfg=dict(by_epoch=True, max_epochs=done + len(scores)),
        optim_wrapper=dict(optimizer=dict(type=optimizer, lr=0.1)), load_from=str(resume) if resume else None,
        resume=resume is not None,
        log_level='ERROR', default_hooks=dict(
            state=dict(type='ResumeStateHook'),
            checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=keep, save_best=save_best,
                            rule=rule)))
    runner.train()
    return files(work_dir)


def files(folder):
    return sorted(path.stem for path in folder.glob('*.pth'))


def test_another_folder_is_left_as_it_is(tmp_path, capsys):
    train(tmp_path / 'a', [0.5, 0.4, 0.3])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'a').rglob('*')}
    assert files(tmp_path / 'a') == ['best_ap_epoch_1', 'epoch_2', 'epoch_3']
    (tmp_path / 'b').mkdir()
    shutil.copy(tmp_path / 'a' / 'epoch_2.pth', tmp_path / 'b')  # not a file of run b, although it has such a name
    names = train(tmp_path / 'b', [0.2, 0.6, 0.1, 0.3], resume=tmp_path / 'a' / 'epoch_3.pth')
    assert names == ['best_ap_epoch_5', 'epoch_2', 'epoch_6', 'epoch_7']
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / 'a').rglob('*')} == before
    assert f'{tmp_path}/a/best_ap_epoch_1.pth (0.5), is not in {tmp_path}/b' in capsys.readouterr().out


@pytest.mark.parametrize('how', ['renamed', 'copied', 'linked', 'relative'])
def test_the_run_continues_in_its_folder(tmp_path, how, monkeypatch):
    train(tmp_path / 'a', [0.5, 0.4])
    new = tmp_path / 'b'
    if how == 'renamed':
        (tmp_path / 'a').rename(new)
    elif how == 'copied':
        shutil.copytree(tmp_path / 'a', new)
    elif how == 'linked':
        new.symlink_to(tmp_path / 'a')
    else:
        monkeypatch.chdir(tmp_path)
        new = (tmp_path / 'a').relative_to(tmp_path)
    assert train(new, [0.3], resume=new / 'epoch_2.pth') == ['best_ap_epoch_1', 'epoch_2', 'epoch_3']
    assert train(new, [0.6], resume=new / 'epoch_3.pth') == ['best_ap_epoch_4', 'epoch_3', 'epoch_4']
    if how == 'copied':
        assert files(tmp_path / 'a') == ['best_ap_epoch_1', 'epoch_1', 'epoch_2']


def test_a_best_checkpoint_that_was_deleted_is_replaced_by_the_next(tmp_path):
    train(tmp_path / 'a', [0.5, 0.4])
    (tmp_path / 'a' / 'best_ap_epoch_1.pth').unlink()
    assert 'best_ap_epoch_3' in train(tmp_path / 'a', [0.2], resume=tmp_path / 'a' / 'epoch_2.pth')


def test_without_a_best_checkpoint_if_the_name_of_the_metric_does_not_say_which_is_better(tmp_path):
    assert train(tmp_path / 'a', [0.5, 0.4], save_best='auto', rule=None) == ['epoch_1', 'epoch_2']
    assert train(tmp_path / 'b', [0.5, 0.4], save_best='auto', rule='less') == ['best_ap_epoch_2', 'epoch_1', 'epoch_2']


def test_several_metrics_and_fewer_checkpoints(tmp_path):
    train(tmp_path / 'a', [0.5, 0.4], save_best=['ap', 'other'])
    assert files(tmp_path / 'a') == ['best_ap_epoch_1', 'best_other_epoch_2', 'epoch_1', 'epoch_2']
    train(tmp_path / 'b', [0.6], save_best=['ap', 'other'], resume=tmp_path / 'a' / 'epoch_2.pth')
    assert files(tmp_path / 'a') == ['best_ap_epoch_1', 'best_other_epoch_2', 'epoch_1', 'epoch_2']
    names = train(tmp_path / 'a', [0.6], save_best=['ap', 'other'], keep=1, resume=tmp_path / 'a' / 'epoch_2.pth')
    assert names == ['best_ap_epoch_3', 'best_other_epoch_2', 'epoch_3']


def test_the_interrupted_checkpoint_of_another_run_is_kept(tmp_path):
    train(tmp_path / 'a', [0.5])
    path = tmp_path / 'a' / 'iter_1.pth'
    content = torch.load(tmp_path / 'a' / 'epoch_1.pth', weights_only=False)
    content['message_hub']['runtime_info']['interrupted_ckpt'] = str(path)
    torch.save(content, path)
    train(tmp_path / 'b', [0.5], resume=path)
    assert path.exists()
    (tmp_path / 'a').rename(tmp_path / 'c')
    assert 'iter_1' not in train(tmp_path / 'c', [0.5], resume=tmp_path / 'c' / 'iter_1.pth')


def test_the_state_of_another_optimizer_is_refused(tmp_path):
    train(tmp_path / 'a', [0.5])
    with pytest.raises(UserError, match='epoch_1.pth is not that of AdamW: amsgrad, betas, .* --load-from'):
        train(tmp_path / 'a', [0.5], resume=tmp_path / 'a' / 'epoch_1.pth', optimizer='AdamW')
