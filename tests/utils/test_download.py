"""Downloads from a server on loopback that is slow, breaks off, redirects, or sends something else."""

import hashlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.utils.file_server import FileServer, ignore_proxies
from vitdet_plugin.utils.download import DownloadError, download_file, matches_digest
from vitdet_plugin.utils.file_lock import locked

ROOT = Path(__file__).parents[2]
BODY = bytes(range(256)) * 40
SHA256 = f'sha256:{hashlib.sha256(BODY).hexdigest()}'


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    ignore_proxies(monkeypatch)


@pytest.fixture
def server():
    with FileServer({'w.pth': BODY}) as running:
        yield running


def get(server, folder, **options):
    return download_file(f'{server.url}/w.pth', folder / 'w.pth', **{'wait': 0., 'digest': SHA256, **options})


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize('digest', [SHA256, SHA256[:13], f'md5:{hashlib.md5(BODY).hexdigest()[:6]}', None])
@pytest.mark.parametrize('mode', ['ranges', 'plain', 'slow', 'redirects', 'busy once', 'breaks'])
def test_a_file_arrives(server, tmp_path, mode, digest, capsys):
    server.mode = mode
    path = get(server, tmp_path / 'a' / 'cache', digest=digest)
    assert path.read_bytes() == BODY and names(path.parent) == ['w.pth']
    shown = capsys.readouterr().err
    assert 'downloading w.pth (10.2 kB)' in shown and 'downloaded w.pth: 10.2 kB' in shown
    count = len(server.requests)
    get(server, tmp_path / 'a' / 'cache')
    assert len(server.requests) == count  # it is there


def test_broken_connections_are_continued(server, tmp_path):
    server.mode = 'breaks'
    get(server, tmp_path)
    assert [asked for _, asked in server.requests[:3]] == [None, 'bytes=5120-', 'bytes=7680-']


@pytest.mark.parametrize('mode', ['breaks without ranges', 'stalls'])
def test_a_connection_that_breaks_again_and_again_fails(server, tmp_path, mode):
    server.mode = mode
    with pytest.raises(DownloadError) as caught:
        get(server, tmp_path, retries=2, timeout=0.3 if mode == 'stalls' else 30)
    assert '\n' not in str(caught.value) and 'in a row' in str(caught.value)
    assert 'w.pth' not in names(tmp_path) and 'w.pth.lock' not in names(tmp_path)
    server.mode = 'ranges'
    assert get(server, tmp_path).read_bytes() == BODY
    assert names(tmp_path) == ['w.pth']


def test_a_later_call_continues(server, tmp_path):
    server.mode = 'breaks'
    with pytest.raises(DownloadError, match='5.1 kB are kept and the next attempt continues there'):
        get(server, tmp_path, retries=0)
    server.mode = 'ranges'
    get(server, tmp_path)
    assert server.requests[-1][1] == 'bytes=5120-'


@pytest.mark.parametrize('digest', [SHA256, None])
def test_a_part_of_an_older_file_is_not_continued(server, tmp_path, digest):
    server.mode, server.files['w.pth'] = 'breaks', b'old' * 5000
    with pytest.raises(DownloadError):
        get(server, tmp_path, retries=0, digest=digest)
    server.mode, server.files['w.pth'], server.version = 'ranges', BODY, '"2"'
    assert get(server, tmp_path, digest=digest).read_bytes() == BODY
    (tmp_path / 'w.pth').rename(tmp_path / 'v.pth')
    (tmp_path / 'w.pth.part').write_bytes(b'of something else')
    assert get(server, tmp_path, digest=digest).read_bytes() == BODY


def test_a_complete_part_needs_no_byte(server, tmp_path):
    (tmp_path / 'w.pth.part').write_bytes(BODY)
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.requests == [('/w.pth', f'bytes={len(BODY)}-')]


@pytest.mark.parametrize(('mode', 'options', 'says'), [
    (404, {}, 'the server answered 404 Not Found'),
    (403, {}, 'the server answered 403 Forbidden'),
    (204, {}, 'the server answered 204 No Content, without the file'),
    ('size abc', {}, "the server states a size that is not a number, 'abc'"),
    ('part', {}, 'the server sent another part of the file than it was asked for'),
    (503, dict(retries=1), 'the server answered 503 Service Unavailable, 2 times in a row'),
    ('page', {}, 'the server sent a web page instead of the file'),
    ('ranges', dict(digest='sha256:0123456789'), f'its sha256 is {SHA256[7:17]}, expected 0123456789'),
    ('ranges', dict(size=7), 'the server has a file of 10240 bytes, expected 7'),
    ('ranges', dict(check=lambda path: f'is {path.stat().st_size} bytes of nothing'),
     'what the server sent is 10240 bytes of nothing'),
])
def test_a_wrong_answer_leaves_nothing(server, tmp_path, mode, options, says):
    server.mode = mode
    with pytest.raises(DownloadError) as caught:
        get(server, tmp_path, **options)
    assert str(caught.value) == says
    assert names(tmp_path) == []


def test_a_server_whose_ranges_are_wrong_fails_at_once(server, tmp_path):
    server.mode = 'wrong range'
    with pytest.raises(DownloadError, match='the server sent another part of the file than it was asked for$'):
        get(server, tmp_path)
    assert [asked for _, asked in server.requests] == [None, 'bytes=5120-'] * 2
    server.mode = 'ranges'
    assert get(server, tmp_path).read_bytes() == BODY and names(tmp_path) == ['w.pth']


@pytest.mark.parametrize(('proxy', 'scheme', 'says'), [
    ('nonsense://', 'http', 'unknown url type: nonsense'),
    (None, 'https', 'no secure connection: WRONG_VERSION_NUMBER')])
def test_faults_that_cannot_pass_are_not_tried_again(server, tmp_path, monkeypatch, proxy, scheme, says):
    for name in ('http_proxy', 'https_proxy'):
        monkeypatch.setenv(name, proxy) if proxy else monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv('no_proxy', raising=False)
    monkeypatch.setattr('urllib.request._opener', None)  # it has the proxies of the first request
    with pytest.raises(DownloadError) as caught:
        download_file(f'{scheme}{server.url.removeprefix("http")}/w.pth', tmp_path / 'w.pth', wait=100.)
    assert str(caught.value) == says and server.requests == []


def test_without_a_server(server, tmp_path, monkeypatch):
    server.__exit__()
    with pytest.raises(DownloadError, match=r'127.0.0.1:\d+ cannot be reached: Connection refused'):
        get(server, tmp_path)
    with pytest.raises(DownloadError, match='not a valid URL'):
        download_file('w.pth', tmp_path / 'w.pth')
    monkeypatch.setattr('shutil.disk_usage', lambda path: SimpleNamespace(free=7))
    with FileServer({'w.pth': BODY}) as other, pytest.raises(DownloadError, match='7 bytes of free space, but 10.2 kB'):
        get(other, tmp_path)
    assert names(tmp_path) == []


def test_processes_at_once_download_once(server, tmp_path):
    server.mode = 'slow'
    code = ('import sys; from pathlib import Path; from vitdet_plugin.utils.download import download_file; '
            'print(download_file(sys.argv[1], Path(sys.argv[2])).stat().st_size)')
    running = [subprocess.Popen([sys.executable, '-c', code, f'{server.url}/w.pth', str(tmp_path / 'w.pth')],
                                cwd=ROOT, stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in running] == [b'10240'] * 3
    assert len(server.requests) == 1 and names(tmp_path) == ['w.pth']


def test_a_lock_that_was_left_behind_does_not_block(tmp_path):
    (tmp_path / 'w.lock').write_text('')
    with locked(tmp_path / 'w.lock'):
        assert names(tmp_path) == ['w.lock']
    assert names(tmp_path) == []


def test_digests(tmp_path):
    (tmp_path / 'w').write_bytes(BODY)
    assert matches_digest(tmp_path / 'w', SHA256.upper().replace('SHA256', 'sha256'))
    assert not matches_digest(tmp_path / 'w', 'md5:ffffff')
