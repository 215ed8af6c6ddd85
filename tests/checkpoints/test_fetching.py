"""Weights by name: from the cache, from a mirror, without network; wherever a checkpoint can be given."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModule

from tests.checkpoints import models
from tests.utils.file_server import FileServer, use_own_caches
from tests.utils.refusals import refusal
from vitdet_plugin.checkpoints import fetching
from vitdet_plugin.checkpoints.converter import convert_checkpoint
from vitdet_plugin.checkpoints.fetching import local_file, present_file, use_local_files, verify
from vitdet_plugin.checkpoints.files import load_file
from vitdet_plugin.checkpoints.published import TABLE, find_published
from vitdet_plugin.errors import UserError

ROOT = Path(__file__).parents[2]
NAME, FILE = 'internimage_t_1k_224', 'internimage_t_1k_224.pth'  # neither checksum nor size are known


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    use_own_caches(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'cache'


@pytest.fixture
def weights(tmp_path):
    torch.save(dict(state_dict=models.backbone(1).state_dict()), tmp_path / 'mine.pth')
    return (tmp_path / 'mine.pth').read_bytes()


@pytest.fixture
def server(weights, monkeypatch):
    with FileServer({FILE: weights}) as running:
        monkeypatch.setenv('VITDET_MIRROR', f'{running.url}/')
        yield running


def test_a_name_is_downloaded_once(server, cache, capsys):
    assert present_file(NAME) is None and server.requests == []
    assert local_file(NAME) == local_file(NAME) == present_file(NAME) == cache / FILE
    assert server.requests == [(f'/{FILE}', None)]
    shown = capsys.readouterr().err.splitlines()
    assert [line.split(':')[0].split(' (')[0] for line in shown] == [f'downloading {FILE}', f'downloaded {FILE}']
    assert sorted(path.name for path in cache.iterdir()) == [FILE, f'{FILE}.sha256']


def test_init_cfg_converter_and_reader_accept_names(server, tmp_path):
    target = models.backbone(2, init_cfg=dict(type='Pretrained', checkpoint=NAME))
    target.init_weights()
    assert torch.equal(target.pos_embed, models.backbone(1).pos_embed)
    convert_checkpoint(NAME, tmp_path / 'out.pth')
    assert load_file(tmp_path / 'out.pth')['state_dict'].keys() and load_file(NAME)['state_dict'].keys()
    assert len(server.requests) == 1


def test_modules_of_others_get_the_path(server, cache):
    model = torch.nn.Sequential(BaseModule(init_cfg=[dict(type='Pretrained', checkpoint=NAME)]),
                                BaseModule(init_cfg=dict(type='Pretrained', checkpoint='mine.pth')), BaseModule())
    use_local_files(model)
    assert model[0].init_cfg == [dict(type='Pretrained', checkpoint=str(cache / FILE))]
    assert model[1].init_cfg['checkpoint'] == 'mine.pth'


def test_a_local_file_of_that_name_takes_precedence(server, tmp_path):
    (tmp_path / 'mine.pth').rename(tmp_path / NAME)
    assert local_file(NAME) == Path(NAME) and load_file(NAME) and server.requests == []


@pytest.mark.parametrize(('where', 'variable'), [
    ('cache', ''), ('torch/hub/checkpoints', ''), ('shared folder', 'VITDET_MIRROR'), ('weights', 'VITDET_WEIGHTS')])
def test_files_that_are_there_need_no_network(where, variable, weights, tmp_path, monkeypatch):
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / where))
    (tmp_path / where).mkdir(parents=True)
    (tmp_path / where / FILE).write_bytes(weights)
    assert local_file(NAME) == tmp_path / where / FILE


def test_a_mirror_by_the_variable_of_weights_comes_first(server, monkeypatch, cache):
    monkeypatch.setenv('VITDET_MIRROR', 'http://127.0.0.1:9')
    monkeypatch.setenv('VITDET_WEIGHTS', server.url)
    assert local_file(NAME) == cache / FILE and len(server.requests) == 1


def test_without_network(monkeypatch, cache):
    entry = TABLE['mae_b']
    monkeypatch.setenv('VITDET_MIRROR', 'http://127.0.0.1:9')
    assert refusal(local_file, 'mae_b') == (
        'mae_b: http://127.0.0.1:9/mae_pretrain_vit_base.pth cannot be downloaded: 127.0.0.1:9 cannot be reached: '
        f'Connection refused; download it by other means and put it at {cache / entry.file_name}')
    assert list(cache.iterdir()) == []
    line = refusal(local_file, 'dinov3_s16')
    assert 'request dinov3_vits16_pretrain_lvd1689m-08c60483.pth on https://ai.meta.com' in line
    monkeypatch.setenv('VITDET_CACHE', str(cache / 'a'))
    (cache / 'a').write_text('a file')
    line = refusal(local_file, 'mae_b')
    assert 'cannot be written' in line and 'set VITDET_CACHE to another folder' in line


def test_unknown_names():
    for name in ('dinov2_s15', 'checkpoints/mae_pretrain_vit_base.pth'):
        with pytest.raises(UserError, match='does not exist') as caught:
            load_file(name)
        assert 'did you mean dinov2_s14' in str(caught.value) or 'give mae_b instead of a path' in str(caught.value)


@pytest.mark.parametrize(('name', 'says'), [
    ('mae_b', 'its md5 is '), ('sam_l', 'its sha256 is '), ('sam_b', 'the server has a file of '),
    ('volo_d1_224', 'the server answered 404 Not Found'), ('vil2_tiny', 'what the server sent is a web page'),
    ('convnext_tiny_22k_224', 'what the server sent is a pointer of Git LFS')])
def test_wrong_files(name, says, server, weights, cache):
    for other in ('mae_b', 'sam_l', 'sam_b'):
        server.files[TABLE[other].file_name] = weights
    server.files[TABLE['vil2_tiny'].file_name] = b'<!DOCTYPE html><html></html>'
    server.files[TABLE['convnext_tiny_22k_224'].file_name] = b'version https://git-lfs.github.com/spec/v1\noid sha256:0'
    line = refusal(local_file, name)
    assert line.startswith(f'{name}: {server.url}/{TABLE[name].file_name} cannot be downloaded: {says}')
    assert list(cache.iterdir()) == []


def test_verify(server, cache, tmp_path):
    assert verify(TABLE[NAME]) == (False, f'not downloaded; "vitdet weights get {NAME}" does')
    local_file(NAME)
    assert verify(TABLE[NAME]) == (True, f'{cache / FILE}: sha256 is the same since its download (none is published)')
    with open(cache / FILE, 'r+b') as file:
        file.seek(700)
        file.write(b'damage')
    assert verify(TABLE[NAME])[0] is False and 'is damaged or another file' in verify(TABLE[NAME])[1]
    (cache / f'{FILE}.sha256').unlink()
    assert 'no checksum is known; its sha256 is' in verify(TABLE[NAME])[1]
    sam = cache / TABLE['sam_b'].file_name
    sam.write_bytes(b'half')
    assert verify(TABLE['sam_b']) == (False, f'{sam} has 4 bytes, expected 375042383; delete it and get it again')
    assert 'has 4 bytes, expected 375042383; delete it' in refusal(local_file, 'sam_b')
    (cache / TABLE['mae_b'].file_name).write_bytes(b'text')
    assert verify(TABLE['mae_b'])[0] is False


def test_a_file_that_another_process_finishes_meanwhile(server, cache, weights, monkeypatch):
    def find_cached(entry):
        cache.mkdir()
        (cache / FILE).write_bytes(weights)
    monkeypatch.setattr('vitdet_plugin.checkpoints.fetching.find_cached', find_cached)
    assert local_file(NAME) == cache / FILE and server.requests == []


def test_two_processes_download_once(server, cache):
    server.mode = 'slow'
    code = f'from vitdet_plugin.checkpoints.fetching import local_file; print(local_file("{NAME}"))'
    running = [subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    assert {process.communicate()[0].decode().strip() for process in running} == {str(cache / FILE)}
    assert len(server.requests) == 1


def test_a_file_in_the_cache_of_huggingface_is_used(tmp_path, monkeypatch):
    """timm and transformers store files there as snapshots of a revision."""
    entry = find_published('timm:vit_base_patch16_clip_224.openai')
    monkeypatch.delenv('HF_HUB_CACHE', raising=False)
    monkeypatch.setenv('HF_HOME', str(tmp_path))
    assert fetching._in_cache_of_huggingface(entry) is None
    folder = tmp_path / 'hub/models--timm--vit_base_patch16_clip_224.openai'
    (folder / 'refs').mkdir(parents=True)
    (folder / 'refs/main').write_text('abc\n')
    assert fetching._in_cache_of_huggingface(entry) is None
    (folder / 'snapshots/abc').mkdir(parents=True)
    (folder / 'snapshots/abc/model.safetensors').write_bytes(b'x')
    assert fetching._in_cache_of_huggingface(entry) == folder / 'snapshots/abc/model.safetensors'
    assert fetching._in_cache_of_huggingface(find_published('mae_b')) is None
