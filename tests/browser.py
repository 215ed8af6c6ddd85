"""Chromium without a window for tests of pages, driven through its DevTools protocol on a pair of pipes."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars',
         '--remote-debugging-pipe')
SECONDS = 120  # for an answer of the browser, or for a condition on a page


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome, if one is installed."""
    return next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


class Page:
    """A page in a browser of its own, which is closed at the end of a ``with`` statement.

    Args:
        profile: An empty folder for the browser's files.

    Attributes:
        requests: URLs that the page asked for.
        messages: Errors and messages on the console.
    """

    def __init__(self, profile: Path) -> None:
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._count, self._loaded, self._buffer, self._answers = 0, 0, b'', {}
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # the browser reads from descriptor 3 and writes to 4
        script = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ['/bin/bash', '-c', script, find_chromium(), *FLAGS, f'--user-data-dir={profile}', 'about:blank'],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self._session = None
        target = next(each['targetId'] for each in self._call('Target.getTargets')['targetInfos']
                      if each['type'] == 'page')
        self._session = self._call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Network', 'DOM', 'Log'):
            self._call(f'{domain}.enable')

    def __enter__(self) -> 'Page':
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Set the size of the window in CSS pixels."""
        self._call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=scale,
                   mobile=width < 600)

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is loaded."""
        before = self._loaded
        self._call('Page.navigate', url=url)
        while self._loaded == before:
            self._receive()

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which may be a promise.

        Raises:
            RuntimeError: It raised an error.
        """
        found = self._call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in found:
            raise RuntimeError(f'{expression}: {found["exceptionDetails"]}')
        return found['result'].get('value')

    def wait(self, condition: str) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        end = time.monotonic() + SECONDS
        while not (value := self.run(condition)):
            if time.monotonic() > end:
                raise TimeoutError(f'{condition}; console: {self.messages}')
            time.sleep(0.05)
        return value

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files for an input, as in the dialog that a click opens."""
        root = self._call('DOM.getDocument')['root']['nodeId']
        node = self._call('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
        self._call('DOM.setFileInputFiles', files=[str(path) for path in paths], nodeId=node)

    def drop_files(self, x: int, y: int, *paths: Path) -> None:
        """Drag files from outside of the browser to a position."""
        data = dict(items=[], files=[str(path) for path in paths], dragOperationsMask=1)
        for kind in ('dragEnter', 'dragOver', 'drop'):
            self._call('Input.dispatchDragEvent', type=kind, x=x, y=y, data=data)

    def download_to(self, folder: Path) -> None:
        """Write downloads of the page into a folder."""
        self._call('Page.setDownloadBehavior', behavior='allow', downloadPath=str(folder))

    def wait_for_file(self, path: Path) -> bytes:
        """Wait until a download is complete, and return its content."""
        end = time.monotonic() + SECONDS
        while not path.is_file() or not path.stat().st_size:
            if time.monotonic() > end:
                raise TimeoutError(f'{path} was not written; console: {self.messages}')
            time.sleep(0.05)
        return path.read_bytes()

    def screenshot(self, path: Path) -> None:
        """Write what is visible as a PNG file."""
        path.write_bytes(base64.b64decode(self._call('Page.captureScreenshot')['data']))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        number = self._count
        message = dict(id=number, method=method, params=params)
        if self._session is not None:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while number not in self._answers:
            self._receive()
        answer = self._answers.pop(number)
        if 'error' in answer:
            raise RuntimeError(f'{method}: {answer["error"]}')
        return answer['result']

    def _receive(self) -> None:
        while b'\0' not in self._buffer:
            if not select.select([self._read], [], [], SECONDS)[0]:
                raise TimeoutError('Chromium does not answer')
            content = os.read(self._read, 1 << 20)
            if not content:
                raise RuntimeError('Chromium ended')
            self._buffer += content
        line, _, self._buffer = self._buffer.partition(b'\0')
        message = json.loads(line)
        if 'id' in message:
            self._answers[message['id']] = message
        elif message['method'] == 'Network.requestWillBeSent':
            self.requests.append(message['params']['request']['url'])
        elif message['method'] == 'Page.loadEventFired':
            self._loaded += 1
        elif message['method'] == 'Runtime.exceptionThrown':
            self.messages.append(json.dumps(message['params']['exceptionDetails']))
        elif message['method'] == 'Log.entryAdded':
            self.messages.append(message['params']['entry']['text'])
