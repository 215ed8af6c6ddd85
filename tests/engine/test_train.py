import pytest

from tests.end_to_end.tiny_set import CONFIG
from vitdet_plugin.engine.session import SessionOptions, load_session_config
from vitdet_plugin.engine.train import TrainOptions, apply_train_options
from vitdet_plugin.errors import UserError


def test_seed_scaling_and_validation(tiny_config):
    apply_train_options(tiny_config, TrainOptions(seed=5, deterministic=True, auto_scale_lr=True, validate=False,
                                                 load_from='weights.pth'))
    assert tiny_config.randomness == dict(seed=5, deterministic=True)
    assert tiny_config.auto_scale_lr == dict(base_batch_size=4, enable=True)
    assert tiny_config.val_dataloader is tiny_config.val_cfg is tiny_config.val_evaluator is None
    assert tiny_config.load_from == 'weights.pth'


def test_scaling_needs_a_base_batch_size(tiny_config):
    tiny_config.auto_scale_lr = None
    with pytest.raises(UserError, match='base_batch_size'):
        apply_train_options(tiny_config, TrainOptions(auto_scale_lr=True))


def test_metrics_of_the_final_evaluation(tiny_config):
    apply_train_options(tiny_config, TrainOptions(eval=['bbox']))
    assert tiny_config.test_evaluator.metric == ['bbox']
    with pytest.raises(UserError, match='did you mean bbox'):
        apply_train_options(tiny_config, TrainOptions(eval=['box']))


def test_resume_in_the_config_is_an_exact_resume(tiny_config, monkeypatch):
    asked = []
    monkeypatch.setattr('vitdet_plugin.engine.train.apply_resume', lambda cfg, resume: asked.append(resume))
    tiny_config.resume = True
    apply_train_options(tiny_config, TrainOptions())
    apply_train_options(tiny_config, TrainOptions(resume='b.pth'))
    tiny_config.load_from = 'a.pth'
    apply_train_options(tiny_config, TrainOptions())
    assert asked == ['auto', 'b.pth', 'a.pth']


def test_the_launcher_is_not_part_of_a_config():
    for options in (['launcher=pytorch'], dict(launcher='pytorch')):
        with pytest.raises(UserError, match='use --launcher'):
            load_session_config(str(CONFIG), SessionOptions(cfg_options=options))
