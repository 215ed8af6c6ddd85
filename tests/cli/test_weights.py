"""``vitdet weights``, and names of weights on other command lines."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.utils.file_server import FileServer, use_own_caches
from vitdet_plugin.checkpoints.published import TABLE
from vitdet_plugin.cli.main import main


@pytest.fixture(autouse=True)
def server(tmp_path, monkeypatch):
    use_own_caches(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    with FileServer({'vil2_tiny16_e800_in1k.th': b'some weights'}) as running:
        monkeypatch.setenv('VITDET_MIRROR', running.url)
        yield running


def test_list(capsys):
    assert main(['weights', 'list']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(TABLE)
    assert 'by agreement' in next(line for line in lines if line.startswith('dinov3_s16 '))
    assert 'unconfirmed URL' in next(line for line in lines if line.startswith('eva02_l_lvis_bsl '))
    assert main(['weights', 'list', 'dinov2', 'REG']) == 0
    assert '\n4 of ' in capsys.readouterr().out
    assert main(['weights', 'list', 'sam_b']) == 0
    assert f'sha256:{"ec2df62732614e57"}' in (out := capsys.readouterr().out) and 'mean 123.675' in out
    assert main(['weights', 'list', 'timm:vit_base_patch16_siglip_224']) == 0
    assert 'huggingface.co/timm/vit_base_patch16_siglip_224.v2_webli/resolve/main' in capsys.readouterr().out
    assert main(['weights', 'list', 'nothing']) == 2


def test_get_and_verify(server, tmp_path, capsys):
    assert main(['weights', 'verify']) == 0
    assert 'no published weights in' in capsys.readouterr().out
    assert main(['weights', 'get', 'vil2_tiny']) == 0
    path = tmp_path / 'cache' / 'vil2_tiny16_e800_in1k.th'
    assert capsys.readouterr().out == f'{path}\n' and path.read_bytes() == b'some weights'
    assert main(['weights', 'verify']) == 0
    assert capsys.readouterr().out.startswith('ok: vil2_tiny: ')
    path.write_bytes(b'same weights')
    assert main(['weights', 'verify', 'vil2_tiny', 'vil_tiny']) == 1
    assert [line.split(': ')[0] for line in capsys.readouterr().out.splitlines()] == ['error', 'error']


def test_get_a_url(server, tmp_path, capsys):
    server.files['own.pth'] = b'other weights'
    assert main(['weights', 'get', f'{server.url}/own.pth']) == 0
    path = Path(capsys.readouterr().out.rstrip())
    assert path.parent == tmp_path / 'cache' and path.read_bytes() == server.files['own.pth']
    assert main(['weights', 'get', f'{server.url}/missing.pth']) == 2
    assert '/missing.pth: cannot be downloaded' in capsys.readouterr().err
    assert main(['weights', 'get', f'{server.url}/other.pth', 'vil2_tinny']) == 2
    assert 'vil2_tinny' in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'says'), [
    (['get'], 'give a name'),
    (['get', 'vil2_tinny'], 'did you mean vil2_tiny'),
    (['get', 'timm:resnet5'], 'did you mean'),
    (['get', 'mae_b'], 'cannot be downloaded: the server answered 404'),
    (['verify', 'mae'], 'no published weights have this name'),
])
def test_mistakes(words, says, capsys):
    assert main(['weights', *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith('error: ') and says in line and line.count('\n') == 1


@pytest.mark.parametrize('words', [
    ['test', 'vitdet_demo', 'vil2_tinny'], ['predict', 'vitdet_demo', 'vil2_tinny', '.', '--out', 'out'],
    ['convert', 'vil2_tinny', 'out.pth'], ['train', 'vitdet_demo', '--weights', 'vil2_tinny'],
    ['train', 'vitdet_demo', '--load-from', 'vil2_tinny']])
def test_unknown_names_of_other_commands(words, capsys):
    assert main(words) == 2
    assert 'vil2_tinny does not exist' in (line := capsys.readouterr().err) and 'did you mean vil2_tiny' in line


def test_convert_by_name(capsys):
    assert main(['convert', 'mae_b', 'out.pth']) == 2
    assert 'mae_b: ' in (line := capsys.readouterr().err) and 'the server answered 404' in line


@pytest.mark.parametrize('read', [0, 10])
def test_a_reader_that_ends_early(read):
    """As in ``vitdet weights list | head``."""
    process = subprocess.Popen([sys.executable, '-m', 'vitdet_plugin', 'weights', 'list'], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])
    process.stdout.read(read)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), errors) == (141, b'')
