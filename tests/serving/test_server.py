"""A real server: simultaneous requests, ports, hosts, the command and its end."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.end_to_end.tiny_set import ROOT, environment
from tests.serving.conftest import image_bytes, running_server
from vitdet_plugin.cli import serve

pytest.importorskip('uvicorn', reason='the extra "web" is not installed')
pytest.importorskip('python_multipart', reason='the extra "web" is not installed')


def post(url, content):
    request = urllib.request.Request(f'{url}/predict?threshold=0.05', content, {'Content-Type': 'image/png'})
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_simultaneous_requests_get_their_own_results(detector):
    contents = [image_bytes(seed=0), b'not an image', image_bytes('JPEG', (60, 80), seed=1)] * 2
    expected = [detector.predict(each, 0.05)[0].scores.tolist() if len(each) > 20 else None for each in contents]
    with running_server(detector) as url, ThreadPoolExecutor(len(contents)) as pool:
        answers = list(pool.map(lambda content: post(url, content), contents))
    for answer, scores in zip(answers, expected):
        assert answer[0] == 415 if scores is None else answer['scores'] == pytest.approx(scores, abs=1e-5)


def test_uploads_that_are_too_large_are_refused_with_and_without_a_length(classifier):
    content = bytes(300000)
    with running_server(classifier, max_bytes=200000) as url:
        assert post(url, content)[0] == 413
        assert post(url, iter([content[:100000]] * 3))[0] == 413  # chunked
        connection = http.client.HTTPConnection(url.removeprefix('http://'))
        connection.putrequest('POST', '/predict')  # nothing but the length is sent
        connection.putheader('Content-Length', str(10**12))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()
        assert post(url, image_bytes())['names']


def test_the_command_serves_until_ctrl_c(run_folder):
    command = [sys.executable, '-m', 'vitdet_plugin', 'serve', str(run_folder), '--port', '0', '--device', 'cpu']
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
                          ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith(f'{run_folder.name} on http://127.0.0.1:') and line.endswith(' (Ctrl-C stops it)\n')
            url = line.split()[2]
            with urllib.request.urlopen(f'{url}/info') as answer:
                assert json.load(answer)['task'] == 'segment'
            assert post(url, image_bytes())['boxes']
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        finally:
            process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == 'stopped by Ctrl-C' and 'Traceback' not in errors


@pytest.mark.parametrize(('words', 'message'), [
    (['MODEL', '--port', '70000'], '--port 70000: give a number from 0 (any free port) to 65535'),
    (['MODEL', '--host', 'no such host'], '--host no such host: not a name or address of this machine; give 127.0.0.1, '
     'or 0.0.0.0 for all interfaces'),
    (['MODEL', '--host', '192.0.2.1'], '--host 192.0.2.1: cannot listen (Cannot assign requested address); give an '
     'address of this machine'),
    (['MODEL', '--max-mb', '-1'], '--max-mb -1: give a number above 0'),
    (['MODEL', '--score-thr', '30'], '--score-thr 30: give a number from 0 to 1'),
    (['MODEL', '--tile', '3'], 'tile=3: give the side of a tile in pixels, at least 16'),
    (['no/such/folder'], 'no/such/folder does not exist; give a work directory of "vitdet train", an exported file, or '
     'a config and a checkpoint'),
    (['vitdet_demo'], 'vitdet_demo is a config; give a checkpoint after it'),
    (['EMPTY'], 'EMPTY holds no checkpoint (best_*.pth, iter_*.pth, epoch_*.pth); train first (vitdet train EMPTY), or '
     'give another folder'),
])
def test_a_mistake_is_one_line(run_folder, tmp_path, capsys, words, message):
    paths = dict(MODEL=str(run_folder), EMPTY=str(tmp_path))
    assert serve.main([paths.get(word, word) for word in words] + ['--port', '0'] * ('--port' not in words)) == 2
    assert capsys.readouterr().err == f'error: {message.replace("EMPTY", str(tmp_path))}\n'


def test_a_busy_port_is_one_line(run_folder, capsys):
    with socket.create_server(('127.0.0.1', 0)) as busy:
        port = busy.getsockname()[1]
        assert serve.main([str(run_folder), '--port', str(port)]) == 2
    assert capsys.readouterr().err == (f'error: --port {port} is in use by another program; give another one, or 0 for '
                                       'any free port\n')
