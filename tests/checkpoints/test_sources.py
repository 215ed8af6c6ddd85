"""Where checkpoints come from: paths, URLs, and files that are not checkpoints."""

import functools
import hashlib
import http.server
import json
import re
import shutil
import threading
import zipfile

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file

from tests.checkpoints import models
from tests.utils.refusals import refusal
from vitdet_plugin.checkpoints.fetching import local_file
from vitdet_plugin.checkpoints.files import load_file
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.compat.remote_files import fetch_checkpoint, is_remote
from vitdet_plugin.errors import UserError


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / 'a folder'
    folder.mkdir()
    torch.save(dict(state_dict=models.backbone(1).state_dict()), folder / 'w.pth')
    return folder / 'w.pth'


@pytest.mark.parametrize('name', ['~/w.pth', '$WEIGHTS/w.pth', '${WEIGHTS}/w.pth', 'file://HERE/w.pth',
                                  'file://localhostHERE/w.pth', 'w.pth', './w.pth'])
def test_local_names(path, name, monkeypatch):
    monkeypatch.setenv('HOME', str(path.parent))
    monkeypatch.setenv('WEIGHTS', str(path.parent))
    monkeypatch.chdir(path.parent)
    target = models.backbone(2, init_cfg=dict(type='Pretrained', checkpoint=name.replace('HERE', str(path.parent)),
                                              map_location='cuda:7'))
    target.init_weights()
    assert torch.equal(target.pos_embed, models.backbone(1).pos_embed)


def test_names_that_are_wrong(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.delenv('NOWHERE', raising=False)
    assert 'environment variable NOWHERE is not set' in refusal(load_file, '$NOWHERE/w.pth')
    assert f'v.pth does not exist in the current directory {path.parent}' in refusal(load_file, 'v.pth')
    for name in ('hf://a/b', 'gs://a/b.pth', 'timm/vit'):
        assert ('are not read; download the file' in refusal(load_file, name)) == (':' in name)
    assert 'timm:vit_bas: timm' in (line := refusal(load_file, 'timm:vit_bas')) and 'did you mean' in line
    assert 'mmengine has no model of this name; close: resnet50' in refusal(load_file, 'torchvision://resnet500')
    assert 'cannot be read by mmengine' in refusal(load_file, 's3://bucket/w.pth')


@pytest.fixture
def server(path, tmp_path, monkeypatch):
    monkeypatch.setenv('VITDET_CACHE', str(tmp_path / 'own'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('http_proxy', raising=False)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(path.parent))
    handler.func.log_message = lambda *args: None
    running = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{running.server_port}'
    running.shutdown()
    running.server_close()


def test_urls(server, path, tmp_path):
    save_file(models.backbone(3).state_dict(), path.with_name('s.safetensors'))
    for name, seed in (('w.pth?download=true', 1), ('s.safetensors', 3)):
        target = models.backbone(2)
        load_official(target, f'{server}/{name}')
        assert torch.equal(target.pos_embed, models.backbone(seed).pos_embed)
    load_file(f'{server}/w.pth')
    path.unlink()
    load_official(models.backbone(2), f'{server}/w.pth')  # from the cache
    assert 'absent.pth: cannot be downloaded' in refusal(load_file, f'{server}/absent.pth')
    assert sorted(re.sub('-[0-9a-f]{8}', '', file.name) for file in (tmp_path / 'own').iterdir()) == [
        's.safetensors', 'w.pth', 'w.pth']  # with the query and without
    assert is_remote(f'{server}/w.pth') and not is_remote('file:///w.pth')


def test_files_of_the_same_name_on_other_servers(server, path, tmp_path):
    """A file of the cache is that of its URL, for every way in which a checkpoint is named."""
    for folder, seed in (('a', 1), ('b', 3)):
        path.with_name(folder).mkdir()
        torch.save(models.backbone(seed).state_dict(), path.with_name(folder) / 'model.pth')
    first, second = (local_file(f'{server}/{folder}/model.pth') for folder in 'ab')
    assert first != second and first.parent == second.parent == tmp_path / 'own'
    assert re.fullmatch(r'model-[0-9a-f]{8}\.pth', second.name)
    shutil.rmtree(path.with_name('b'))
    for load in (load_file, CheckpointLoader.load_checkpoint):
        assert torch.equal(load(f'{server}/b/model.pth')['pos_embed'], models.backbone(3).pos_embed)


def test_files_of_torch_are_used_if_their_names_have_their_checksum(server, path, tmp_path):
    torch.save(dict(a=torch.ones(1)), path)
    digits, hub = hashlib.sha256(path.read_bytes()).hexdigest()[:8], tmp_path / 'cache/hub/checkpoints'
    hub.mkdir(parents=True)
    for name in (f'x-{digits}.pth', 'x-01234567.pth', 'x.pth'):
        shutil.copy(path, hub / name)
    assert local_file(f'{server}/x-{digits}.pth') == hub / f'x-{digits}.pth'
    for name in ('x-01234567.pth', 'x.pth'):
        assert 'cannot be downloaded' in refusal(local_file, f'{server}/{name}')


@pytest.mark.parametrize(('url', 'says'), [
    ('http://[::1/x.pth', 'is not a valid URL'), ('http://', 'names no file'), ('http:///x.pth', 'names no file'),
    ('{server}/a/', 'names no file'), ('{server}/..', 'names no file'),
    ('http://127.0.0.1:a/x.pth', 'not a valid URL')])
def test_urls_that_cannot_be_right(server, tmp_path, url, says):
    assert says in refusal(local_file, url.format(server=server))
    assert not list((tmp_path / 'own').glob('*'))


def test_long_names_of_urls_are_cut(server, path):
    long = path.with_name('n' * 240 + '.pth')
    path.rename(long)
    found = local_file(f'{server}/{long.name}')
    assert found.name.startswith('nnn') and found.suffix == '.pth' and len(found.name) < 200


def test_a_name_of_a_model_zoo_is_found_in_the_cache(path, tmp_path, monkeypatch):
    from mmengine.runner.checkpoint import get_torchvision_models
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    cached = tmp_path / 'cache/hub/checkpoints' / get_torchvision_models()['resnet50'].split('/')[-1]
    cached.parent.mkdir(parents=True)
    path.rename(cached)
    assert fetch_checkpoint('torchvision://resnet50') == cached


def write_zip(path, **members):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def truncate(path):
    torch.save(dict(state_dict={'a': torch.zeros(1000)}), path)
    path.write_bytes(path.read_bytes()[:2000])


WRONG = {
    'empty': (lambda path: path.write_bytes(b''), 'is empty (0 bytes)'),
    'folder': (lambda path: path.mkdir(), 'is a folder'),
    'web page': (lambda path: path.write_text('\n<!DOCTYPE html><html>404'), 'is a web page'),
    'pointer': (lambda path: path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n'),
                'is a pointer of Git LFS'),
    'truncated': (truncate, 'is truncated: the end of its archive is missing'),
    'zip': (lambda path: write_zip(path, **{'a.txt': 'x'}), 'is a zip archive of other files (a.txt)'),
    'jax': (lambda path: np.savez(open(path, 'wb'), **{'Transformer/kernel': np.ones(2)}), 'is an archive of NumPy'),
    'script': (lambda path: torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(path)),
               'is a TorchScript archive'),
    'index': (lambda path: path.write_text(json.dumps(dict(weight_map=dict(a='m-1.safetensors', b='m-2.safetensors')))),
              'is the index of weights in 2 files (m-1.safetensors …)'),
    'gzip': (lambda path: path.write_bytes(b'\x1f\x8b\x08' + bytes(50)), 'is compressed with gzip'),
    'optimizer': (lambda path: torch.save(dict(optimizer=torch.optim.SGD([torch.zeros(1)], 0.1).state_dict()), path),
                  'only the state of a training run (optimizer)'),
    'nothing': (lambda path: torch.save(dict(epoch=3), path), 'holds no tensors under state_dict, model or at its top'),
}


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('kind', WRONG)
def test_files_that_are_not_checkpoints(tmp_path, kind, suffix):
    write, says = WRONG[kind]
    path = tmp_path / f'w{suffix}'
    write(path)
    with pytest.raises(UserError) as caught:
        load_official(models.backbone(1), path)
    line = str(caught.value)
    assert str(path) in line and says in line and '\n' not in line


def test_resume_and_pre_flight_say_the_same(tmp_path):
    from vitdet_plugin.checkpoints.work_dirs import find_damage
    from vitdet_plugin.compat.safe_load import load_torch_file
    from vitdet_plugin.engine.check_weights import check_file
    path = tmp_path / 'epoch_1.pth'
    path.write_text('<html>')
    assert 'it is a web page' in find_damage(path)
    assert 'is a web page' in check_file('load_from', f'file://{path}')[0].text
    with pytest.raises(UserError, match='it is a web page'):
        load_torch_file(path)
