import pytest

from vitdet_plugin.engine.train import TrainOptions, apply_train_options, use_amp
from vitdet_plugin.errors import UserError


@pytest.mark.parametrize('dtype, expected', [('auto', 'bf16'), ('bf16', 'bf16'), ('fp16', 'fp16')])
def test_mixed_precision_keeps_the_other_settings_of_the_wrapper(tiny_config, monkeypatch, dtype, expected):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    tiny_config.optim_wrapper.constructor = 'LayerWiseDecayConstructor'
    tiny_config.optim_wrapper.paramwise_cfg = dict(layer_decay_rate=0.7)
    before = tiny_config.optim_wrapper.to_dict()
    use_amp(tiny_config, dtype)
    assert tiny_config.optim_wrapper.to_dict() == {**before, 'type': 'AutocastOptimWrapper', 'dtype': expected}


def test_mixed_precision_on_a_gpu_and_with_sharding(tiny_config, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    use_amp(tiny_config, 'auto')
    assert tiny_config.optim_wrapper.dtype == 'fp16'
    tiny_config.strategy = dict(type='BlockFSDPStrategy')
    use_amp(tiny_config, 'auto')
    assert tiny_config.optim_wrapper.dtype == 'bf16'
    use_amp(tiny_config, 'fp16')  # only mmengine's wrapper has a gradient scaler that synchronizes ranks
    assert (tiny_config.optim_wrapper.type, tiny_config.optim_wrapper.use_fsdp) == ('AmpOptimWrapper', True)


def test_mixed_precision_rejects_unknown_wrappers(tiny_config):
    tiny_config.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(UserError, match='ApexOptimWrapper'):
        use_amp(tiny_config, 'bf16')


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
