"""Malicious files are rejected without running code, wherever checkpoints are read."""

import resource

import pytest
import torch
from mmengine.runner import load_checkpoint

from tests.checkpoints import models
from tests.end_to_end.tiny_set import CONFIG, ROOT, load_tool, write_tiny_set
from tests.security.hostile import write_all
from tests.utils.file_server import FileServer, use_own_caches
from vitdet_plugin.checkpoints.converter import convert_checkpoint
from vitdet_plugin.checkpoints.files import load_file
from vitdet_plugin.checkpoints.official import OfficialCheckpoint
from vitdet_plugin.compat.safe_load import load_torch_file
from vitdet_plugin.engine.check_weights import check_file, check_keys
from vitdet_plugin.engine.resume import apply_resume
from vitdet_plugin.errors import UserError

NAMES = ('weights.pth', 'optimizer.pth', 'ema.pth', 'meta.pth', 'message_hub.pth', 'key.pth', 'old_format.pth',
         'bare.pth', 'arrays.pkl', 'object_array.pkl', 'renamed.safetensors', 'bomb.pth', 'overlap.pth',
         'bomb.safetensors', 'bomb.pkl')


@pytest.fixture(scope='module')
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp('hostile')
    return folder / 'marker', write_all(folder / 'files', folder / 'marker', models.backbone(1).state_dict())


@pytest.fixture(scope='module')
def tiny_set(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp('tiny') / 'set', images=2)


@pytest.fixture(autouse=True)
def limited_memory():
    """Limit the memory to 8 GB more than in use, so that decompression bombs fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open('/proc/self/statm') as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (8 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def assert_rejected(name, hostile, load):
    marker, files = hostile
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=name) as caught:
        load(str(files[name]))
    assert not marker.exists()
    assert '\n' not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 << 10  # KB


def test_all_files_are_listed(hostile):
    assert set(NAMES) | {'climbs.pth'} == set(hostile[1])


@pytest.mark.parametrize('name', NAMES)
def test_reading(name, hostile):
    assert_rejected(name, hostile, load_file)


@pytest.mark.parametrize('name', NAMES)
def test_converter_and_init_cfg(name, hostile, tmp_path):
    assert_rejected(name, hostile, lambda path: convert_checkpoint(path, tmp_path / 'out.pth'))
    assert_rejected(name, hostile, lambda path: OfficialCheckpoint(path)(models.backbone(1)))
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize('name', [name for name in NAMES if name.endswith('.pth')])
def test_resume_and_mmengine(name, hostile, tiny_config):
    assert_rejected(name, hostile, lambda path: apply_resume(tiny_config, path))
    assert_rejected(name, hostile, lambda path: load_checkpoint(models.backbone(1), path))


@pytest.mark.parametrize('name', ['weights.pth', 'ema.pth'])
def test_downloads(name, hostile, tiny_config, tmp_path, monkeypatch):
    use_own_caches(monkeypatch, tmp_path)
    with FileServer({name: hostile[1][name].read_bytes()}) as server:
        url = f'{server.url}/{name}'
        for load in (lambda: apply_resume(tiny_config, url), lambda: load_checkpoint(models.backbone(1), url)):
            with pytest.raises(UserError, match='refused'):
                load()
        model = torch.nn.Linear(1, 1)
        assert check_file('load_from', url) == []  # its pickle is not read here
        with pytest.raises(UserError, match='refused'):
            check_keys('load_from', url, model, '', must_fit=False)
    assert not hostile[0].exists()


@pytest.fixture
def tiny_config(tmp_path):
    from vitdet_plugin.config.loading import load_config
    cfg = load_config(str(CONFIG))
    cfg.work_dir = str(tmp_path)
    return cfg


@pytest.mark.parametrize('words', [
    ['train', CONFIG, '--resume', 'FILE'], ['train', CONFIG, '--load-from', 'FILE'], ['test', CONFIG, 'FILE'],
    ['train', CONFIG, '--load-from', 'FILE', '--skip-preflight'], ['test', CONFIG, 'FILE', '--skip-preflight']],
    ids=lambda words: ' '.join(str(word) for word in words[::2]))
@pytest.mark.parametrize('name', ['weights.pth', 'ema.pth'])
def test_commands(words, name, hostile, tiny_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TINY_SET', str(tiny_set))
    tool, *rest = [str(hostile[1][name]) if word == 'FILE' else str(word) for word in words]
    assert load_tool(tool).main([*rest, '--work-dir', str(tmp_path)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1 and name in errors[0] and 'refused' in errors[0]
    assert not hostile[0].exists()


def test_names_in_an_archive_are_not_paths(hostile, tmp_path, monkeypatch):
    """For records named ../../x, no file is written, whether torch accepts the archive or not."""
    folder = tmp_path / 'a' / 'b'
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    before = sorted(path for path in tmp_path.rglob('*'))
    try:
        load_torch_file(hostile[1]['climbs.pth'])
    except UserError as error:
        assert 'climbs.pth' in str(error)
    assert sorted(path for path in tmp_path.rglob('*')) == before


def test_only_the_converter_can_load_trusted_files(hostile, tmp_path):
    """Full unpickling is used by the converter's --trust only, and runs the code in the file."""
    users = [path.relative_to(ROOT).as_posix() for folder in ('vitdet_plugin', 'tools', 'benchmarks')
             for path in (ROOT / folder).rglob('*.py')
             if 'trusted()' in path.read_text() or 'weights_only=False' in path.read_text()]
    assert sorted(users) == ['vitdet_plugin/cli/convert.py', 'vitdet_plugin/compat/safe_load.py']
    from vitdet_plugin.compat.safe_load import trusted
    marker, files = hostile
    try:
        with trusted():
            content = load_torch_file(files['weights.pth'])
        assert marker.is_dir() and isinstance(content['state_dict'], dict)
    finally:
        marker.rmdir()


def test_checkpoints_of_this_project_can_be_loaded(tmp_path):
    """Checkpoints saved by training can be loaded with the list of allowed types."""
    from tests.faults.rig import EPOCHS, train_here, write_config
    data = write_tiny_set(tmp_path / 'set', images=2)
    train_here(write_config(tmp_path / 'c.py', data, EPOCHS.format(1)), tmp_path / 'w')
    content = load_torch_file(tmp_path / 'w' / 'epoch_1.pth')
    assert {'state_dict', 'optimizer', 'ema_state_dict', 'message_hub', 'position'} <= content.keys()
    convert_checkpoint(tmp_path / 'w' / 'epoch_1.pth', tmp_path / 'out.safetensors')
    state = load_file(tmp_path / 'out.safetensors')
    assert state.keys() == content['state_dict'].keys()
    assert all(torch.equal(value, content['state_dict'][name]) for name, value in state.items())
