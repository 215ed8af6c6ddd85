import datetime
import functools
import io
import os
import pickle
import threading
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from vitdet_plugin.api import Inferencer
from vitdet_plugin.compat import safe_load
from vitdet_plugin.errors import UserError


class Touch:
    """Creates a file when unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


class GetAttribute:
    """Requests an attribute when unpickled, which could be a function that is not allowed."""

    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return getattr, self.args


def loaders():
    return [safe_load.load_torch_file, CheckpointLoader.load_checkpoint,
            lambda path: load_checkpoint(nn.Linear(1, 1), str(path), map_location='cpu')]


@pytest.mark.parametrize('load', loaders(), ids=['own', 'mmengine loader', 'load_checkpoint'])
@pytest.mark.parametrize('where', ['state_dict', 'optimizer', 'ema_state_dict', 'meta'])
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, load, where):
    path, target = tmp_path / 'evil.pth', tmp_path / 'executed'
    torch.save({'state_dict': {}, where: {'x': Touch(target)}}, path)
    with pytest.raises(UserError, match=r'evil\.pth: refused, because it refers to \S*mkdir') as caught:
        load(str(path))
    assert not target.exists()
    assert '\n' not in str(caught.value)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A web server for ``tmp_path/site``, and an empty download cache."""
    (tmp_path / 'site').mkdir()
    monkeypatch.setenv('VITDET_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / 'site'))
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / 'site', f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def test_downloads_are_loaded_safely(tmp_path, site):
    folder, url = site
    torch.save({'state_dict': {'x': Touch(tmp_path / 'executed')}}, folder / 'evil.pth')
    torch.save({'state_dict': {'x': torch.ones(2)}, 'history': HistoryBuffer([1.0], [1])}, folder / 'good.pth')
    with pytest.raises(UserError, match=r'evil-\w+\.pth: refused'):
        CheckpointLoader.load_checkpoint(f'{url}/evil.pth')
    assert not (tmp_path / 'executed').exists()
    assert CheckpointLoader.load_checkpoint(f'{url}/good.pth')['state_dict']['x'].tolist() == [1.0, 1.0]
    (folder / 'good.pth').unlink()
    assert CheckpointLoader.load_checkpoint(f'{url}/good.pth')['history'].mean() == 1.0  # from the cache
    with pytest.raises(UserError, match=r'absent\.pth: cannot be downloaded .*404'):
        CheckpointLoader.load_checkpoint(f'{url}/absent.pth')


@pytest.mark.parametrize('args', [(HistoryBuffer, '__init__'), (np.ndarray, 'tofile'), (dict, 'fromkeys')])
def test_getattr_is_limited_to_statistics(tmp_path, args):
    path = tmp_path / 'evil.pth'
    torch.save({'x': GetAttribute(*args)}, path)
    with pytest.raises(UserError, match='refused'):
        safe_load.load_torch_file(path)


def test_raw_and_legacy_pickles_are_refused(tmp_path):
    target = tmp_path / 'executed'
    for name, data in [('raw.pth', pickle.dumps(Touch(target))), ('legacy.pth', legacy(Touch(target)))]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            safe_load.load_torch_file(tmp_path / name)
    assert not target.exists()


def legacy(content):
    buffer = io.BytesIO()
    torch.save({'x': content}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_environment_variables_cannot_disable_safe_loading(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save({'x': Touch(tmp_path / 'executed')}, tmp_path / 'evil.pth')
    with pytest.raises(UserError):
        safe_load.load_torch_file(tmp_path / 'evil.pth')
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('damage', ['cut', 'empty', 'text'])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': {'w': torch.zeros(1000)}}, path)
    whole = path.read_bytes()
    path.write_bytes({'cut': whole[:len(whole) // 2], 'empty': b'', 'text': b'404 not found'}[damage])
    with pytest.raises(UserError, match=r'epoch_1\.pth: cannot be read') as caught:
        safe_load.load_torch_file(path)
    assert '\n' not in str(caught.value)


def test_a_zip_bomb_is_refused_before_unpacking(tmp_path):
    path = tmp_path / 'bomb.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data/0', bytes(32 << 20))
    with pytest.raises(UserError, match=r'bomb\.pth: refused, because it would unpack'):
        safe_load.load_torch_file(path)


def test_plain_data_is_loaded(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    content = dict(
        tensor=torch.arange(3.), half=torch.ones(2, dtype=torch.bfloat16), array=np.arange(4, dtype=np.int16),
        words=np.array(['a', 'bc']), flags=np.array([True]), scalar=np.float32(1.5), integer=np.int64(7),
        boolean=np.bool_(True), config=ConfigDict(a=ConfigDict(b=[1, (2,)])), history=history,
        when=datetime.datetime(2026, 1, 2), ordered=OrderedDict(a=1), args=Namespace(lr=0.1), path=Path('/a/b'),
        some={1, 2}, part=slice(1, 5))
    torch.save(content, tmp_path / 'plain.pth')
    loaded = safe_load.load_torch_file(tmp_path / 'plain.pth')
    assert loaded.keys() == content.keys()
    for key in content.keys() - {'tensor', 'half', 'array', 'words', 'flags', 'history'}:
        assert type(loaded[key]) is type(content[key]), key
        assert loaded[key] == content[key], key
    for key in ('array', 'words', 'flags'):
        np.testing.assert_array_equal(loaded[key], content[key])
        assert loaded[key].dtype == content[key].dtype
    assert torch.equal(loaded['tensor'], content['tensor'])
    assert loaded['history'].mean() == 1.5
    assert loaded['history'].statistics('min') == 1.0


class OwnState:
    count = 0


def test_classes_of_users_can_be_allowed(tmp_path):
    own = OwnState()
    own.count = 3
    torch.save(dict(mine=own, names=frozenset('ab'), steps=range(2)), tmp_path / 'own.pth')
    with pytest.raises(UserError, match=r'OwnState, which is not .* by torch.*add_safe_globals') as caught:
        safe_load.load_torch_file(tmp_path / 'own.pth')
    assert '\n' not in str(caught.value)
    with torch.serialization.safe_globals([OwnState]):
        found = safe_load.load_torch_file(tmp_path / 'own.pth')
    assert (found['mine'].count, found['names'], found['steps']) == (3, {'a', 'b'}, range(2))


def test_a_defaultdict_becomes_a_dict(tmp_path):
    torch.save(defaultdict(list, a=[1]), tmp_path / 'plain.pth')
    assert safe_load.load_torch_file(tmp_path / 'plain.pth') == {'a': [1]}


def test_a_config_inside_a_checkpoint_is_not_executed(tmp_path):
    code = f'import os\nos.mkdir({str(tmp_path / "executed")!r})\nmodel = dict()'
    torch.save(dict(state_dict={}, meta=dict(config=code, cfg=code, epoch=1), message_hub={}), tmp_path / 'evil.pth')
    assert safe_load.load_torch_file(tmp_path / 'evil.pth')['meta'] == dict(cfg=code, epoch=1)
    model = nn.Linear(1, 1)
    load_checkpoint(model, str(tmp_path / 'evil.pth'))
    with pytest.raises(UserError):
        Inferencer.load('vitdet_demo', tmp_path / 'evil.pth', 'cpu')
    assert not (tmp_path / 'executed').exists()


def test_trusted_allows_full_unpickling_within_its_block_only(tmp_path):
    for name in ('first', 'second'):
        torch.save({'x': Touch(tmp_path / f'{name}.ran')}, tmp_path / f'{name}.pth')
    with safe_load.trusted():
        safe_load.load_torch_file(tmp_path / 'first.pth')
    assert (tmp_path / 'first.ran').is_dir()
    with pytest.raises(UserError):
        safe_load.load_torch_file(tmp_path / 'second.pth')
    assert not (tmp_path / 'second.ran').exists()


@pytest.mark.parametrize('wrap', [dict, lambda state: dict(state_dict=state, meta=dict(epoch=1))])
def test_numpy_arrays_of_weights_become_tensors(tmp_path, wrap):
    layer = nn.Linear(3, 2)
    torch.save(wrap({name: value.numpy() for name, value in layer.state_dict().items()}), tmp_path / 'a.pth')
    other = nn.Linear(3, 2)
    load_checkpoint(other, str(tmp_path / 'a.pth'), strict=True)
    assert torch.equal(other.weight, layer.weight) and torch.equal(other.bias, layer.bias)


@pytest.mark.parametrize('head', [b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff\xe0'])
def test_an_image_is_named_as_one(tmp_path, head):
    (tmp_path / 'a.pth').write_bytes(head + bytes(99))
    with pytest.raises(UserError, match='a.pth: cannot be read as a checkpoint: it is an image'):
        safe_load.load_torch_file(tmp_path / 'a.pth')
