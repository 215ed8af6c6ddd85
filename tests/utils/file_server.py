"""An HTTP server on loopback that sends files in the ways in which downloads go wrong."""

import contextlib
import http.server
import threading
import time
from email.utils import formatdate


def ignore_proxies(monkeypatch):
    """Let requests go to the loopback server, whatever proxies the environment names."""
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)


def use_own_caches(monkeypatch, folder):
    """Download into empty folders below ``folder``, without proxies."""
    ignore_proxies(monkeypatch)
    monkeypatch.setenv('VITDET_CACHE', str(folder / 'cache'))
    monkeypatch.setenv('TORCH_HOME', str(folder / 'torch'))


class FileServer:
    """Serves ``files`` (name -> bytes) until it is closed; a context manager.

    Attributes:
        url: Address, without a slash at its end.
        mode: How to answer: 'ranges', 'plain' (without Range), 'breaks' (after half of what is asked for), 'breaks
            without ranges', 'stalls' (half of the file, then nothing), 'slow', 'redirects', 'page' (HTML), 'busy once'
            (503), 'wrong range', 'part' (status 206 for the whole file), 'size abc', or a status code.
        requests: (path, Range header) of every request.
    """

    def __init__(self, files, mode='ranges'):
        self.files, self.mode, self.requests, self.version = dict(files), mode, [], '"1"'
        self.closing = threading.Event()
        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), type('Handler', (_Handler,), {'owner': self}))
        self.url = f'http://127.0.0.1:{self._server.server_port}'
        threading.Thread(target=self._server.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: FileServer

    def log_message(self, *args):
        pass

    def do_GET(self):
        owner, asked = self.owner, self.headers.get('Range')
        owner.requests.append((self.path, asked))
        if owner.mode == 'redirects' and not self.path.startswith('/moved/'):
            return self._answer(302, b'', Location=f'{owner.url}/moved{self.path}')
        if owner.mode == 'busy once' and len(owner.requests) == 1:
            return self._answer(503, b'')
        if owner.mode == 'page':
            return self._answer(200, b'<!DOCTYPE html><html>log in</html>', **{'Content-Type': 'text/html'})
        body = owner.files.get(self.path.split('/')[-1])
        if body is None or isinstance(owner.mode, int):
            return self._answer(owner.mode if isinstance(owner.mode, int) else 404, b'')
        start = int(asked[6:-1]) if asked and owner.mode not in ('plain', 'breaks without ranges') else 0
        if self.headers.get('If-Range', owner.version) != owner.version:
            start = 0
        if start >= len(body):
            return self._answer(416, b'', **{'Content-Range': f'bytes */{len(body)}'})
        more = {'ETag': owner.version, 'Last-Modified': formatdate(0, usegmt=True)}
        if start:
            shown = start + 1 if owner.mode == 'wrong range' else start
            more['Content-Range'] = f'bytes {shown}-{len(body) - 1}/{len(body)}'
        if owner.mode == 'size abc':
            more['Content-Length'] = 'abc'
        return self._answer(206 if start or owner.mode == 'part' else 200, body[start:], **more)

    def _answer(self, status, body, **headers):
        mode = self.owner.mode
        self.send_response(status)
        for name, value in {'Content-Length': len(body), 'Content-Type': 'application/octet-stream', **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if mode in ('breaks', 'breaks without ranges', 'wrong range') and status < 300:
            body = body[:(len(body) + 1) // 2]
        if mode == 'stalls':
            body = body[:len(body) // 2] if status == 200 else b''
        with contextlib.suppress(ConnectionError):  # the client has left
            self._send(body, mode)

    def _send(self, body, mode):
        for first in range(0, len(body), size := max(len(body) // 5, 1)):
            self.wfile.write(body[first:first + size])
            if mode == 'slow':
                time.sleep(0.02)
        if mode == 'stalls':
            self.owner.closing.wait()
        self.close_connection = True
