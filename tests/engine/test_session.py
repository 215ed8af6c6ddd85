import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from tests.end_to_end.tiny_set import CONFIG
from vitdet_plugin.engine.runners import QuietRunner
from vitdet_plugin.engine.session import SessionOptions, load_session_config, resolve_launcher, use_strategy
from vitdet_plugin.errors import UserError

TORCHRUN = dict(RANK='0', WORLD_SIZE='2', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='1')


def load(config=CONFIG, **options):
    return load_session_config(str(config), SessionOptions(**options))


def test_the_launcher_is_found_in_the_environment():
    assert resolve_launcher(None, {}) == 'none'
    assert resolve_launcher(None, TORCHRUN) == 'pytorch'
    assert resolve_launcher('slurm', {}) == 'slurm'
    with pytest.raises(UserError, match='WORLD_SIZE=2'):
        resolve_launcher('none', TORCHRUN)


def test_the_launcher_pytorch_without_torchrun_is_one_process_with_a_warning(monkeypatch, capsys):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert load(launcher='pytorch').launcher == 'none'
    assert 'torchrun --nproc-per-node N' in capsys.readouterr().err
    assert resolve_launcher('pytorch', TORCHRUN) == 'pytorch' and not capsys.readouterr().err


@pytest.mark.parametrize('environ', [dict(WORLD_SIZE='2'), dict(SLURM_PROCID='1'), dict(OMPI_COMM_WORLD_RANK='0')])
def test_an_incomplete_environment_of_the_launcher_is_an_error(environ, monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match='RANK is not set; start with torchrun'):
        load(launcher='pytorch')


@pytest.mark.parametrize('given, in_config, used', [
    ('/a', '/b', '/a'), (None, '/b', '/b'), (None, None, 'work_dirs/tiny_vitdet')])
def test_work_dir_comes_from_the_command_the_config_or_its_name(given, in_config, used):
    options = [f'work_dir={in_config}'] if in_config else []
    assert load(work_dir=given, cfg_options=options).work_dir == used


def test_a_copied_work_directory_is_that_of_its_own_run(tmp_path, monkeypatch):
    first, copy = tmp_path / 'first', tmp_path / 'copy'
    copy.mkdir()
    (copy / 'tiny_vitdet.py').write_text(f'_base_ = {str(CONFIG)!r}\nwork_dir = {str(first)!r}\n')
    assert load(copy).work_dir == str(first)  # a folder with a config only
    (copy / 'iter_3.pth').touch()
    assert load(copy).work_dir == str(copy)
    assert load(copy / 'tiny_vitdet.py').work_dir == str(first)
    assert load(copy, work_dir='other').work_dir == 'other'
    assert load(copy, cfg_options=['work_dir=other']).work_dir == 'other'
    monkeypatch.chdir(tmp_path)
    assert load('copy').work_dir == 'copy'


def test_the_default_logger_becomes_the_progress_line_with_its_settings():
    cfg = load(cfg_options=['default_hooks.logger.interval=7'])
    assert cfg.default_hooks.logger == dict(type='ProgressHook', interval=7)


def test_safe_hooks_are_set_and_others_are_kept(tmp_path):
    cfg = load(cfg_options=['default_hooks.checkpoint.interval=3'])
    assert cfg.default_hooks.checkpoint == dict(type='AtomicCheckpointHook', interval=3)
    assert [cfg.default_hooks[name].type for name in ('resume_state', 'nonfinite_loss', 'stop')] == [
        'ResumeStateHook', 'NonFiniteLossHook', 'StopHook']
    config = tmp_path / 'other.py'
    config.write_text(f"_base_ = {str(CONFIG)!r}\ndefault_hooks = dict(checkpoint=dict(type='OtherHook'), stop=None)\n")
    cfg = load(config=str(config))
    assert cfg.default_hooks.checkpoint.type == 'OtherHook' and cfg.default_hooks.stop is None


def test_a_strategy_selects_its_runner_and_needs_ranks(tiny_config):
    tiny_config.strategy = dict(type='FSDPStrategy')
    with pytest.raises(UserError, match='torchrun'):
        use_strategy(tiny_config)
    tiny_config.launcher = 'pytorch'
    use_strategy(tiny_config)
    assert tiny_config.strategy.type == 'FullyShardStrategy' and tiny_config.runner_type == 'QuietFlexibleRunner'


def test_the_runner_loads_official_weights(tiny_config, write_mae):
    from vitdet_plugin.engine.runners import build_runner
    path, weights = write_mae()
    tiny_config.load_from = path
    runner = build_runner(tiny_config)
    runner.load_or_resume()
    loaded = runner.model.state_dict()
    for name in ('patch_embed.proj.weight', 'blocks.1.mlp.fc2.bias'):
        assert loaded[f'backbone.{name}'].equal(weights[name])


class Classifier(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.head(self.backbone(inputs))


def test_averaged_weights_are_those_of_a_loaded_classifier(tmp_path):
    """EMAHook copies the model before the checkpoint is read and tests with the copy, which must be loaded too."""
    trained = Classifier().state_dict()
    torch.save(dict(state_dict=trained), tmp_path / 'trained.pth')
    runner = QuietRunner(Classifier(), str(tmp_path), custom_hooks=[dict(type='EMAHook')], default_scope='mmengine',
                         experiment_name='averaged')
    runner.call_hook('before_run')
    runner.load_checkpoint(str(tmp_path / 'trained.pth'))
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    for swap in (hook.before_test_epoch, hook.after_test_epoch):
        swap(runner)
        assert all(torch.equal(value, trained[name]) for name, value in runner.model.state_dict().items())
