import os

import pytest
import torch

from tests.utils.file_server import FileServer, use_own_caches
from vitdet_plugin.engine.resume import apply_resume, newest_intact
from vitdet_plugin.errors import UserError


def save(path, age=0, seed=4, **meta):
    hub = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    torch.save(dict(meta=dict(dict(epoch=1, iter=10, seed=seed), **meta), state_dict=dict(a=torch.ones(100)),
                    optimizer={}, message_hub=hub), path)
    os.utime(path, (1000 - age, 1000 - age))
    return str(path)


def cut(path, at=-40):
    content = path.read_bytes()
    path.write_bytes(content[:at])


def flip(path):
    """Change one byte of a tensor; the archive's directory stays intact."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(100).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)


@pytest.fixture
def cfg(tiny_config, tmp_path):
    tiny_config.work_dir = str(tmp_path)
    return tiny_config


def test_without_a_checkpoint_training_starts_from_the_given_weights(cfg):
    cfg.load_from = 'weights.pth'
    assert apply_resume(cfg, 'auto') is None
    assert cfg.resume is False and cfg.load_from == 'weights.pth'


def test_from_a_file_with_its_seed(cfg, tmp_path, capsys):
    cfg.randomness = dict(seed=0, deterministic=True)
    path = save(tmp_path / 'a.pth')
    assert apply_resume(cfg, path) == cfg.load_from == path
    assert cfg.resume is True and cfg.randomness == dict(seed=4, deterministic=True)
    assert 'seed of the checkpoint, 4, not 0' in capsys.readouterr().out
    with pytest.raises(UserError, match='b.pth does not exist'):
        apply_resume(cfg, str(tmp_path / 'b.pth'))


def test_from_a_url(cfg, tmp_path, monkeypatch):
    use_own_caches(monkeypatch, tmp_path)
    whole, weights = tmp_path / 'a.pth', tmp_path / 'weights.pth'
    save(whole)
    torch.save(dict(state_dict={}), weights)
    files = {'a.pth': whole.read_bytes(), 'weights.pth': weights.read_bytes(), 'page.pth': b'<html>'}
    with FileServer(files) as server:
        assert apply_resume(cfg, f'{server.url}/a.pth') == cfg.load_from == f'{server.url}/a.pth'
        assert cfg.randomness['seed'] == 4
        for name, message in (('weights', 'holds no training state'), ('page', 'page.pth.* is a web page')):
            with pytest.raises(UserError, match=message):
                apply_resume(cfg, f'{server.url}/{name}.pth')


def test_from_a_work_directory(cfg, tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    with pytest.raises(UserError, match='--resume: .*run holds no intact checkpoint .*; give a file or a'):
        apply_resume(cfg, str(run))
    save(run / 'iter_10.pth', age=5)
    newest = save(run / 'iter_20.pth')
    assert apply_resume(cfg, str(run)) == cfg.load_from == newest


@pytest.mark.parametrize('damage, message', [(cut, 'truncated'), (flip, 'checksum of its record')])
def test_a_damaged_file_is_refused_by_name(cfg, tmp_path, damage, message):
    path = save(tmp_path / 'a.pth')
    damage(tmp_path / 'a.pth')
    with pytest.raises(UserError, match=f'a.pth cannot be used.*{message}'):
        apply_resume(cfg, path)


def test_weights_alone_cannot_be_resumed(cfg, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'a.pth')
    with pytest.raises(UserError, match='--load-from'):
        apply_resume(cfg, str(tmp_path / 'a.pth'))


def test_a_checkpoint_without_the_state_of_its_optimizer_is_refused(cfg, tmp_path):
    """The moments of the optimizer would start from zero."""
    path = save(tmp_path / 'a.pth')
    content = torch.load(path)
    del content['optimizer']
    torch.save(content, path)
    with pytest.raises(UserError, match=r'a\.pth holds no training state .*optimizer.*--load-from'):
        apply_resume(cfg, path)


@pytest.mark.parametrize(('key', 'value', 'says'), [
    ('iter', -5, 'iter=-5'), ('epoch', 10**30, f'epoch={10**30}'), ('iter', 'x', "iter='x'"),
    ('message_hub', 'foo', 'message_hub'), ('message_hub', dict(log_scalars={}), 'message_hub')])
def test_a_state_that_is_not_valid_is_one_line(cfg, tmp_path, key, value, says):
    path = save(tmp_path / 'a.pth')
    content = torch.load(path)
    (content['meta'] if key in ('iter', 'epoch') else content)[key] = value
    torch.save(content, path)
    with pytest.raises(UserError) as caught:
        apply_resume(cfg, path)
    assert f'a.pth is damaged ({says} is not valid)' in str(caught.value)


def test_the_newest_is_found_even_if_the_folder_was_moved(tmp_path):
    assert newest_intact(str(tmp_path))[0] is None
    for age, name in enumerate(['iter_20.pth', 'iter_10.pth']):
        save(tmp_path / name, age)
    assert newest_intact(str(tmp_path))[0] == str(tmp_path / 'iter_20.pth')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_10.pth')
    assert newest_intact(str(tmp_path))[0] == str(tmp_path / 'iter_10.pth')
    (tmp_path / 'iter_10.pth').unlink()  # the file that last_checkpoint names is missing
    assert newest_intact(str(tmp_path))[0] == str(tmp_path / 'iter_20.pth')


def test_damaged_files_are_skipped_by_name(cfg, tmp_path, capsys):
    for age, name in enumerate(['iter_40.pth', 'iter_30.pth', 'iter_20.pth', 'iter_10.pth']):
        save(tmp_path / name, age)
    flip(tmp_path / 'iter_40.pth')
    cut(tmp_path / 'iter_30.pth')
    (tmp_path / 'last_checkpoint').write_text('iter_40.pth')
    (tmp_path / '.iter_50.pth.1.unfinished').write_bytes(b'PK')
    assert apply_resume(cfg, 'auto') == str(tmp_path / 'iter_20.pth')
    out = capsys.readouterr().out
    assert 'iter_40.pth is skipped' in out and 'iter_30.pth is skipped' in out
    for name in ('iter_20.pth', 'iter_10.pth'):
        (tmp_path / name).write_bytes(b'')
    with pytest.raises(UserError, match='no checkpoint in .* is intact'):
        apply_resume(cfg, 'auto')


def test_a_restart_by_torchrun_uses_only_checkpoints_of_this_job(cfg, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'x')
    save(tmp_path / 'iter_10.pth')  # of an older run
    assert apply_resume(cfg, None, dict(TORCHELASTIC_RESTART_COUNT='0')) is None
    assert apply_resume(cfg, None, dict(TORCHELASTIC_RESTART_COUNT='1')) is None
    path = save(tmp_path / 'iter_20.pth')
    os.utime(path)
    assert apply_resume(cfg, None, dict(TORCHELASTIC_RESTART_COUNT='1')) == path and cfg.resume is True


def test_each_damaged_file_is_listed_once(tmp_path):
    save(tmp_path / 'iter_1.pth')
    cut(tmp_path / 'iter_1.pth')
    (tmp_path / 'last_checkpoint').write_text('iter_1.pth')
    path, lines = newest_intact(str(tmp_path))
    assert path is None and len(lines) == 1
