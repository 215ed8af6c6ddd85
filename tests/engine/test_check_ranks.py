import pytest
from mmengine.config import Config

from vitdet_plugin.engine import check_ranks
from vitdet_plugin.engine.check_ranks import check_same_settings
from vitdet_plugin.errors import UserError


@pytest.fixture
def compare(monkeypatch):
    """Return a function that checks the configs of several ranks; every rank has to come to the same result."""
    def check(*configs):
        collected, results = [], []
        monkeypatch.setattr(check_ranks, 'is_distributed', lambda: True)
        monkeypatch.setattr(check_ranks, 'all_gather_object', lambda own: [collected.append(own), own][1:])
        for each in configs:
            check_same_settings(Config(each))
        monkeypatch.setattr(check_ranks, 'all_gather_object', lambda own: collected)
        for each in configs:
            try:
                check_same_settings(Config(each))
                results.append(None)
            except UserError as error:
                results.append(str(error))
        assert len(set(results)) == 1
        return results[0]
    return check


def settings(lr=0.1, seed=0, **rest):
    return dict(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999))), randomness=dict(seed=seed),
                **rest)


def test_equal_settings_of_other_nodes(compare):
    def model(path):
        return dict(backbone=dict(init_cfg=dict(checkpoint=path), depth=2), init=lambda: path)

    assert compare(*(settings(model=model(path), work_dir=path, train_dataloader=dict(dataset=dict(data_root=path)))
                     for path in ('/a', '/b'))) is None


@pytest.mark.parametrize('other, expected', [
    (settings(lr=0.2), 'optim_wrapper.optimizer.lr=0.1 on rank 0 and 0.2 on rank 2: start all ranks with the same'),
    (settings(seed=1), 'randomness.seed=0 on rank 0 and 1 on rank 2'),
    (settings(seed=1, model=dict(a=1, b=2, c=3)),
     'model.a=None on rank 0 and 1 on rank 2; model.b=None on rank 0 and 2 on rank 2; model.c=None on rank 0 and 3 on '
     'rank 2 and 1 more'),
    (settings(train_cfg=dict(max_iters=5)), 'train_cfg.max_iters=None on rank 0 and 5 on rank 2')])
def test_differences_are_named_on_every_rank(compare, other, expected):
    assert compare(settings(), settings(), other).startswith(expected)


def test_one_process_has_nothing_to_compare():
    check_same_settings(Config(settings()))
